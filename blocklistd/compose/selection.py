"""Entries that a zone selects by category: how many a delta brings into the selection or takes out, and how many it
has. Pure.

A zone with `categories` has rules for the hosts, domains and addresses of these categories only (rpz/rules.py). An
entry joins the selection if it is added, or if its category changes into one of them; it leaves if it is removed, or if
its category changes into another one. So a hotline that renames a category empties such a zone without removing an
entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from blocklistd.lines.delta import ENTRIES
from blocklistd.lines.keys import Buffer, type_and_value
from blocklistd.lines.snapshot import position

_TYPES: Final = (b'{"type":"domain"', b'{"type":"host"', b'{"type":"ip"')
_REMOVED: Final = tuple(ENTRIES.remove + head for head in _TYPES)
_ADDED: Final = tuple(ENTRIES.add + head for head in _TYPES)


@dataclass(frozen=True, slots=True)
class Selection:
    """The zone that selects hosts, domains and addresses by their category, and its categories."""

    zone: str
    categories: tuple[str, ...]


@dataclass(slots=True)
class Movement:
    """Hosts, domains and addresses that joined a selection, and that left it."""

    joined: int = 0
    left: int = 0


def _text(category: str) -> bytes:
    """How a line of a list has this category. No other text in a line can be equal: quotes in values are escaped."""
    return b'"category":' + orjson.dumps(category)


def movements(delta: Iterable[bytes], selections: Sequence[Selection]) -> list[Movement]:
    """What the lines of a list's delta (without newlines) do to each selection.

    A removal stands before the addition of the same key (lines/delta.py), so an entry that only changes is recognised.
    """
    texts = [(_text(one), 1 << at) for at, found in enumerate(selections) for one in found.categories]
    moved = [Movement() for _ in selections]
    before, key = 0, b""  # the selections that the last removed entry was in, as bits, and its line

    def count(joined: int, left: int) -> None:
        for at, found in enumerate(moved):
            found.joined += joined >> at & 1
            found.left += left >> at & 1

    for line in delta:
        is_removal = line.startswith(_REMOVED)
        if not is_removal and not line.startswith(_ADDED):
            continue
        bits = 0
        for text, bit in texts:
            if text in line:
                bits |= bit
        if is_removal:
            if before:
                count(0, before)
            before, key = bits, line
        elif before and type_and_value(ENTRIES.item(line)) == type_and_value(ENTRIES.item(key)):
            count(bits & ~before, before & ~bits)
            before = 0
        else:
            if before or bits:
                count(bits, before)
            before = 0
    if before:
        count(0, before)
    return moved


def selected(snapshot: Buffer, selection: Selection) -> int:
    """How many hosts, domains and addresses of a snapshot a zone selects."""
    pattern = re.compile(b"|".join(re.escape(_text(one)) for one in set(selection.categories)))
    found = 0
    for head in _TYPES:
        start, end = position(snapshot, head), position(snapshot, head + b"~")
        found += sum(1 for _ in pattern.finditer(snapshot, start, end))
    return found
