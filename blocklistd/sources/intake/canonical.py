"""Records to the one file of a source's entries: canonical lines, sorted bytewise, each (type, value) once.

The bytes depend on the set of records alone, not on their order: of several lines of a (type, value) the smallest is
kept.
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
from blocklistd.kinds import KINDS, Refused
from blocklistd.limits import MAX_NOTES, MAX_READING, MAX_REJECTS
from blocklistd.lines.keys import key_of
from blocklistd.model import Entry
from blocklistd.sources.formats.records import Record, Reject

_CHUNK: Final = 8192  # lines written at once
_LINE: Final = 66  # bytes that a str needs beside its characters, and for its place in a growing list
_REJECT: Final = 20  # bytes of a refused record in the notes
TAIL: Final = '"}'
HEADS: Final = {kind: f'{{"type":"{kind}","value":"' for kind in KINDS}


@dataclass(slots=True)
class Reading:
    """What some lines of a body say: the canonical line of each record that is an entry, in any order, and (line
    number, reason) of each that was refused. `plain`: no line has more than a type and a value, or an escape in it.

    Lines are texts, not bytes: UTF-8 sorts as its code points do, and Python sorts texts faster.
    """

    lines: list[str] = field(default_factory=list)
    rejects: list[tuple[int, str]] = field(default_factory=list)
    dropped: int = 0
    plain: bool = True

    def add(self, chunk: Reading) -> None:
        """Adds the reading of the body's next chunk, whose line numbers count from the beginning of the body."""
        self.lines += chunk.lines
        self.rejects += chunk.rejects
        self.dropped += chunk.dropped
        self.plain = self.plain and chunk.plain


@dataclass(frozen=True, slots=True)
class Notes:
    """What a canonical file does not show of its body: all lines of the keys that several records have (None where
    these exceed MAX_NOTES), and the line number and reason of each refused record. With the notes the next pull needs
    to read only what changed in the body."""

    multiples: list[str] | None
    rejects: list[tuple[int, str]]

    def to_bytes(self) -> bytes:
        """The notes as JSON; empty where they would exceed MAX_NOTES, which is estimated before they are built."""
        if self.multiples is None or sum(map(len, self.multiples)) + _REJECT * len(self.rejects) > MAX_NOTES:
            return b""
        noted = orjson.dumps([self.multiples, self.rejects])
        return noted if len(noted) <= MAX_NOTES else b""

    @classmethod
    def from_bytes(cls, data: bytes) -> Notes:
        multiples, rejects = orjson.loads(data)
        return cls(multiples, [(number, code) for number, code in rejects])


@dataclass(slots=True)
class Room:
    """The memory that is left for a body's lines. Call `take` before they are built: a library that runs out of memory
    may crash instead of raising."""

    bytes: int = MAX_READING
    rejects: int = MAX_REJECTS

    def take(self, lines: int, characters: int, rejects: int) -> None:
        """Takes room for `lines` lines with `characters` characters in total, and for rejects. Raises ParseError where
        there is too little."""
        self.bytes -= characters + _LINE * lines
        self.rejects -= rejects
        if self.bytes < 0:
            raise ParseError(f"its records need more than {MAX_READING} bytes of memory: expected fewer in one body")
        if self.rejects < 0:
            raise ParseError(f"more than {MAX_REJECTS} records can't be read: is the format right?")


@dataclass(frozen=True, slots=True)
class Canonical:
    """What became of the records. `types` counts entries."""

    records: int
    types: Counter[str]
    dropped_attributes: int
    notes: Notes

    @property
    def rejected(self) -> Counter[str]:
        """Refused records by reason."""
        return Counter(code for _, code in self.notes.rejects)

    @property
    def first_rejected(self) -> dict[str, int]:
        """The line number of the first refused record of each reason."""
        first: dict[str, int] = {}
        for number, code in sorted(self.notes.rejects):
            first.setdefault(code, number)
        return first

    @property
    def entries(self) -> int:
        return self.types.total()


def canonicalise(records: Iterable[Record | Reject], out: BinaryIO) -> Canonical:
    """Writes the canonical lines of all records that are entries to `out`. Raises what iterating the records raises."""
    return write(read(records), out)


def read(records: Iterable[Record | Reject]) -> Reading:
    """The records made canonical, or refused."""
    reading, room = Reading(), Room()
    characters = 0
    for record in records:
        if isinstance(record, Reject):
            room.take(0, 0, 1)
            reading.rejects.append((record.number, record.code))
            continue
        number, kind, value, attributes, dropped = record
        try:
            canonical = KINDS[kind](value)
        except Refused as refused:
            room.take(0, 0, 1)
            reading.rejects.append((number, refused.code))
            continue
        line = line_of(kind, canonical, attributes)
        characters += len(line)
        if not len(reading.lines) % _CHUNK:
            room.take(_CHUNK, characters, 0)
            characters = 0
        reading.plain = reading.plain and line.count('"') == 8
        reading.lines.append(line)
        reading.dropped += dropped
    return reading


def write(reading: Reading, out: BinaryIO) -> Canonical:
    """Writes the lines of a whole body, each with its newline, to `out`. Sorts the reading's own lines."""
    reading.lines.sort()
    lines = reading.lines
    records = len(lines) + len(reading.rejects)
    multiples = _drop_duplicates(lines, reading.plain)
    for start in range(0, len(lines), _CHUNK):
        out.write(("\n".join(lines[start : start + _CHUNK]) + "\n").encode())
    return Canonical(records, _types(lines), reading.dropped, Notes(multiples, sorted(reading.rejects)))


def line_of(kind: str, value: str, attributes: dict[str, str | int]) -> str:
    """`Entry.line()` as a text; at a quarter of its cost where there is nothing to escape and nothing to sort."""
    if attributes or '"' in value or "\\" in value or not (value.isascii() and value.isprintable()):
        return Entry(kind, value, attributes).line().decode()
    return f"{HEADS[kind]}{value}{TAIL}"


def by_key(lines: Iterable[str]) -> dict[bytes, list[str]]:
    """Lines by their key (lines/keys.py)."""
    found: defaultdict[bytes, list[str]] = defaultdict(list)
    for line in lines:
        found[key_of(line.encode())].append(line)
    return found


def _types(lines: list[str]) -> Counter[str]:
    """How many sorted lines there are of each type."""
    edges = {kind: bisect_left(lines, head) for kind, head in HEADS.items()}
    ends = {kind: bisect_left(lines, head + "\U0010ffff") for kind, head in HEADS.items()}
    return Counter({kind: ends[kind] - edge for kind, edge in edges.items() if ends[kind] > edge})


def _drop_duplicates(lines: list[str], plain: bool) -> list[str] | None:
    """Keeps the first of the sorted lines of each key (they are neighbours: lines/keys.py); all lines of keys that have
    several, or None where these are more than MAX_NOTES."""
    if plain and not _repeated(lines):  # then lines of a key are the same line
        return []
    multiples: list[str] | None = []
    room = MAX_NOTES
    kept = 0
    last: str | bytes | None = None
    noted = False  # whether the first line of the key is among the multiples
    for line in lines:
        key = line if plain else key_of(line.encode())
        if key != last:
            lines[kept] = line
            kept += 1
            last, noted = key, False
        elif multiples is not None:
            several = [line] if noted else [lines[kept - 1], line]
            noted = True
            room -= sum(map(len, several))
            if room < 0:
                multiples = None
            else:
                multiples += several
    del lines[kept:]
    return multiples


def _repeated(lines: list[str]) -> bool:
    """Whether one of the sorted lines is there twice."""
    return any(map(eq, lines, islice(lines, 1, None)))
