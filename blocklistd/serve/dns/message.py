"""DNS messages as this server needs them: a request read, an answer made (RFC 1035, 1995, 6891). Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from blocklistd.limits import MAX_DNS_REQUEST
from blocklistd.serve.dns.tsig import ANY, TSIG, Record

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
PAYLOAD: Final = 1232  # octets of UDP that we take, and send to those who take as many (RFC 9715)
LEAST_PAYLOAD: Final = 512  # octets of UDP that everyone takes (RFC 1035 2.3.4)
LABEL: Final = 63  # octets of a label, and of a name on the wire (RFC 1035 2.3.4)
NAME: Final = 255
POINTER: Final = 0xC0
RECORDS: Final = 1, 1, 2
"""The most records of a request in its answer (NOTIFY's SOA), authority (IXFR's SOA) and additional (OPT, TSIG)
sections."""


class Malformed(Exception):
    """A message that can't be read; `answer` is what to say, b"" for silence."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__("malformed")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Query:
    """A request. Names are on the wire and lower case; `question` is the section as it was asked. `serial` is that of
    an IXFR's client. `edns` is its version, None without OPT; `payload` are the octets of an answer over UDP."""

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
    tsig: Record | None
    payload: int = LEAST_PAYLOAD


def parse(wire: bytes) -> Query:
    """Parses a request. Raises Malformed and nothing else, whatever the bytes.

    The time is bounded: the size and the counts in the header are checked before any name is read, and names that are
    not needed are skipped.
    """
    if len(wire) < HEADER:
        raise Malformed
    ident, flags, questions, *counts = struct.unpack_from("!6H", wire)
    if flags & QR:
        raise Malformed  # an answer is answered by nobody
    opcode = flags >> 11 & 15
    bounded = len(wire) <= MAX_DNS_REQUEST and all(map(int.__le__, counts, RECORDS))
    if opcode not in (QUERY, NOTIFY) and not (questions == 1 and bounded):
        return Query(wire, ident, flags, opcode, b"\0", 0, 0, b"", None, None, None)
    try:
        if questions != 1 or not bounded:
            raise ValueError
        return _parse(wire, ident, flags, opcode, counts)
    except (struct.error, IndexError, ValueError):
        raise Malformed(header(ident, flags, FORMERR)) from None


def _parse(wire: bytes, ident: int, flags: int, opcode: int, counts: list[int]) -> Query:
    name, at = _name(wire, HEADER)
    kind, klass = struct.unpack_from("!HH", wire, at)
    at += 4
    question = wire[HEADER:at]
    serial, edns, tsig, payload = None, None, None, LEAST_PAYLOAD
    for section, count in enumerate(counts):
        for index in range(count):
            start, fixed = at, _skip(wire, at)
            rtype, rclass, ttl, length = struct.unpack_from("!HHIH", wire, fixed)
            data = fixed + 10
            at = data + length
            if at > len(wire):
                raise ValueError
            if section == 1 and rtype == SOA:
                if _skip(wire, _skip(wire, data)) + 20 != at:
                    raise ValueError
                (serial,) = struct.unpack_from("!I", wire, at - 20)
            elif section == 2 and rtype == OPT:
                if edns is not None or wire[start]:
                    raise ValueError
                edns = ttl >> 16 & 255
                payload = min(max(rclass, LEAST_PAYLOAD), PAYLOAD)
            elif rtype == TSIG:
                if section != 2 or index != count - 1 or rclass != ANY or ttl:
                    raise ValueError  # RFC 8945 4.2, 5.1: TSIG is the last record, of class ANY, with TTL 0
                tsig = _tsig(wire, start, data, at)
    if at != len(wire):
        raise ValueError
    return Query(wire, ident, flags, opcode, name, kind, klass, question, serial, edns, tsig, payload)


def _tsig(wire: bytes, start: int, data: int, end: int) -> Record:
    owner, _ = _name(wire, start)
    algorithm, at = _name(wire, data)
    high, low, fudge, size = struct.unpack_from("!HIHH", wire, at)
    at += 10
    mac = wire[at : at + size]
    at += size
    original, error, size = struct.unpack_from("!HHH", wire, at)
    at += 6
    if at + size != end:
        raise ValueError
    return Record(start, owner, algorithm, high << 32 | low, fudge, mac, original, error, wire[at:end])


def _skip(wire: bytes, at: int) -> int:
    """The offset after the name that begins at `at`. Pointers are not followed. Raises ValueError, IndexError."""
    start = at
    while length := wire[at]:
        if length >= POINTER:
            return at + 2
        at += 1 + length
        if length > LABEL or at - start >= NAME:
            raise ValueError
    return at + 1


def _name(wire: bytes, at: int) -> tuple[bytes, int]:
    """A name in lower case, uncompressed, and the offset after it (RFC 1035 4.1.4). Raises ValueError, IndexError.

    A pointer must lead back, to a label. A pointer to a pointer is refused: a chain of them could be as long as the
    message, and no software writes one.
    """
    end = _skip(wire, at)
    labels, size = [], 1
    while length := wire[at]:
        if length >= POINTER:
            target = (length & LABEL) << 8 | wire[at + 1]
            if not HEADER <= target < at or wire[target] >= POINTER:
                raise ValueError
            at = target
            continue
        size += 1 + length
        if length > LABEL or size > NAME:
            raise ValueError
        labels.append(wire[at : at + 1 + length])
        at += 1 + length
    return b"".join(labels).lower() + b"\0", end


def header(
    ident: int, flags: int, rcode: int, *, more: int = 0, counts: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> bytes:
    """The header of an answer to a request with these flags: its opcode and RD come back."""
    return struct.pack("!6H", ident, QR | flags & (0x7800 | RD) | more | rcode & 15, *counts)


def answer(query: Query, rcode: int, records: bytes = b"", count: int = 0, *, authoritative: bool = False) -> bytes:
    """An answer of one message, or the first of several."""
    opt = _opt(query, rcode)
    more = AA if authoritative else 0
    counts = (int(bool(query.question)), count, 0, int(bool(opt)))
    return header(query.id, query.flags, rcode, more=more, counts=counts) + query.question + records + opt


def truncated(query: Query) -> bytes:
    """What says to ask again over TCP (RFC 2181 9)."""
    opt = _opt(query, NOERROR)
    return header(query.id, query.flags, NOERROR, more=TC, counts=(1, 0, 0, int(bool(opt)))) + query.question + opt


def _opt(query: Query, rcode: int) -> bytes:
    """OPT where the request had it (RFC 6891 6.1.1)."""
    if query.edns is None:
        return b""
    return struct.pack("!BHHIH", 0, OPT, PAYLOAD, (rcode >> 4) << 24, 0)
