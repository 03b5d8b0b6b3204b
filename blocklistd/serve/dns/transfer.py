"""Zone transfers: the messages of an AXFR (RFC 5936) or an IXFR (RFC 1995). Pure; the time is an argument.

Order of calls: `axfr` or `ixfr` gives the records, `Stream` makes messages of them, `Stream.take` returns them chunk by
chunk until it returns b"". All messages are of one serial, whatever is published meanwhile: the compiled messages come
from files that do not change.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from blocklistd.serve.dns.message import AA, NOERROR, Query, answer, header
from blocklistd.serve.dns.tsig import Signer

CHUNK: Final = 256 * 1024  # octets of messages that are read at once
_MESSAGE: Final = 2 + 0xFFFF  # octets of the longest message, with its TSIG record and its length prefix
_U16: Final = struct.Struct("!H")


class RandomAccess(Protocol):
    """Bytes that are read from elsewhere, such as a file."""

    def __len__(self) -> int: ...

    def read(self, at: int, into: memoryview) -> None:
        """Fills `into` with the bytes from offset `at` on."""


Compiled = bytes | memoryview | RandomAccess
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
        self._parts = iter((_first_message(query, records), *records.parts, _last_message(query, records)))
        self._part: Compiled = b""
        self._at = 0  # offset in the part of the next bytes to read
        self._ident = query.id.to_bytes(2, "big")
        self._signer = signer
        self._read = _buffer(CHUNK)
        self._starts = [0]  # offsets of the messages in `_read`, and of their end
        self._next = 0  # index in `_starts` of the next message to sign
        self._signed = memoryview(b"") if signer is None else _buffer(CHUNK + _MESSAGE)

    def take(self, now: int, *, reuse: bool = False) -> memoryview:
        """The next chunk; empty after the last. `reuse`: the chunk before is not needed any more, and its memory may be
        used for this one.

        `now`, in Unix seconds, is the time of the chunk's signatures (RFC 8945 5.3.1). A transfer to a slow secondary
        may take longer than FUDGE, so each chunk needs the present time. Raises what reading raises.
        """
        if self._signer is not None:
            if not reuse:
                self._signed = _buffer(CHUNK + _MESSAGE)
            return self._take_signed(self._signer, now)
        if not reuse:
            self._read = _buffer(CHUNK)
        self._fill()
        return self._read[: self._starts[-1]]

    def _take_signed(self, signer: Signer, now: int) -> memoryview:
        """A chunk in which a TSIG record ends each message; header counts and length prefixes include it."""
        chunk = self._signed
        at = 0
        while at < CHUNK:
            if self._next + 1 >= len(self._starts) and not self._fill():
                break
            start, stop = self._starts[self._next : self._next + 2]
            self._next += 1
            end = at + stop - start
            chunk[at:end] = self._read[start:stop]
            record = signer.record(chunk[at + 2 : end], now)
            chunk[at + 2 + 11] += 1  # low octet of ARCOUNT: at most 1 (OPT) before
            _U16.pack_into(chunk, at, end - at - 2 + len(record))
            at = end + len(record)
            chunk[end:at] = record
        return chunk[:at]

    def _fill(self) -> bool:
        """Reads the next complete messages, and sets their ids. False after the last message."""
        buffer, ident = self._read, self._ident
        starts = [end := 0]
        while True:
            while self._at == len(self._part):
                part = next(self._parts, None)
                if part is None:
                    self._starts, self._next = starts, 0
                    return end > 0
                self._part, self._at = part, 0
            begin, stop = end, min(end + len(self._part) - self._at, CHUNK)
            _read(self._part, self._at, buffer[begin:stop])
            while end + 2 <= stop and (after := end + 2 + (buffer[end] << 8 | buffer[end + 1])) <= stop:
                buffer[end + 2 : end + 4] = ident
                end = after
                starts.append(end)
            self._at += end - begin
            if self._at < len(self._part):  # the next message does not fit
                if not end:
                    raise ValueError("the last message is cut short")
                self._starts, self._next = starts, 0
                return True


def _buffer(size: int) -> memoryview:
    """New memory, which the kernel gets back at its end: the C library would keep that of many transfers at once."""
    return memoryview(mmap.mmap(-1, size))


def _read(part: Compiled, at: int, into: memoryview) -> None:
    if isinstance(part, bytes | memoryview):
        into[:] = part[at : at + len(into)]
    else:
        part.read(at, into)


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
