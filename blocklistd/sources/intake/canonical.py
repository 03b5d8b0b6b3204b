"""Makes the file of a source's entries from records: canonical lines, sorted bytewise, one for each (type, value).

The bytes depend on the set of records, not on their order: of several lines with the same (type, value) the one that
ends last is kept (`chosen`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from operator import eq
from typing import BinaryIO, Final

import orjson

from blocklistd.errors import ParseError
from blocklistd.kinds import KINDS, WITH_HOST, InvalidEntry, is_host_of
from blocklistd.limits import MAX_LINES_MEMORY, MAX_NOTES, MAX_REJECTS
from blocklistd.lines.expiry import expiry_of
from blocklistd.lines.keys import key_of
from blocklistd.model import Entry
from blocklistd.sources.formats.records import Record, Reject

_CHUNK: Final = 8192  # lines written at once
_LINE: Final = 66  # bytes of memory that a str needs besides its characters, including its slot in a growing list
_REJECT: Final = 20  # bytes of a reject in the notes
TAIL: Final = '"}'
"""The text after the value in a line without attributes."""
HEADS: Final = {kind: f'{{"type":"{kind}","value":"' for kind in KINDS}
"""The text before the value in a line of each kind."""


@dataclass(slots=True)
class Reading:
    """The result of reading some lines of a body.

    `lines`: the canonical line of each record that is an entry, in any order, without newlines. `rejects`: (line
    number, reason) of each other record. `dropped`: the number of dropped attributes. `plain`: whether every line has
    only a type and a value, without escapes.

    Lines are str, not bytes: both sort alike (UTF-8 sorts as its code points do), and Python sorts str faster.
    """

    lines: list[str] = field(default_factory=list)
    rejects: list[tuple[int, str]] = field(default_factory=list)
    dropped: int = 0
    plain: bool = True

    def add(self, chunk: Reading) -> None:
        """Append the reading of the next chunk of the body. Its line numbers count from the beginning of the body."""
        self.lines += chunk.lines
        self.rejects += chunk.rejects
        self.dropped += chunk.dropped
        self.plain = self.plain and chunk.plain


@dataclass(frozen=True, slots=True)
class Notes:
    """Facts about a body that its canonical file does not contain. With them, the next pull reads only the lines of the
    body that changed (incremental.py)."""

    multiples: list[str] | None
    """All lines of each key that several records have; None if they exceed MAX_NOTES."""
    rejects: list[tuple[int, str]]
    """(line number, reason) of each reject."""

    def to_bytes(self) -> bytes:
        """The notes as JSON; empty if they exceed MAX_NOTES bytes, which is estimated before they are built."""
        if self.multiples is None or sum(map(len, self.multiples)) + _REJECT * len(self.rejects) > MAX_NOTES:
            return b""
        noted = orjson.dumps([self.multiples, self.rejects])
        return noted if len(noted) <= MAX_NOTES else b""

    @classmethod
    def from_bytes(cls, data: bytes) -> Notes:
        """Read `data`, a result of `to_bytes` that is not empty. Raises ValueError or TypeError for anything else."""
        multiples, rejects = orjson.loads(data)
        return cls(multiples, [(number, code) for number, code in rejects])


@dataclass(slots=True)
class MemoryBudget:
    """The memory, in bytes, and the number of rejects that a body may still use. Call `take` before lines are built: a
    library that runs out of memory may crash instead of raising."""

    bytes: int = MAX_LINES_MEMORY
    rejects: int = MAX_REJECTS

    def take(self, lines: int, characters: int, rejects: int) -> None:
        """Use memory for `lines` lines with `characters` characters in total, and for `rejects` rejects. Raises
        ParseError if the budget is exceeded."""
        self.bytes -= characters + _LINE * lines
        self.rejects -= rejects
        if self.bytes < 0:
            raise ParseError(
                f"its records need more than {MAX_LINES_MEMORY} bytes of memory: ask the hotline to split its list"
            )
        if self.rejects < 0:
            raise ParseError(f"more than {MAX_REJECTS} records can't be read: check `format` and `fields`")


@dataclass(frozen=True, slots=True)
class Canonical:
    """The figures of a canonical file. `records`: entries before duplicates were dropped, and rejects. `types`: the
    number of entries by type. `dropped_attributes`: the number of attributes that did not fit."""

    records: int
    types: Counter[str]
    dropped_attributes: int
    notes: Notes

    @property
    def rejected(self) -> Counter[str]:
        """The number of rejects by reason."""
        return Counter(code for _, code in self.notes.rejects)

    @property
    def first_rejected(self) -> dict[str, int]:
        """The line number of the first reject with each reason."""
        first: dict[str, int] = {}
        for number, code in sorted(self.notes.rejects):
            first.setdefault(code, number)
        return first

    @property
    def entries(self) -> int:
        """The number of entries."""
        return self.types.total()


def canonicalise(records: Iterable[Record | Reject], out: BinaryIO) -> Canonical:
    """Write the canonical lines of all records that are entries to `out`. Raises ParseError, as the records do."""
    return write(read(records), out)


def read(records: Iterable[Record | Reject]) -> Reading:
    """Canonicalise records. Those that are no entry become rejects. Raises ParseError, as the records do, and if they
    exceed the MemoryBudget."""
    reading, budget = Reading(), MemoryBudget()
    characters = 0
    for record in records:
        if isinstance(record, Reject):
            budget.take(0, 0, 1)
            reading.rejects.append((record.number, record.code))
            continue
        number, kind, value, attributes, dropped, host = record
        try:
            canonical = KINDS[kind](value)
            if host and kind in WITH_HOST and not is_host_of(host, canonical):
                raise InvalidEntry("other-host")
        except InvalidEntry as refused:
            budget.take(0, 0, 1)
            reading.rejects.append((number, refused.code))
            continue
        line = line_of(kind, canonical, attributes)
        characters += len(line)
        if not len(reading.lines) % _CHUNK:
            budget.take(_CHUNK, characters, 0)
            characters = 0
        reading.plain = reading.plain and line.count('"') == 8
        reading.lines.append(line)
        reading.dropped += dropped
    return reading


def write(reading: Reading, out: BinaryIO) -> Canonical:
    """Write the sorted lines of a complete body, each key once, to `out`. Changes `reading.lines`."""
    reading.lines.sort()
    lines = reading.lines
    records = len(lines) + len(reading.rejects)
    multiples = _drop_duplicates(lines, reading.plain)
    for start in range(0, len(lines), _CHUNK):
        out.write(("\n".join(lines[start : start + _CHUNK]) + "\n").encode())
    return Canonical(records, _types(lines), reading.dropped, Notes(multiples, sorted(reading.rejects)))


def line_of(kind: str, value: str, attributes: dict[str, str | int]) -> str:
    """`Entry.line()` as str; four times as fast if there are no attributes and no escapes."""
    if attributes or '"' in value or "\\" in value or not (value.isascii() and value.isprintable()):
        return Entry(kind, value, attributes).line().decode()
    return f"{HEADS[kind]}{value}{TAIL}"


def by_key(lines: Iterable[str]) -> dict[bytes, list[str]]:
    """Group lines by their key (lines/keys.py)."""
    found: defaultdict[bytes, list[str]] = defaultdict(list)
    for line in lines:
        found[key_of(line.encode())].append(line)
    return found


def chosen(lines: Iterable[str]) -> str | None:
    """The line that is asserted, of all lines with the same (type, value): the one that ends last, since a source that
    lists an entry twice asserts it until then; of several such lines the smallest. None if there is no line."""
    return min(lines, key=_preference, default=None)


def _preference(line: str) -> tuple[int, str]:
    """Sorts lines with the same (type, value): those that end last, then the smallest, come first."""
    expiry = expiry_of(line.encode())
    return (-int(expiry.translate(None, b"-:TZ")) if expiry is not None else -(10**14), line)


def _types(lines: list[str]) -> Counter[str]:
    """The number of sorted lines of each type."""
    edges = {kind: bisect_left(lines, head) for kind, head in HEADS.items()}
    ends = {kind: bisect_left(lines, head + "\U0010ffff") for kind, head in HEADS.items()}
    return Counter({kind: ends[kind] - edge for kind, edge in edges.items() if ends[kind] > edge})


def _drop_duplicates(lines: list[str], plain: bool) -> list[str] | None:
    """Keep, in place, only one of the sorted lines of each key (`chosen`; they are neighbours: lines/keys.py).

    Returns all lines of the keys that had several (Notes.multiples); None if these have more than MAX_NOTES characters.
    """
    if plain and not _has_repeated(lines):  # plain lines with the same key are the same line
        return []
    multiples: list[str] | None = []
    budget = MAX_NOTES
    kept = 0
    last: str | bytes | None = None
    noted = False  # whether the first line of the key is in `multiples`
    for line in lines:
        key = line if plain else key_of(line.encode())
        if key != last:
            lines[kept] = line
            kept += 1
            last, noted = key, False
            continue
        if multiples is not None:
            several = [line] if noted else [lines[kept - 1], line]
            noted = True
            budget -= sum(map(len, several))
            if budget < 0:
                multiples = None
            else:
                multiples += several
        if not plain and _preference(line) < _preference(lines[kept - 1]):
            lines[kept - 1] = line
    del lines[kept:]
    return multiples


def _has_repeated(lines: list[str]) -> bool:
    """Whether one of the sorted lines occurs twice."""
    return any(map(eq, lines, islice(lines, 1, None)))
