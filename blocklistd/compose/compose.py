"""What a list is made of: the entries that its sources assert, in their order of precedence, with their ids.

Pure: sorted buffers in, sorted lines out. `compose` evaluates only what differs between what a source asserted before
and what it asserts now; `compose_all` evaluates everything, for a first version and where the list's own
configuration changed. Both give the same lines, which a property test holds.

Lines order by their key (lines/keys.py): no key is the beginning of another, so attributes and ids never change the
order.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Final

from blocklistd.kinds.name import is_public_suffix
from blocklistd.kinds.url import is_address_url
from blocklistd.lines.ids import Ids
from blocklistd.lines.keys import Buffer, key_of, type_and_value
from blocklistd.lines.snapshot import blocks, find, lines
from blocklistd.model import Entry

BLOCK: Final = 1 << 18  # bytes composed at a time
_MANY: Final = 1 << 14  # lines composed at a time where several sources are merged
_ONE_BY_ONE: Final = 16  # lines that get their ids one by one where one of them has more than a type and a value

Find = Callable[[bytes], bytes | None]


@dataclass(frozen=True, slots=True)
class Rules:
    """What of its sources a list takes, and how it makes the ids of entries."""

    ids: Ids
    types: tuple[str, ...]
    allow_public_suffix: bool
    allow_ip: bool


@dataclass(slots=True)
class Composition:
    """A difference from the live version: lines to remove and to add, each sorted. `withheld`: by rule, how many more
    asserted entries are withheld than before; negative where it is fewer."""

    removes: list[bytes]
    adds: list[bytes]
    withheld: dict[str, int]


@dataclass(slots=True)
class Piece:
    """A part of a snapshot: whole lines, how many, and what was withheld of this part, by rule."""

    data: bytes
    entries: int
    withheld: dict[str, int]


def with_id(line: bytes, ids: Ids) -> bytes:
    """The line as subscribers get it."""
    entry = Entry.from_line(line)
    entry.attributes["id"] = ids.of(entry.type.encode(), entry.value.encode())
    return entry.line()


def withheld(line: bytes, rules: Rules) -> str | None:
    """The rule that withholds an asserted entry, by its type and value alone; None where no rule does. It never holds
    the other entries of the change."""
    kind = _kind(line)
    if kind not in rules.types:
        return f"type {kind}"
    if not rules.allow_ip and kind == "url" and is_address_url(type_and_value(line)[1].decode()):
        return "ip"
    if not rules.allow_public_suffix and kind == "domain" and is_public_suffix(type_and_value(line)[1].decode()):
        return "public_suffix"
    return None


def compose(
    live: Buffer, touched: Iterable[bytes], sources: Sequence[Find], rules: Rules, accepted: Sequence[Find] = ()
) -> Composition:
    """The change that follows where only the keys of the `touched` lines may have another answer than before.

    `sources` find the line of a key in what each source asserts now, in order of precedence: the first that asserts a
    key gives its attributes. `accepted` find it in what the live version was composed from, in any order.
    """
    found = Composition([], [], {})
    for key, either in sorted({key_of(line): line for line in touched}.items()):
        before = find(live, key)
        asserted = next((line for find_in in sources if (line := find_in(key)) is not None), None)
        after = None
        if (reason := withheld(either, rules)) is not None:
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
    rules: Rules,
    spread: Callable[[Callable[[int], Piece], int], Iterable[Piece]] = lambda work, parts: map(work, range(parts)),
) -> Iterator[Piece]:
    """The whole snapshot, every key evaluated. `spread` may compute the parts of a single source elsewhere."""
    if len(sources) == 1:
        source = sources[0]
        cuts = blocks(source, BLOCK)
        yield from spread(lambda part: _piece(source[cuts[part] : cuts[part + 1]], rules), len(cuts) - 1)
        return
    merged = first_of_each(sources)
    while some := list(islice(merged, _MANY)):
        yield _composed(some, rules)


def _piece(block: bytes, rules: Rules) -> Piece:
    return _composed(block.split(b"\n")[:-1], rules)


def _composed(asserted: list[bytes], rules: Rules) -> Piece:
    """Sorted lines of different keys as the list has them; what `withheld` and `with_id` answer, in bulk."""
    out: list[str] = []
    counts: dict[str, int] = {}
    entries = 0
    start = 0
    while start < len(asserted):  # lines of a type are neighbours
        kind = _kind(asserted[start])
        end = bisect_left(asserted, b'{"type":"%b#' % kind.encode(), start)  # the octet after the quote
        run = asserted[start:end]
        start = end
        if kind not in rules.types:
            counts[f"type {kind}"] = len(run)
            continue
        kept_out = {
            number: reason for number in _suspects(run, kind) if (reason := withheld(run[number], rules)) is not None
        }
        if kept_out:
            for reason in kept_out.values():
                counts[reason] = counts.get(reason, 0) + 1
            run = [line for number, line in enumerate(run) if number not in kept_out]
        entries += len(run)
        out += _identified(run, kind, rules.ids)
    return Piece("".join(out).encode(), entries, counts)


_URL: Final = b'{"type":"url","value":"'
_ADDRESSES: Final = [
    (_URL + scheme + first, _URL + scheme + behind)
    for scheme in (b"http://", b"https://")
    for first, behind in ((b"0", b":"), (b"[", b"\\"))  # a digit, a bracket
]
"""Between which sorted lines those stand whose host may be an address."""
_MAY_BE_ADDRESS: Final = re.compile(rb"https?://(?:[0-9.]+[:/]|\[)")


def _suspects(run: list[bytes], kind: str) -> Iterable[int]:
    """The numbers of the lines that `withheld` has to look at."""
    if kind == "domain":  # any may be a public suffix
        return range(len(run))
    if kind == "url":
        return [
            at
            for first, behind in _ADDRESSES
            for at in range(bisect_left(run, first), bisect_left(run, behind))
            if _MAY_BE_ADDRESS.match(run[at], len(_URL))
        ]
    return ()


def _identified(run: list[bytes], kind: str, ids: Ids) -> list[str]:
    """The lines with their ids and newlines; at a third of the cost of `with_id` where several lines in a row have a
    type and a value alone, and nothing escaped in it."""
    everything = b"".join(run)
    if everything.count(b'"') != 8 * len(run) or b"\\" in everything:
        if len(run) <= _ONE_BY_ONE:
            return [f"{with_id(line, ids).decode()}\n" for line in run]
        half = len(run) // 2
        return _identified(run[:half], kind, ids) + _identified(run[half:], kind, ids)
    value = len(b'{"type":"%b","value":"' % kind.encode())
    digits = ids.digits(kind.encode(), [line[value:-2] for line in run])
    return [f'{line[:-1].decode()},"id":"e-{name}"}}\n' for line, name in zip(run, digits, strict=True)]


def _kind(line: bytes) -> str:
    return line[9 : line.index(b'"', 9)].decode()


def first_of_each(sources: Sequence[Buffer]) -> Iterator[bytes]:
    """All keys of sorted buffers in order, each with the line of the first source that has it."""

    def ranked(buffer: Buffer, rank: int) -> Iterator[tuple[bytes, int, bytes]]:
        return ((key_of(line), rank, line) for line in lines(buffer))

    last = None
    for key, _, line in merge(*(ranked(buffer, rank) for rank, buffer in enumerate(sources))):
        if key != last:
            yield line
            last = key
