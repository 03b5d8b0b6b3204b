"""Records to the one file of a source's entries: canonical lines, sorted bytewise, each (type, value) once.

The bytes depend on the set of records alone, not on their order: of several lines of a (type, value) the smallest is
kept.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from blocklistd.kinds import KINDS, Refused
from blocklistd.lines import key_of
from blocklistd.model import Entry, Sha256
from blocklistd.sources.records import Record, Reject

_CHUNK: Final = 8192  # lines written at once
_HEADS: Final = {kind: f'{{"type":"{kind}","value":"' for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Canonical:
    """What became of the records; `length` is in bytes, `sha256` that of the file.

    `types` counts entries, `rejected` records by the reason they were refused for, and `first_rejected` has the line
    number of the first of each. `duplicates` are records whose (type, value) another record has, too.
    """

    records: int
    types: Counter[str]
    rejected: Counter[str]
    first_rejected: dict[str, int]
    duplicates: int
    dropped_attributes: int
    sha256: Sha256
    length: int

    @property
    def entries(self) -> int:
        return self.types.total()


@dataclass(slots=True)
class _Collected:
    """Lines are texts, not bytes: UTF-8 sorts as its code points do, and Python sorts texts faster."""

    lines: list[str] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    first_rejected: dict[str, int] = field(default_factory=dict)
    dropped_attributes: int = 0

    def reject(self, number: int, code: str) -> None:
        self.rejected[code] += 1
        self.first_rejected.setdefault(code, number)


def canonicalise(records: Iterable[Record | Reject], out: BinaryIO) -> Canonical:
    """Writes the canonical lines of all records that are entries, each with its newline, to `out`.

    Holds all lines in memory, each with some 70 bytes beside its text. Raises what iterating the records raises.
    """
    collected = _collect(records)
    count = len(collected.lines) + collected.rejected.total()
    collected.lines.sort()
    duplicates = _drop_duplicates(collected.lines)
    digest = hashlib.sha256()
    length = 0
    for start in range(0, len(collected.lines), _CHUNK):
        chunk = "\n".join([*collected.lines[start : start + _CHUNK], ""]).encode()
        digest.update(chunk)
        length += out.write(chunk)
    return Canonical(
        records=count,
        types=collected.types - duplicates,
        rejected=collected.rejected,
        first_rejected=collected.first_rejected,
        duplicates=duplicates.total(),
        dropped_attributes=collected.dropped_attributes,
        sha256=Sha256(digest.hexdigest()),
        length=length,
    )


def line_of(kind: str, value: str, attributes: dict[str, str | int]) -> str:
    """`Entry.line()` as a text; at a quarter of its cost where there is nothing to escape and nothing to sort."""
    if attributes or '"' in value or "\\" in value or not (value.isascii() and value.isprintable()):
        return Entry(kind, value, attributes).line().decode()
    return f'{_HEADS[kind]}{value}"}}'


def _collect(records: Iterable[Record | Reject]) -> _Collected:
    collected = _Collected()
    for record in records:
        if isinstance(record, Reject):
            collected.reject(record.number, record.code)
            continue
        number, kind, value, attributes, dropped = record
        try:
            canonical = KINDS[kind](value)
        except Refused as refused:
            collected.reject(number, refused.code)
            continue
        collected.lines.append(line_of(kind, canonical, attributes))
        collected.types[kind] += 1
        collected.dropped_attributes += dropped
    return collected


def _drop_duplicates(lines: list[str]) -> Counter[str]:
    """Keeps the first of the sorted lines of each key (they are neighbours: lines.py); what went, by type."""
    dropped: Counter[str] = Counter()
    kept, last = 0, b""
    for line in lines:
        key = key_of(line.encode())
        if key == last:
            dropped[line[9 : line.index('"', 9)]] += 1
            continue
        lines[kept] = line
        kept, last = kept + 1, key
    del lines[kept:]
    return dropped
