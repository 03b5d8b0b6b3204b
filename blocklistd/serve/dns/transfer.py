"""Zone transfers: the messages of an AXFR (RFC 5936) or an IXFR (RFC 1995). Pure; the time is an argument.

Order of calls: `axfr` or `ixfr` gives the records, `Stream` makes messages of them, `Stream.take` returns them chunk by
chunk until it returns b"". All messages are of one serial, whatever is published meanwhile: the compiled messages come
from files that do not change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from blocklistd.serve.dns.message import AA, NOERROR, Query, answer, header
from blocklistd.serve.dns.tsig import Signer

CHUNK: Final = 128 * 1024  # octets after which a chunk ends, with the message that is under way
_MESSAGE: Final = 2 + 0xFFFF  # octets of the longest message, with its TSIG record and its length prefix
_U16: Final = struct.Struct("!H")

Compiled = bytes | memoryview
"""Messages with their TCP length prefix (RFC 1035 4.2.2), compiled by rpz.wire. Stream sets their ids."""


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class TransferRecords:
    """The records of a transfer: those of the first message, the compiled messages, those of the last message. `kind`:
    "AXFR" for a complete zone, "IXFR" for a difference."""

    kind: str
    first: bytes
    first_count: int
    parts: tuple[Compiled, ...]
    last: bytes
    last_count: int = 1


def axfr(soa: bytes, apex: tuple[bytes, int], compiled: Compiled) -> TransferRecords:
    """A complete zone (RFC 5936 2.2): the apex, the rules, SOA. `apex`: its records without SOA, and their number."""
    return TransferRecords("AXFR", soa + apex[0], 1 + apex[1], (compiled,), soa)


NO_RECORDS: Final = b"", 0


def ixfr(
    new: bytes,
    old: bytes,
    removed: Compiled,
    added: Compiled,
    apex_removed: tuple[bytes, int] = NO_RECORDS,
    apex_added: tuple[bytes, int] = NO_RECORDS,
) -> TransferRecords:
    """One difference (RFC 1995 4): SOA(new), SOA(old), removed records, SOA(new), added records, SOA(new).

    `new` and `old` are SOA records. `apex_removed` and `apex_added` are records of the apex, and their number. `added`
    begins with SOA(new), in one message with the first added record: some clients (kdig) take a message that ends with
    the new SOA for the last one.
    """
    first, last = (new + old + apex_removed[0], 2 + apex_removed[1]), (apex_added[0] + new, apex_added[1] + 1)
    if not added:
        return TransferRecords("IXFR", *first, (removed,), new + last[0], 1 + last[1])
    return TransferRecords("IXFR", *first, (removed, added), *last)


class Stream:
    """The messages of a transfer, in chunks of complete messages with their TCP length prefix.

    Each message has the request's id and, with a `signer`, a TSIG record. The question is repeated in the first message
    only (RFC 5936 2.2.1).
    """

    def __init__(self, query: Query, records: TransferRecords, signer: Signer | None) -> None:
        parts = (_first_message(query, records), *records.parts, _last_message(query, records))
        self._ident = query.id.to_bytes(2, "big")
        self._signer = signer
        self._chunks = _chunks(parts)
        self._messages = chain.from_iterable(messages(memoryview(part)) for part in parts)

    def take(self, now: int) -> bytearray | memoryview:
        """The next chunk; empty after the last.

        `now`, in Unix seconds, is the time of the chunk's signatures (RFC 8945 5.3.1). A transfer to a slow secondary
        may take longer than FUDGE, so each chunk needs the present time.
        """
        if self._signer is not None:
            return self._take_signed(self._signer, now)
        chunk, starts = next(self._chunks, (bytearray(), list[int]()))
        for start in starts:
            chunk[start + 2 : start + 4] = self._ident
        return chunk

    def _take_signed(self, signer: Signer, now: int) -> memoryview:
        """A chunk in which a TSIG record ends each message; header counts and length prefixes include it.

        Messages and records are written into one buffer: to join them afterwards took a fifth of the time.
        """
        chunk = memoryview(bytearray(CHUNK + _MESSAGE))
        at = 0
        while at < CHUNK and (message := next(self._messages, None)) is not None:
            end = at + len(message)
            chunk[at:end] = message
            chunk[at + 2 : at + 4] = self._ident
            record = signer.record(chunk[at + 2 : end], now)
            chunk[at + 2 + 11] += 1  # low octet of ARCOUNT: at most 1 (OPT) before
            _U16.pack_into(chunk, at, len(message) - 2 + len(record))
            at = end + len(record)
            chunk[end:at] = record
        return chunk[:at]


def _chunks(parts: Iterable[Compiled]) -> Iterator[tuple[bytearray, list[int]]]:
    """Chunks of complete messages, and the offsets at which the messages begin in each.

    Adjacent messages are copied with one slice.
    """
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


def messages(stream: memoryview) -> Iterator[memoryview]:
    """The messages of a stream of complete messages, each with its TCP length prefix.

    On TLS each message begins a record of its own: Unbound 1.17 reads one message, then waits for bytes on its socket,
    although the rest of the record is in its TLS buffer already.
    """
    at = 0
    while at < len(stream):
        end = at + 2 + (stream[at] << 8 | stream[at + 1])
        yield stream[at:end]
        at = end


def _first_message(query: Query, records: TransferRecords) -> bytes:
    return _prefixed(answer(query, NOERROR, records.first, records.first_count, authoritative=True))


def _last_message(query: Query, records: TransferRecords) -> bytes:
    counts = (0, records.last_count, 0, 0)
    return _prefixed(header(query.id, query.flags, NOERROR, set_flags=AA, counts=counts) + records.last)


def _prefixed(message: bytes) -> bytes:
    return _U16.pack(len(message)) + message


def unwrap_serial(serial: int, near: int) -> int:
    """Unwraps a 32-bit serial: the number nearest to `near` that equals `serial` modulo 2^32."""
    return near - ((near - serial + 2**31) % 2**32 - 2**31)


def is_newer(serial: int, than: int) -> bool:
    """Whether the serial is greater than the other, by serial number arithmetic (RFC 1982 3.2)."""
    return 0 < (serial - than) % 2**32 < 2**31
