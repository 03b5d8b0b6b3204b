"""Composes a list from the entries that its sources assert, in their order of precedence, and adds the ids. Pure.

`compose` evaluates only the keys that a change touches and returns the difference from the live version. `compose_all`
evaluates every key and returns the whole snapshot: for a first version, and after a change of policy. Both lead to the
same lines; a property test holds that.

Lines sort by their key (lines/keys.py). No key is a prefix of another, so attributes and ids never change the order.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice, repeat, tee
from typing import Final

from blocklistd.kinds.name import is_public_suffix
from blocklistd.kinds.url import is_address_url
from blocklistd.lines.ids import Ids
from blocklistd.lines.keys import Buffer, key_of, type_and_value
from blocklistd.lines.snapshot import blocks, find, lines
from blocklistd.model import Entry

BLOCK: Final = 1 << 18  # bytes composed at a time
_MERGED_LINES: Final = 1 << 14  # lines composed at a time where several sources are merged
_SMALL_RUN: Final = 16  # a run of so few lines gets its ids one by one if one line has more than a type and a value

Find = Callable[[bytes], bytes | None]
"""Returns the line with a key, or None."""


@dataclass(frozen=True, slots=True)
class ListRules:
    """Which entries of its sources a list takes, and how the ids of its entries are made."""

    ids: Ids
    types: tuple[str, ...]
    allow_public_suffix: bool
    allow_ip: bool


@dataclass(slots=True)
class Composition:
    """A difference from the live version: the lines to remove and to add, each sorted. `withheld`: by rule, the change
    in the number of asserted entries that the rule withholds; negative if it withholds fewer than before."""

    removes: list[bytes]
    adds: list[bytes]
    withheld: dict[str, int]


@dataclass(slots=True)
class ComposedChunk:
    """Consecutive lines of a snapshot, the number of its entries, and the number of entries withheld, by rule."""

    data: bytes
    entries: int
    withheld: dict[str, int]


def with_id(line: bytes, ids: Ids) -> bytes:
    """Add the id to an asserted line: the line as subscribers get it."""
    entry = Entry.from_line(line)
    entry.attributes["id"] = ids.of(entry.type.encode(), entry.value.encode())
    return entry.line()


def withheld(line: bytes, rules: ListRules) -> str | None:
    """Return the rule that withholds an asserted entry, judged by its type and value alone; None if no rule does. The
    other entries of the change are not affected."""
    kind = _kind(line)
    if kind not in rules.types:
        return f"type {kind}"
    if not rules.allow_ip and kind == "url" and is_address_url(type_and_value(line)[1].decode()):
        return "ip"
    if not rules.allow_public_suffix and kind == "domain" and is_public_suffix(type_and_value(line)[1].decode()):
        return "public_suffix"
    return None


def compose(
    live: Buffer, touched: Iterable[bytes], sources: Sequence[Find], rules: ListRules, accepted: Sequence[Find] = ()
) -> Composition:
    """Compose the keys of the `touched` lines; no other key has changed.

    `sources` look a key up in what each source asserts now, in order of precedence: the first source that asserts a
    key gives the attributes. `accepted` look it up in what the live version was composed from, in any order.
    """
    found = Composition([], [], {})
    for key, example in sorted({key_of(line): line for line in touched}.items()):
        before = find(live, key)
        asserted = next((line for find_in in sources if (line := find_in(key)) is not None), None)
        after = None
        if (reason := withheld(example, rules)) is not None:
            was_withheld = before is None and any(find_in(key) is not None for find_in in accepted)
            found.withheld[reason] = found.withheld.get(reason, 0) + (asserted is not None) - was_withheld
        elif asserted is not None:
            after = with_id(asserted, rules.ids)
        if before != after:
            if before is not None:
                found.removes.append(before)
            if after is not None:
                found.adds.append(after)
    return found


def compose_all(
    sources: Sequence[Buffer],
    rules: ListRules,
    spread: Callable[[Callable[[int], ComposedChunk], int], Iterable[ComposedChunk]] = lambda work, parts: map(
        work, range(parts)
    ),
) -> Iterator[ComposedChunk]:
    """Compose every key: the blocks of the whole snapshot, in order. With a single source, `spread` may compute the
    blocks in several processes (jobs/spread.py)."""
    if len(sources) == 1:
        source = sources[0]
        offsets = blocks(source, BLOCK)
        yield from spread(lambda part: _block(source[offsets[part] : offsets[part + 1]], rules), len(offsets) - 1)
        return
    merged = first_of_each(sources)
    while some := list(islice(merged, _MERGED_LINES)):
        yield _composed(some, rules)


def _block(block: bytes, rules: ListRules) -> ComposedChunk:
    return _composed(block.split(b"\n")[:-1], rules)


def _composed(asserted: list[bytes], rules: ListRules) -> ComposedChunk:
    """Compose sorted lines of different keys: `withheld` and `with_id` for many lines at a time."""
    out: list[str] = []
    counts: dict[str, int] = {}
    entries = 0
    start = 0
    while start < len(asserted):  # lines of one type are neighbours
        kind = _kind(asserted[start])
        end = bisect_left(asserted, b'{"type":"%b#' % kind.encode(), start)  # '#' is the octet after '"'
        run = asserted[start:end]
        start = end
        if kind not in rules.types:
            counts[f"type {kind}"] = len(run)
            continue
        found = {
            number: reason for number in _suspects(run, kind) if (reason := withheld(run[number], rules)) is not None
        }
        if found:
            for reason in found.values():
                counts[reason] = counts.get(reason, 0) + 1
            run = [line for number, line in enumerate(run) if number not in found]
        entries += len(run)
        out += _with_ids(run, kind, rules.ids)
    return ComposedChunk("".join(out).encode(), entries, counts)


_URL: Final = b'{"type":"url","value":"'
_ADDRESSES: Final = [
    (_URL + scheme + first, _URL + scheme + after)
    for scheme in (b"http://", b"https://")
    for first, after in ((b"0", b":"), (b"[", b"\\"))  # a digit, a bracket
]
"""Ranges of sorted lines, from the first to before the second, that hold every URL whose host may be an address."""
_MAY_BE_ADDRESS: Final = re.compile(rb"https?://(?:[0-9.]+[:/]|\[)")


def _suspects(run: list[bytes], kind: str) -> Iterable[int]:
    """The indexes of the lines that `withheld` has to judge; it withholds none of the others."""
    if kind == "domain":  # any may be a public suffix
        return range(len(run))
    if kind == "url":
        return [
            at
            for first, after in _ADDRESSES
            for at in range(bisect_left(run, first), bisect_left(run, after))
            if _MAY_BE_ADDRESS.match(run[at], len(_URL))
        ]
    return ()


def _with_ids(run: list[bytes], kind: str, ids: Ids) -> list[str]:
    """Add ids and newlines. Costs a third of `with_id` for lines in a row that have only a type and a value, without
    escapes; a run with other lines is halved until its parts are such rows or small."""
    joined = b"".join(run)
    if joined.count(b'"') != 8 * len(run) or b"\\" in joined:
        if len(run) <= _SMALL_RUN:
            return [f"{with_id(line, ids).decode()}\n" for line in run]
        half = len(run) // 2
        return _with_ids(run[:half], kind, ids) + _with_ids(run[half:], kind, ids)
    value = len(b'{"type":"%b","value":"' % kind.encode())
    digits = ids.digits(kind.encode(), [line[value:-2] for line in run])
    return [f'{line[:-1].decode()},"id":"e-{name}"}}\n' for line, name in zip(run, digits, strict=True)]


def _kind(line: bytes) -> str:
    return line[9 : line.index(b'"', 9)].decode()


def first_of_each(sources: Sequence[Buffer]) -> Iterator[bytes]:
    """Merge sorted buffers: for each key, in order, the line of the first source that has it."""
    ranked = []  # (key, rank of the source, line): equal keys sort by their rank
    for rank, buffer in enumerate(sources):
        keyed, plain = tee(lines(buffer))
        ranked.append(zip(map(key_of, keyed), repeat(rank), plain, strict=False))  # `repeat` has no end
    last = None
    for key, _, line in merge(*ranked):
        if key != last:
            yield line
            last = key
