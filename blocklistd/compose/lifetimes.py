"""When entries end by their age: the terms of a list's `lifetime`. Pure.

For each source that asserts an entry the term that ends first counts:

    reverify    so long after the source has confirmed it: its `verified_at`; without one, since when it is asserted
    max_life    so long after the source has first asserted it

- A source that asserts an entry again, after it had been gone, or that adds it to its list, confirms it by that.
- `kept`: a person has confirmed the entry at that time: both terms begin again.
- The entry ends when fewer than `quorum` of its sources are within their terms: with a quorum of 1 at the last of their
  ends, with 2 at the second last.

Instants are texts as canonical lines have them, which sort by time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from blocklistd.compose.compose import Asserted
from blocklistd.compose.figures import aligned_parts
from blocklistd.lines.expiry import earliest, has_ended
from blocklistd.lines.keys import Buffer, key_of, keys_of
from blocklistd.lines.patched import PatchedLines
from blocklistd.lines.snapshot import position
from blocklistd.times import rfc3339

REVERIFY: Final = "reverify"
MAX_LIFE: Final = "max_life"
LAST: Final = b"9999-12-31T23:59:59Z"

_NAME: Final = b',"verified_at":"'
_VERIFIED: Final = re.compile(rb',"verified_at":"([0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?)"')
_SINCE: Final = re.compile(rb',"since":"([^"]*)"\}\n')


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a list, in seconds; None: there is no such term."""

    reverify: int | None
    max_life: int | None

    def __bool__(self) -> bool:
        return self.reverify is not None or self.max_life is not None


class KnownSince(Protocol):
    """Since when a source asserts its entries (store/ages.py)."""

    @property
    def default(self) -> datetime:
        """Since when it asserts the entries that are not among the exceptions."""

    @property
    def exceptions(self) -> PatchedLines:
        """The keys that it has added to its list since, each with its time."""


class Ending(NamedTuple):
    """When an entry ends, by which term, and since when that runs."""

    end: bytes
    term: str
    since: bytes


class EntryAges:
    """When each entry ends under the terms. `ages`: of each source, in precedence. `kept`: time of each kept key."""

    def __init__(self, terms: Terms, quorum: int, ages: Sequence[KnownSince], kept: Mapping[bytes, bytes]) -> None:
        self._terms = terms
        self._quorum = quorum
        self._kept = kept
        self._default = [rfc3339(one.default).encode() for one in ages]
        self._exceptions = [one.exceptions for one in ages]
        self._lines: dict[int, Buffer] = {}

    def end_of(self, key: bytes, asserted: Asserted) -> bytes | None:
        """The instant at which the entry ends (compose.EndsByAge)."""
        ending = self.ending_of(key, asserted)
        return None if ending is None else ending.end

    def ending_of(self, key: bytes, asserted: Asserted) -> Ending | None:
        """The end of an entry, with its term. None if fewer than `quorum` sources assert it."""
        if len(asserted) < self._quorum:
            return None
        kept = self._kept.get(key, b"")
        return sorted((self._ending(*one, key, kept) for one in asserted), reverse=True)[self._quorum - 1]

    def _ending(self, source: int, line: bytes, key: bytes, kept: bytes) -> Ending:
        exceptions = self._exceptions[source]
        found = exceptions.find(key) if exceptions.base or exceptions.adds else None
        since = self._default[source] if found is None else _SINCE.findall(found + b"\n")[0]
        confirmed = verified_at(line) or since
        if found is not None:
            confirmed = max(confirmed, since)
        return _first(self._terms, max(since, kept), max(confirmed, kept))

    def first_end(self, parts: Sequence[bytes]) -> bytes | None:
        """An instant before which none of these entries ends. `parts`: the lines of each source, of one range of keys.

        Costs little for a block in which no entry has ended; `end_of` is exact.
        """
        used = [part for part in parts if part]
        if not used:
            return None
        low = min(part[: part.index(b"\n")] for part in used)
        high = max(part[part.rfind(b"\n", 0, -1) + 1 : -1] for part in used)
        return earliest(self._first_of_source(source, part, low, high) for source, part in enumerate(parts) if part)

    def _first_of_source(self, source: int, part: bytes, low: bytes, high: bytes) -> bytes:
        since = min([self._default[source], *self._exceptions_between(source, low, high)])
        confirmed = min([since, *_VERIFIED.findall(part)]) if _NAME in part else since
        return _first(self._terms, since, _instant(confirmed)).end

    def _exceptions_between(self, source: int, low: bytes, high: bytes) -> list[bytes]:
        if source not in self._lines:
            self._lines[source] = self._exceptions[source].read_all()
        lines = self._lines[source]
        if not lines:
            return []
        start = position(lines, key_of(low))
        return _SINCE.findall(lines[start : position(lines, key_of(high) + b"~", start)])


