"""Composes every key of a list, many lines at a time: the fast way to the lines that `compose.evaluate` gives. Pure.

All sources are split at the same keys into blocks, so that each block can be composed in another process. In a block
the sources are merged by dictionaries of keys, and each rule judges all lines at once, or only those that it may
withhold.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, compress
from typing import Final, NamedTuple

from blocklistd.compose.compose import (
    ADDITIONS,
    ENDED,
    LIFETIME,
    NAME_RULES,
    QUORUM,
    Hit,
    ListRules,
    by_entry,
    hit_of,
    kind_of,
    with_id,
)
from blocklistd.compose.names import PROTECTED_TYPES
from blocklistd.kinds.name import may_be_public_suffixes
from blocklistd.limits import MAX_HITS
from blocklistd.lines.exceptions import EXCEPTION
from blocklistd.lines.expiry import earliest, first_expiry, has_ended, may_end
from blocklistd.lines.ids import Ids
from blocklistd.lines.keys import Buffer, key_of, keys_of
from blocklistd.lines.snapshot import blocks, find, position
from blocklistd.model import ID

BLOCK: Final = 1 << 18  # bytes of each source that are composed at a time, at most
_SMALL_RUN: Final = 16  # a run of so few lines gets its ids one by one if one line is not plain


@dataclass(slots=True)
class ComposedChunk:
    """Consecutive lines of a snapshot, the number of its entries, the number of entries withheld, by rule, and the
    first instant at which that may change by itself (None: never). `hits`: entries that a guard file withholds, at most
    MAX_HITS."""

    data: bytes
    entries: int
    withheld: dict[str, int]
    next_expiry: bytes | None = None
    hits: tuple[Hit, ...] = ()


def compose_all(
    sources: Sequence[Buffer],
    rules: ListRules,
    spread: Callable[[Callable[[int], ComposedChunk], int], Iterable[ComposedChunk]] = lambda work, parts: map(
        work, range(parts)
    ),
    live: Buffer = b"",
) -> Iterator[ComposedChunk]:
    """Compose every key: the blocks of the whole snapshot, in order. `spread` may compute the blocks in several
    processes (jobs/spread.py). `live`: the live snapshot; needed if `rules.stops_additions` or
    `rules.keeps_live`."""
    tests = b"".join(line + b"\n" for line in sorted(rules.tests.values()))
    buffers = [*sources, live if rules.keeps_live or rules.stops_additions else b"", tests]
    cuts = sorted(
        {
            key_of(source[start : source.find(b"\n", start)])
            for source in sources
            for start in blocks(source, BLOCK)[1:-1]
        }
    )
    edges = [[0, *_positions(buffer, cuts), len(buffer)] for buffer in buffers]

    def work(part: int) -> ComposedChunk:
        *asserted, now, own = (buffer[at[part] : at[part + 1]] for buffer, at in zip(buffers, edges, strict=True))
        keys = keys_of(own)
        made = _block([_without(part, keys) for part in asserted], rules, now)
        return _with_tests(made, keys, rules) if keys else made

    yield from spread(work, len(cuts) + 1)


def _positions(buffer: Buffer, cuts: list[bytes]) -> list[int]:
    found = []
    at = 0
    for cut in cuts:
        at = position(buffer, cut, at)
        found.append(at)
    return found


def _without(part: bytes, keys: Iterable[bytes]) -> bytes:
    """The lines of a source without those of these keys."""
    for key in keys:
        if (line := find(part, key)) is not None:
            start = position(part, key)
            part = part[:start] + part[start + len(line) + 1 :]
    return part


def _with_tests(made: ComposedChunk, keys: Iterable[bytes], rules: ListRules) -> ComposedChunk:
    """Adds the test entries of these keys to a block."""
    lines, withheld = made.data.splitlines(keepends=True), Counter(made.withheld)
    for key in keys:
        if (rule := rules.corrected.get(key)) is not None:
            withheld[rule] += 1
        else:
            insort(lines, rules.tests[key] + b"\n")
    return replace(made, data=b"".join(lines), entries=len(lines), withheld=dict(withheld))


class _Merged(NamedTuple):
    """The asserted lines of a block, one for each key, sorted. `ended`, `below`: the indexes of those that have ended
    in every source, and of those that too few sources assert. `keys`, and `asserted` (of each source the lines that
    have not ended, by key): empty where a single source needs no merge."""

    lines: list[bytes]
    keys: list[bytes]
    ended: list[int]
    below: list[int]
    asserted: list[dict[bytes, bytes]]


def _merge(parts: list[bytes], rules: ListRules) -> _Merged:
    lines = [part.split(b"\n")[:-1] for part in parts]
    if len(parts) == 1 and rules.quorum <= 1 and rules.lifetimes is None and not rules.stops_additions:
        ended = []
        if rules.now is not None and may_end(parts[0]):
            ended = [index for index, line in enumerate(lines[0]) if has_ended(line, rules.now)]
        return _Merged(lines[0], [], ended, [], [])
    of_sources = [dict(zip(keys_of(part), of, strict=True)) for part, of in zip(parts, lines, strict=True)]
    merged: dict[bytes, bytes] = {}
    all_ended: dict[bytes, bytes] = {}
    for index in range(len(parts) - 1, -1, -1):
        if rules.now is not None and may_end(parts[index]):
            over = {key: line for key, line in of_sources[index].items() if has_ended(line, rules.now)}
            all_ended |= over
            of_sources[index] = {key: line for key, line in of_sources[index].items() if key not in over}
        merged |= of_sources[index]
    for key in all_ended.keys() & merged.keys():
        del all_ended[key]
    counts = Counter(sorted(chain(all_ended, *of_sources)))
    keys = list(counts)
    quorum = rules.quorum
    below = [index for index, count in enumerate(counts.values()) if count < quorum] if quorum > 1 else []
    merged |= all_ended
    ended = [index for index, key in enumerate(keys) if key in all_ended] if all_ended else []
    return _Merged(list(map(merged.__getitem__, keys)), keys, ended, below, of_sources)


def _block(parts: list[bytes], rules: ListRules, live: bytes) -> ComposedChunk:
    """Compose a block: the same as `compose.evaluate` for each of its keys."""
    used = [part for part in parts if part]
    age_end = rules.lifetimes.first_end(parts) if rules.lifetimes is not None else None
    if rules.now is None or age_end is None or age_end > rules.now:  # no entry of the block has ended by its age
        rules = replace(rules, lifetimes=None)
    known = set(keys_of(live)) if rules.lifetimes is not None or rules.stops_additions else set()
    every = parts if rules.lifetimes is not None else used  # lifetimes ask for the index of the source
    merged = _merge(every or [b""], rules)
    lines = merged.lines
    found: dict[int, str] = {}
    hits: list[Hit] = []
    runs = list(_runs(lines))
    for run in runs:
        if run.kind not in rules.types:
            found |= dict.fromkeys(range(run.start, run.end), f"type {run.kind}")
            continue
        for number in _suspects(run):
            if (reason := by_entry(run.lines[number], rules)) is not None:
                found[run.start + number] = reason
        if rules.names and run.kind in PROTECTED_TYPES:
            for number, reason in sorted(rules.names.rules_of_all(run.kind, run.values).items()):
                if found.setdefault(run.start + number, reason) in NAME_RULES and len(hits) < MAX_HITS:
                    hits.append(hit_of(run.lines[number], reason, rules.ids))
    fixed = frozenset(found) if found else frozenset()
    for indexes, rule in ((merged.ended, ENDED), (merged.below, QUORUM)):
        for index in indexes:
            found.setdefault(index, rule)
    if rules.lifetimes is not None:
        age_end = _lifetimes(merged, found, rules, known)
    for index, rule in _corrected(lines, rules):
        found.setdefault(index, rule)
    for index in _not_added(lines, runs, rules):
        if merged.keys[index] not in known:
            found.setdefault(index, ADDITIONS)
    if rules.excepted:
        for index in _excepted(runs, rules):
            found.setdefault(index, EXCEPTION)
    first = earliest((age_end, _next_expiry(used, merged, fixed, rules)))
    out: list[str] = []
    entries = 0
    taken = [index not in found for index in range(len(lines))] if found else None
    for run in runs:
        if taken is not None:
            run = _Run(run.kind, run.start, list(compress(run.lines, taken[run.start : run.end])))
        entries += len(run.lines)
        if run.lines:
            out += _with_ids(run, rules.ids)
    return ComposedChunk("".join(out).encode(), entries, dict(Counter(found.values())), first, tuple(hits))


class _Run:
    """Lines of one type; `start` is the index of the first one in its block."""

    def __init__(self, kind: str, start: int, lines: list[bytes]) -> None:
        self.kind = kind
        self.start = start
        self.lines = lines

    @property
    def end(self) -> int:
        """The index in the block after that of the last line."""
        return self.start + len(self.lines)

    @cached_property
    def is_plain(self) -> bool:
        """Whether the lines have only a type and a value, without escapes."""
        joined = b"".join(self.lines)
        return joined.count(b'"') == 8 * len(self.lines) and b"\\" not in joined

    @cached_property
    def values(self) -> list[bytes]:
        """The values, if the lines are plain or the type is one of PROTECTED_TYPES."""
        at = len(b'{"type":"%b","value":"' % self.kind.encode())
        if self.is_plain:
            return [line[at:-2] for line in self.lines]
        return [line[at : line.index(b'"', at)] for line in self.lines]


def _runs(lines: list[bytes]) -> Iterator[_Run]:
    """The runs of a block: lines of one type are neighbours."""
    start = 0
    while start < len(lines):
        kind = kind_of(lines[start])
        end = bisect_left(lines, b'{"type":"%b#' % kind.encode(), start)  # '#' is the octet after '"'
        yield _Run(kind, start, lines[start:end])
        start = end


def _corrected(lines: list[bytes], rules: ListRules) -> Iterator[tuple[int, str]]:
    """The indexes of the lines for which a correction is in force, each with its rule."""
    for key, rule in rules.corrected.items():
        index = bisect_left(lines, key)
        if index < len(lines) and lines[index].startswith(key):
            yield index, rule


def _excepted(runs: Iterable[_Run], rules: ListRules) -> Iterator[int]:
    """The indexes of the lines whose ids have a local exception."""
    for run in runs:
        block = "".join(_with_ids(run, rules.ids))
        for one in rules.excepted:
            at = block.find(f',"{ID}":"{one}"')
            while at >= 0:
                yield run.start + block.count("\n", 0, at)
                at = block.find(f',"{ID}":"{one}"', at + 1)


def _not_added(lines: list[bytes], runs: Iterable[_Run], rules: ListRules) -> Iterable[int]:
    """The indexes of the lines whose entries are not added to the live ones."""
    if not rules.additions:
        return range(len(lines))
    named = (run for run in runs if rules.pending and run.kind in PROTECTED_TYPES)
    return (run.start + at for run in named for at in rules.pending.rules_of_all(run.kind, run.values))


def _lifetimes(merged: _Merged, found: dict[int, str], rules: ListRules, live: set[bytes]) -> bytes | None:
    """Adds the entries whose lifetime has ended to `found`. Returns the first instant at which another one ends."""
    assert rules.lifetimes is not None
    first = None
    for index, key in enumerate(merged.keys):
        if index in found:
            continue
        end = rules.lifetimes.end_of(
            key, [(source, lines[key]) for source, lines in enumerate(merged.asserted) if key in lines]
        )
        if end is None:
            continue
        if rules.now is not None and end <= rules.now and not (rules.keeps_live and key in live):
            found[index] = LIFETIME
        else:
            first = earliest((first, end))
    return first


def _next_expiry(parts: list[bytes], merged: _Merged, fixed: frozenset[int], rules: ListRules) -> bytes | None:
    """The first instant at which an entry ends, of those that can. With a quorum every source's date matters."""
    if not any(map(may_end, parts)):
        return None
    if rules.quorum > 1 and merged.asserted:
        lasting = [line for of_source in merged.asserted for line in of_source.values()]
    else:
        out = {*fixed, *merged.ended}
        lasting = [line for index, line in enumerate(merged.lines) if index not in out]
    return first_expiry(b"\n".join([*lasting, b""]))


