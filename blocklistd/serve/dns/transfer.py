"""A zone transfer, from its first message to its last (RFC 5936, RFC 1995). Pure: no socket, no clock but an argument.

What is sent is one serial's, whatever is published meanwhile: it is read from files that do not change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from blocklistd.serve.dns.message import AA, NOERROR, Query, answer, header
from blocklistd.serve.dns.tsig import Signer

CHUNK: Final = 128 * 1024  # octets handed to the socket at once
_U16: Final = struct.Struct("!H")

Compiled = bytes | memoryview
"""Length-prefixed messages (rpz.wire)."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """What a transfer says: its first message's records, what was compiled, its last message's records."""

    first: bytes
    first_count: int
    parts: tuple[Compiled, ...]
    last: bytes
    last_count: int = 1


def axfr(soa: bytes, servers: tuple[bytes, int], compiled: Compiled) -> Sequence:
    """The whole zone: SOA and NS, the rules, SOA."""
    return Sequence(soa + servers[0], 1 + servers[1], (compiled,), soa)


NONE: Final = b"", 0
"""No records."""


def ixfr(
    new: bytes,
    old: bytes,
    removed: Compiled,
    added: Compiled,
    gone: tuple[bytes, int] = NONE,
    come: tuple[bytes, int] = NONE,
) -> Sequence:
    """One difference: SOA(new), SOA(old), what goes, SOA(new), what comes, SOA(new) (RFC 1995 4). `gone` and `come` are
    records of the apex, and how many they are.

    `added` opens with SOA(new), in the message of its first record: clients there are (kdig) take a message that ends
    in the new SOA for the end.
    """
    first, last = (new + old + gone[0], 2 + gone[1]), (come[0] + new, come[1] + 1)
    if not added:
        return Sequence(*first, (removed,), new + last[0], 1 + last[1])
    return Sequence(*first, (removed, added), *last)


class Stream:
    """The transfer in chunks of whole length-prefixed messages, each message with the request's id, each signed.

    The question is repeated in the first message only (RFC 5936 2.2.1).
    """

    def __init__(self, query: Query, sequence: Sequence, signer: Signer | None) -> None:
        self._ident = query.id.to_bytes(2, "big")
        self._signer = signer
        self._copies = _copies((_first(query, sequence), *sequence.parts, _last(query, sequence)))

    def take(self, now: int) -> bytes | bytearray:
        """The next chunk; nothing after the last.

        `now` in Unix seconds is asked for with each: a slow secondary's transfer may take longer than clocks may
        differ, and each signature has its own time (RFC 8945 5.3.1).
        """
        chunk, starts = next(self._copies, (bytearray(), list[int]()))
        for start in starts:
            chunk[start + 2 : start + 4] = self._ident
        return chunk if self._signer is None or not chunk else _signed(chunk, starts, self._signer, now)


def _copies(parts: Iterable[Compiled]) -> Iterator[tuple[bytearray, list[int]]]:
    """Chunks of whole messages, copied a stretch at a time; and where in each its messages begin."""
    chunk, starts = bytearray(), list[int]()
    for part in parts:
        view = memoryview(part)
        done = at = 0
        while at < len(view):
            starts.append(len(chunk) + at - done)
            at += 2 + (view[at] << 8 | view[at + 1])
            if len(chunk) + at - done >= CHUNK:
                chunk += view[done:at]
                yield chunk, starts
                chunk, starts, done = bytearray(), [], at
        chunk += view[done:at]
    if chunk:
        yield chunk, starts


def _signed(chunk: bytearray, starts: list[int], signer: Signer, now: int) -> bytes:
    """The chunk with a TSIG record behind each message, counted in its header and its prefix."""
    view = memoryview(chunk)
    pieces: list[bytes | memoryview] = []
    for start, end in pairwise((*starts, len(chunk))):
        record = signer.record(view[start + 2 : end], now)
        _U16.pack_into(chunk, start, end - start - 2 + len(record))
        chunk[start + 2 + 11] += 1  # additional: OPT at most, in the first
        pieces += (view[start:end], record)
    return b"".join(pieces)


def _first(query: Query, sequence: Sequence) -> bytes:
    return _prefixed(answer(query, NOERROR, sequence.first, sequence.first_count, authoritative=True))


def _last(query: Query, sequence: Sequence) -> bytes:
    counts = (0, sequence.last_count, 0, 0)
    return _prefixed(header(query.id, query.flags, NOERROR, more=AA, counts=counts) + sequence.last)


def _prefixed(message: bytes) -> bytes:
    return _U16.pack(len(message)) + message


def counted(serial: int, near: int) -> int:
    """The count behind a serial on the wire, which is one modulo 2^32: the nearest to `near`."""
    return near - ((near - serial + 2**31) % 2**32 - 2**31)


def newer(serial: int, than: int) -> bool:
    """Serial number arithmetic (RFC 1982 3.2)."""
    return 0 < (serial - than) % 2**32 < 2**31
