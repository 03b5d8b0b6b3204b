"""DNS messages as this server needs them: a request read, an answer made (RFC 1035, 1995, 6891). Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.name
import dns.wire

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
    """Reads a request; raises Malformed. Never anything else, whatever the bytes."""
    if len(wire) < HEADER:
        raise Malformed
    ident, flags, questions, answers, authority, additional = struct.unpack_from("!6H", wire)
    if flags & QR:
        raise Malformed  # an answer is answered by nobody
    opcode = flags >> 11 & 15
    try:
        return _parse(wire, ident, flags, opcode, (questions, answers, authority, additional))
    except (dns.exception.DNSException, struct.error, IndexError, ValueError):
        raise Malformed(header(ident, flags, FORMERR)) from None


def _parse(wire: bytes, ident: int, flags: int, opcode: int, counts: tuple[int, int, int, int]) -> Query:
    parser = dns.wire.Parser(wire, HEADER)
    if counts[0] != 1:
        if opcode not in (QUERY, NOTIFY):
            return Query(wire, ident, flags, opcode, b"\0", 0, 0, b"", None, None, None)
        raise dns.exception.FormError
    name = parser.get_name(decompress=True)
    kind, klass = parser.get_struct("!HH")
    question = wire[HEADER : parser.current]
    serial, edns, tsig, payload = None, None, None, LEAST_PAYLOAD
    for section, count in enumerate(counts[1:]):
        for index in range(count):
            start = parser.current
            owner = parser.get_name(decompress=True)
            rtype, rclass, ttl, length = parser.get_struct("!HHIH")
            with parser.restrict_to(length):
                if section == 1 and rtype == SOA and serial is None:
                    parser.get_name(decompress=True)
                    parser.get_name(decompress=True)
                    (serial, *_) = parser.get_struct("!IIIII")
                elif section == 2 and rtype == OPT:
                    if edns is not None or owner != dns.name.root:
                        raise dns.exception.FormError
                    edns = ttl >> 16 & 255
                    payload = min(max(rclass, LEAST_PAYLOAD), PAYLOAD)
                    parser.get_remaining()
                elif rtype == TSIG:
                    if section != 2 or index != count - 1 or rclass != ANY or ttl:
                        raise dns.exception.FormError  # RFC 8945 4.2, 5.1: so and last, or the message is malformed
                    tsig = _tsig(parser, start, owner)
                else:
                    parser.get_remaining()
    if parser.remaining():
        raise dns.exception.FormError
    return Query(wire, ident, flags, opcode, _wire(name), kind, klass, question, serial, edns, tsig, payload)


def _tsig(parser: dns.wire.Parser, start: int, owner: dns.name.Name) -> Record:
    algorithm = parser.get_name(decompress=True)
    high, low, fudge = parser.get_struct("!HIH")
    mac = parser.get_counted_bytes(2)
    original, error = parser.get_struct("!HH")
    other = parser.get_counted_bytes(2)
    return Record(start, _wire(owner), _wire(algorithm), high << 32 | low, fudge, mac, original, error, other)


def _wire(name: dns.name.Name) -> bytes:
    return name.canonicalize().to_digestable()


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
