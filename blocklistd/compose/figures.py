"""Counts of a list's changes for statistics, by source and category. Pure.

A *group* is the entries of the list that one source asserts, or, under the name ALL, all entries. A key is added to a
group, removed from it, or in it before and after. If several sources assert an entry, it is in the group of each, so
the figures of the sources do not add up to those of ALL.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from blocklistd.change import ChangeKind
from blocklistd.kinds.mentions import could_name_an_entry
from blocklistd.limits import MAX_CATEGORIES, MAX_CATEGORY
from blocklistd.lines.keys import Buffer, key_of
from blocklistd.lines.snapshot import position

ALL: Final = ""
"""The name of the group of all sources, and of the sum of all categories."""
NONE: Final = "(none)"
"""The category of entries that have none."""
OTHER: Final = "(other)"
"""The category of entries of categories that could name an entry, or that come after the first MAX_CATEGORIES of a
list."""
PART: Final = 1 << 20  # bytes of the largest file that are counted at once

_LINE: Final = re.compile(
    rb'(\{"type":"[a-z0-9]+","value":"[^"\\]*(?:\\.[^"\\]*)*")'
    rb'(?:,"category":("[^"\\]*(?:\\.[^"\\]*)*"))?'  # the first attribute: attributes are sorted by name
    rb"[^\n]*\n"
)
_LINE_WITHOUT_ESCAPES: Final = re.compile(  # takes half the time
    rb'(\{"type":"[a-z0-9]+","value":"[^"]*")(?:,"category":("[^"]*"))?[^\n]*\n'
)


class Categories(dict[bytes, str]):
    """The category by which an entry is counted, for the JSON text of its attribute; b"" for an entry without one.

    `known`: the categories of the list so far. It grows to MAX_CATEGORIES; other categories are then counted as OTHER.
    """

    def __init__(self, known: Iterable[str]) -> None:
        super().__init__()
        self.known = {NONE, *known}

    def __missing__(self, written: bytes) -> str:
        name = category_name(orjson.loads(written)) if written else NONE
        if name not in self.known:
            if len(self.known) >= MAX_CATEGORIES:
                name = OTHER
            self.known.add(name)
        self[written] = name
        return name


def category_name(text: str) -> str:
    """The name of a category in figures: one line without control characters, of at most MAX_CATEGORY characters. A
    text with a URL, a name of two labels or more, or a hash is OTHER: figures are read by people who may see no entry.
    """
    if could_name_an_entry(text):
        return OTHER
    shown = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(shown.split())[:MAX_CATEGORY].strip() or NONE


@dataclass(slots=True)
class Counts:
    """Counts of entries. `live`: how many more there are than before. `expired`, `corrected`: of `removed`, those that
    left the list by an expiry, and those that a person took out. `lives`: of `removed`, how many left the list by the
    days that they were live."""

    added: int = 0
    removed: int = 0
    live: int = 0
    expired: int = 0
    corrected: int = 0
    lives: Counter[int] = field(default_factory=Counter)


Tally = dict[tuple[str, str], Counts]
"""Counts by source and category, of changes or of days."""


@dataclass(frozen=True, slots=True)
class Part:
    """A range of keys before and after a change. `before`, `after`: the category of each key in the list. `asserted`:
    for each source, the keys that it asserted before, and those that it asserts after; other keys may be in them."""

    before: Mapping[bytes, str]
    after: Mapping[bytes, str]
    asserted: Mapping[str, tuple[Collection[bytes], Collection[bytes]]]


def add_part(tally: Tally, part: Part, kind: ChangeKind, days_live: Callable[[bytes], int | None]) -> None:
    """Adds the counts of a part. `kind`: of the change. `days_live`: days that a removed key was live; None if this is
    not known."""
    left = part.before.keys() - part.after.keys()
    moved = {key for key, name in part.before.items() if part.after.get(key, name) != name}
    lives = {key: days for key in left if (days := days_live(key)) is not None}
    _add_group(tally, ALL, part, part.before.keys(), part.after.keys(), moved)
    for source, (before, after) in part.asserted.items():
        _add_group(tally, source, part, part.before.keys() & before, part.after.keys() & after, moved)
    groups = {ALL: left} | {source: left & set(before) for source, (before, _) in part.asserted.items()}
    for source, keys in groups.items():
        for name, number in Counter(part.before[key] for key in keys).items():
            counts = tally.setdefault((source, name), Counts())
            counts.expired += number if kind == ChangeKind.EXPIRY else 0
            counts.corrected += number if kind in (ChangeKind.CORRECTION, ChangeKind.ROLLBACK) else 0
        for key in keys & lives.keys():
            tally[source, part.before[key]].lives[lives[key]] += 1


def _add_group(
    tally: Tally, source: str, part: Part, before: Collection[bytes], after: Collection[bytes], moved: set[bytes]
) -> None:
    old, new = set(before), set(after)
    for name, number in Counter(map(part.after.__getitem__, new - old)).items():
        counts = tally.setdefault((source, name), Counts())
        counts.added += number
        counts.live += number
    for name, number in Counter(map(part.before.__getitem__, old - new)).items():
        counts = tally.setdefault((source, name), Counts())
        counts.removed += number
        counts.live -= number
    for key in moved & old & new:
        tally.setdefault((source, part.before[key]), Counts()).live -= 1
        tally.setdefault((source, part.after[key]), Counts()).live += 1


def categories_of(lines: bytes, names: Categories) -> dict[bytes, str]:
    """The category of each key of complete canonical lines. Raises ValueError for other text."""
    found = (_LINE if b"\\" in lines else _LINE_WITHOUT_ESCAPES).findall(lines)
    if len(found) != lines.count(b"\n"):
        raise ValueError("not canonical lines")
    return {key: names[written] for key, written in found}


def aligned_parts(files: list[Buffer], size: int = PART) -> Iterator[list[bytes]]:
    """Yields the lines of sorted files in parts. Each part has the lines of one range of keys in every file, and about
    `size` bytes of the largest file."""
    largest = max(files, key=len)
    starts = [0] * len(files)
    at = 0
    while True:
        at = largest.find(b"\n", min(at + size, len(largest))) + 1
        if not at or at >= len(largest):
            yield [file[start:] for file, start in zip(files, starts, strict=True)]
            return
        boundary = key_of(largest[at : largest.find(b"\n", at)])
        ends = [position(file, boundary, start) for file, start in zip(files, starts, strict=True)]
        yield [file[start:end] for file, start, end in zip(files, starts, ends, strict=True)]
        starts = ends
