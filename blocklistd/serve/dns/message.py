"""Parses DNS requests and builds answers: the parts of RFC 1035, 1995, 1996, 6891 and 8945 that this server needs.

Pure. Names are in wire format, without compression and in lower case.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from blocklistd.limits import MAX_DNS_REQUEST
from blocklistd.serve.dns.tsig import ANY, TSIG, TsigRecord

HEADER: Final = 12
QUERY: Final = 0
NOTIFY: Final = 4
SOA: Final = 6
OPT: Final = 41
IXFR: Final = 251
AXFR: Final = 252
IN: Final = 1

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NOTIMP: Final = 4
REFUSED: Final = 5
NOTAUTH: Final = 9
BADVERS: Final = 16

QR: Final = 0x8000
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
MAX_UDP_PAYLOAD: Final = 1232  # octets: the largest UDP message that this server accepts and sends (RFC 9715)
MIN_UDP_PAYLOAD: Final = 512  # octets of a UDP message that every client accepts (RFC 1035 2.3.4)
MAX_LABEL: Final = 63  # octets (RFC 1035 2.3.4)
MAX_NAME: Final = 255  # octets in wire format, with the root label (RFC 1035 2.3.4)
POINTER: Final = 0xC0  # the two high bits of a compression pointer (RFC 1035 4.1.4)
MAX_RECORDS: Final = 1, 1, 2
"""The most records of a request in its answer section (NOTIFY's SOA), its authority section (IXFR's SOA) and its
additional section (OPT, TSIG)."""


class Malformed(Exception):
    """A message that can't be parsed. `answer` is the answer to send, or b"" to send none."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__("malformed")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed request.

    `question` is the question section as it arrived. `serial` is the client's serial, from the SOA of an IXFR request.
    `edns` is the EDNS version, None without an OPT record. `payload` is the largest UDP answer to send, in octets.
    """

    wire: bytes
    id: int
    flags: int
    opcode: int
    name: bytes
    type: int
    klass: int
    question: bytes
    serial: int | None
    edns: int | None
    tsig: TsigRecord | None
    payload: int = MIN_UDP_PAYLOAD


def parse(wire: bytes) -> Query:
    """Parses a request. Raises Malformed and nothing else, whatever the bytes.

    The time is bounded: the size and the counts in the header are checked before any name is read, and names that are
    not needed are skipped. An unknown opcode with other counts is no error: its Query has an empty question.
    """
    if len(wire) < HEADER:
        raise Malformed
    ident, flags, questions, *counts = struct.unpack_from("!6H", wire)
    if flags & QR:
        raise Malformed  # an answer to an answer could begin an endless exchange
    opcode = flags >> 11 & 15
    bounded = len(wire) <= MAX_DNS_REQUEST and all(map(int.__le__, counts, MAX_RECORDS))
    if opcode not in (QUERY, NOTIFY) and not (questions == 1 and bounded):
        return Query(wire, ident, flags, opcode, b"\0", 0, 0, b"", None, None, None)
    try:
        if questions != 1 or not bounded:
            raise ValueError
        return _parse_sections(wire, ident, flags, opcode, counts)
    except (struct.error, IndexError, ValueError):
        raise Malformed(header(ident, flags, FORMERR)) from None


def _parse_sections(wire: bytes, ident: int, flags: int, opcode: int, counts: list[int]) -> Query:
    """Parses all after the header. Raises struct.error, IndexError, ValueError."""
    name, at = _read_name(wire, HEADER)
    kind, klass = struct.unpack_from("!HH", wire, at)
    at += 4
    question = wire[HEADER:at]
    serial, edns, tsig, payload = None, None, None, MIN_UDP_PAYLOAD
    for section, count in enumerate(counts):
        for index in range(count):
            start, after_name = at, _skip_name(wire, at)
            rtype, rclass, ttl, length = struct.unpack_from("!HHIH", wire, after_name)
            data = after_name + 10
            at = data + length
            if at > len(wire):
                raise ValueError
            if section == 1 and rtype == SOA:
                if _skip_name(wire, _skip_name(wire, data)) + 20 != at:
                    raise ValueError
                (serial,) = struct.unpack_from("!I", wire, at - 20)  # RFC 1035 3.3.13: five numbers end the SOA
            elif section == 2 and rtype == OPT:
                if edns is not None or wire[start]:
                    raise ValueError  # RFC 6891 6.1.1, 6.1.2: one OPT, and its owner is the root
                edns = ttl >> 16 & 255
                payload = min(max(rclass, MIN_UDP_PAYLOAD), MAX_UDP_PAYLOAD)
            elif rtype == TSIG:
                if section != 2 or index != count - 1 or rclass != ANY or ttl:
                    raise ValueError  # RFC 8945 4.2, 5.1: TSIG is the last record, of class ANY, with TTL 0
                tsig = _parse_tsig(wire, start, data, at)
    if at != len(wire):
        raise ValueError
    return Query(wire, ident, flags, opcode, name, kind, klass, question, serial, edns, tsig, payload)


def _parse_tsig(wire: bytes, start: int, data: int, end: int) -> TsigRecord:
    """Parses the TSIG record at `start`, whose RDATA is at `data` to `end` (RFC 8945 4.2)."""
    owner, _ = _read_name(wire, start)
    algorithm, at = _read_name(wire, data)
    if at - data != len(algorithm):
        raise ValueError  # RFC 8945 4.2, RFC 3597 4: this name is never compressed
    time_high, time_low, fudge, size = struct.unpack_from("!HIHH", wire, at)
    at += 10
    mac = wire[at : at + size]
    at += size
    original, error, size = struct.unpack_from("!HHH", wire, at)
    at += 6
    if at + size != end:
        raise ValueError
    time = time_high << 32 | time_low
    return TsigRecord(start, owner, algorithm, time, fudge, mac, original, error, wire[at:end])


def _skip_name(wire: bytes, at: int) -> int:
    """The offset after the name that begins at `at`. Pointers are not followed. Raises ValueError, IndexError."""
    start = at
    while length := wire[at]:
        if length >= POINTER:
            return at + 2
        at += 1 + length
        if length > MAX_LABEL or at - start >= MAX_NAME:
            raise ValueError
    return at + 1


def _read_name(wire: bytes, at: int) -> tuple[bytes, int]:
    """The name at `at`, in lower case and uncompressed, and the offset after it. Raises ValueError, IndexError.

    A compression pointer (RFC 1035 4.1.4) must lead to an earlier label. A pointer to a pointer is an error: a chain of
    pointers could be as long as the message, and no known software writes one.
    """
    end = _skip_name(wire, at)
    labels, size = [], 1
    while length := wire[at]:
        if length >= POINTER:
            target = (length & MAX_LABEL) << 8 | wire[at + 1]
            if not HEADER <= target < at or wire[target] >= POINTER:
                raise ValueError
            at = target
            continue
        size += 1 + length
        if length > MAX_LABEL or size > MAX_NAME:
            raise ValueError
        labels.append(wire[at : at + 1 + length])
        at += 1 + length
    return b"".join(labels).lower() + b"\0", end


def header(
    ident: int, flags: int, rcode: int, *, set_flags: int = 0, counts: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> bytes:
    """The header of an answer to a request with `flags`: repeats the opcode and RD, adds QR and `set_flags`.

    `counts` are the records of the four sections (RFC 1035 4.1.1).
    """
    return struct.pack("!6H", ident, QR | flags & (0x7800 | RD) | set_flags | rcode & 15, *counts)


def answer(query: Query, rcode: int, records: bytes = b"", count: int = 0, *, authoritative: bool = False) -> bytes:
    """An answer of one message, or the first message of a transfer; `records` are the `count` answer records."""
    opt = _opt_record(query, rcode)
    flags = AA if authoritative else 0
    counts = (int(bool(query.question)), count, 0, int(bool(opt)))
    return header(query.id, query.flags, rcode, set_flags=flags, counts=counts) + query.question + records + opt


def truncated(query: Query) -> bytes:
    """An empty answer with TC: the client repeats the query over TCP (RFC 2181 9)."""
    opt = _opt_record(query, NOERROR)
    counts = (1, 0, 0, int(bool(opt)))
    return header(query.id, query.flags, NOERROR, set_flags=TC, counts=counts) + query.question + opt


def _opt_record(query: Query, rcode: int) -> bytes:
    """An OPT record with the high bits of the response code, b"" if the request had no OPT (RFC 6891 6.1.1, 6.1.3)."""
    if query.edns is None:
        return b""
    return struct.pack("!BHHIH", 0, OPT, MAX_UDP_PAYLOAD, (rcode >> 4) << 24, 0)
