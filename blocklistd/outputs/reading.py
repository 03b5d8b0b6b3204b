"""What the formats share: the entries of a snapshot, checked, and whether a listed domain covers a name.

A snapshot is read block by block, and domains are looked up in it: memory does not grow with the snapshot, but for one
bit in 32 of the lines of its domains.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import BinaryIO, Final, Protocol

from blocklistd.lines.keys import type_and_value

Says = Mapping[bytes, Callable[[bytes], bytes]]
"""For each type that a format can express: value → lines, each with its newline; b"" for a value that it can't."""


class Out(Protocol):
    """Where a rendering is written to."""

    def write(self, data: bytes, /) -> object:
        """Appends the data."""


_BLOCK: Final = 1 << 20  # bytes of lines read at once
_PLAIN: Final = re.compile(rb'\{"type":"([a-z0-9]+)","value":"([!#-\[\]-~]+)"')
_PRINTABLE: Final = re.compile(rb"[!-~]+")
_NAME: Final = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_NAMES: Final = (b"host", b"domain")
_DOMAIN: Final = b'{"type":"domain","value":"'


def entries(snapshot: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield the (type, value) of each entry. The position of `snapshot` may be changed between two of them.

    A value is printable ASCII without blanks, and a name is of letters, digits, `-` and `_`: canonical values are.
    Raises ValueError for any other, which could be read as more than one value.
    """
    at = 0
    while snapshot.seek(at) == at and (block := snapshot.readlines(_BLOCK)):
        at = snapshot.tell()
        for line in block:
            plain = _PLAIN.match(line)
            kind, value = plain.groups() if plain else type_and_value(line)
            if not (plain or _PRINTABLE.fullmatch(value)) or (kind in _NAMES and not _NAME.fullmatch(value)):
                raise ValueError("a value with a blank, a control character or another that no canonical value has")
            yield kind, value


def uncovered(snapshot: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield as `entries`, but no host or domain that a listed domain covers: the program blocks it with that domain.
    Next to the domain its own line would be an error in some programs, and unblock names below it in others."""
    domains = _Domains(snapshot)
    for kind, value in entries(snapshot):
        if kind not in _NAMES or not domains.cover(kind, value):
            yield kind, value


def write_lines(found: Iterable[tuple[bytes, bytes]], out: Out, says: Says) -> int:
    """Write the lines of each (type, value). Returns the number of entries that the format can't express."""
    omitted = 0
    for kind, value in found:
        say = says.get(kind)
        lines = say(value) if say else b""
        out.write(lines)
        omitted += not lines
    return omitted


class _Domains:
    """The domains of a snapshot: a Bloom filter with one bit for 4 bytes of their lines, at least 10 for a domain. What
    it finds is looked up in the snapshot."""

    def __init__(self, snapshot: BinaryIO) -> None:
        self._snapshot = snapshot
        self._end = _position(snapshot, _DOMAIN + b"\x7f", snapshot.seek(0, 2))
        self._bits = max(64, self._end // 4)
        self._filter = bytearray(self._bits // 8 + 1)
        self._is_listed = lru_cache(1 << 16)(self._look_up)
        if self._end:
            for kind, value in entries(snapshot):
                if kind != b"domain":
                    break
                for bit in self._bits_of(value):
                    self._filter[bit >> 3] |= 1 << (bit & 7)

    def cover(self, kind: bytes, name: bytes) -> bool:
        """Whether a listed domain is above the name, or, for a host, has the same name."""
        if not self._end:
            return False
        start = 0 if kind == b"host" else name.find(b".") + 1
        while start or kind == b"host":
            if self._may_be_listed(name[start:]) and self._is_listed(name[start:]):
                return True
            start = name.find(b".", start) + 1
            if not start:
                return False
        return False

    def _bits_of(self, name: bytes) -> tuple[int, int]:
        found = hash(name)
        return found % self._bits, (found >> 20) * 31 % self._bits

    def _may_be_listed(self, name: bytes) -> bool:
        return all(self._filter[bit >> 3] >> (bit & 7) & 1 for bit in self._bits_of(name))

    def _look_up(self, name: bytes) -> bool:
        head = _DOMAIN + name + b'"'
        self._snapshot.seek(_position(self._snapshot, head, self._end))
        return self._snapshot.readline().startswith(head)


def _position(snapshot: BinaryIO, searched: bytes, high: int) -> int:
    """The offset of the first line before offset `high` that sorts at or after `searched`, or `high`."""
    low = 0
    while low < high:
        middle = (low + high) // 2
        snapshot.seek(max(low, middle - 1))
        if middle > low:
            snapshot.readline()  # the rest of a line, or the newline before one
        start = snapshot.tell()
        if start >= high:
            high = middle
        elif snapshot.readline() < searched:
            low = snapshot.tell()
        else:
            high = middle if middle > low else low
    return low