_URL: Final = b'{"type":"url","value":"'
_ADDRESSES: Final = [
    (_URL + scheme + first, _URL + scheme + after)
    for scheme in (b"http://", b"https://")
    for first, after in ((b"0", b":"), (b"[", b"\\"))  # a digit, a bracket
]
"""Ranges of sorted lines, from the first to before the second, that hold every URL whose host may be an address."""
_MAY_BE_ADDRESS: Final = re.compile(rb"https?://(?:[0-9.]+[:/]|\[)")


def _suspects(run: _Run) -> Iterable[int]:
    """The indexes of the lines that `by_entry` has to judge; it withholds none of the others."""
    if run.kind == "ip":  # all or none of the addresses are withheld
        return range(len(run.lines))
    if run.kind == "domain":
        return may_be_public_suffixes(run.values)
    if run.kind == "url":
        return [
            at
            for first, after in _ADDRESSES
            for at in range(bisect_left(run.lines, first), bisect_left(run.lines, after))
            if _MAY_BE_ADDRESS.match(run.lines[at], len(_URL))
        ]
    return ()


def _with_ids(run: _Run, ids: Ids) -> list[str]:
    """Add ids and newlines. Costs a third of `with_id` for plain lines in a row, and nothing for lines in a row that
    have ids; a run of both and others is halved until its parts are such rows or small."""
    if run.is_plain:
        digits = ids.digits(run.kind.encode(), run.values)
        return [f'{line[:-1].decode()},"id":"e-{name}"}}\n' for line, name in zip(run.lines, digits, strict=True)]
    if b"".join(run.lines).count(_HAS_ID) == len(run.lines):
        return [f"{line.decode()}\n" for line in run.lines]
    if len(run.lines) <= _SMALL_RUN:
        return [f"{with_id(line, ids).decode()}\n" for line in run.lines]
    half = len(run.lines) // 2
    parts = _Run(run.kind, 0, run.lines[:half]), _Run(run.kind, half, run.lines[half:])
    return [line for part in parts for line in _with_ids(part, ids)]


_HAS_ID: Final = f',"{ID}":"'.encode()  # once in a line with an id, and never in another, since texts escape quotes