def verified_at(line: bytes) -> bytes | None:
    """When the source has verified the entry of a line; a day counts from its beginning. None: it does not say."""
    found = _VERIFIED.search(line) if _NAME in line else None
    return None if found is None else _instant(found[1])


def _instant(text: bytes) -> bytes:
    return text if len(text) > len(b"2026-11-20") else text + b"T00:00:00Z"


def _first(terms: Terms, since: bytes, confirmed: bytes) -> Ending:
    ends = [Ending(LAST, "", since)]
    if terms.reverify is not None:
        ends.append(Ending(_later(confirmed, terms.reverify), REVERIFY, confirmed))
    if terms.max_life is not None:
        ends.append(Ending(_later(since, terms.max_life), MAX_LIFE, since))
    return min(ends)


@lru_cache(maxsize=1 << 14)
def _later(instant: bytes, seconds: int) -> bytes:
    try:
        return rfc3339(datetime.fromisoformat(instant.decode()).astimezone(UTC) + timedelta(seconds=seconds)).encode()
    except OverflowError:
        return LAST


class LiveEnd(NamedTuple):
    """A live entry that has ended by its age. `asserted`: the lines of its sources that have not ended, each with the
    index of its source."""

    key: bytes
    ending: Ending
    asserted: list[tuple[int, bytes]]


class EndedPart(NamedTuple):
    """A range of keys: the live entries that have ended by their age, and the first end of another one."""

    ended: list[LiveEnd]
    next: bytes | None


def ended_by_age(live: Buffer, sources: Sequence[Buffer], ages: EntryAges, now: bytes) -> Iterator[EndedPart]:
    """The live entries that have ended by their age at the instant `now`, part by part. `sources`: the lines that each
    asserts. Parts in which none can have ended are not looked at line by line."""
    for live_part, *parts in aligned_parts([live, *sources]):
        first = ages.first_end(parts)
        if first is None or first > now:
            yield EndedPart([], first)
            continue
        yield _ended_of_part(keys_of(live_part), [lines_by_key(part) for part in parts], ages, now)


def _ended_of_part(
    live: Iterable[bytes], asserted: Collection[Mapping[bytes, bytes]], ages: EntryAges, now: bytes
) -> EndedPart:
    ended: list[LiveEnd] = []
    first = None
    for key in live:
        found = [(source, line) for source, lines in enumerate(asserted) if (line := lines.get(key)) is not None]
        lasting = [(source, line) for source, line in found if not has_ended(line, now)]
        ending = ages.ending_of(key, lasting)
        if ending is None:
            continue
        if ending.end <= now:
            ended.append(LiveEnd(key, ending, lasting))
        else:
            first = earliest((first, ending.end))
    return EndedPart(ended, first)


def lines_by_key(part: bytes) -> dict[bytes, bytes]:
    """Complete canonical lines, by their key."""
    return dict(zip(keys_of(part), part.split(b"\n")[:-1], strict=True))
