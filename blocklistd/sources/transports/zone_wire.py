"""Reads the messages of a zone transfer, and writes their records as lines of a master file. Pure.

dnspython takes 100 µs to read and write a record, this module 4 µs: names and the usual types are read directly, and
dnspython reads the data of rarer types. Names are written in lower case, relative to the zone, or absolute if they are
not in it.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.rdtypes.ANY.TSIG import TSIG

from blocklistd.sources.formats.zonefile import TYPES

CNAME: Final = 5
SOA: Final = 6
IN: Final = 1
_MAX_NAME: Final = 255  # octets (RFC 1035 section 2.3.4)
_MAX_POINTERS: Final = 64  # of one name; each points to an earlier one
_HEADER: Final = struct.Struct("!HHHHHH")
_FIXED: Final = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_TIMES: Final = struct.Struct("!IIIII")
_PLAIN: Final = re.compile(rb"[A-Za-z0-9_*-]+")
_SPECIAL: Final = re.compile(rb"[^A-Za-z0-9_*-]")
_BY_DNSPYTHON: Final = frozenset(
    dns.rdatatype.from_text(name)
    for name in (
        *("A", "AAAA", "NS", "PTR", "MX", "TXT", "SRV", "NAPTR", "DNAME", "HINFO", "RP", "AFSDB", "RT", "KX", "PX"),
        *("CAA", "SPF", "TLSA", "SSHFP"),
    )
)
"""Types whose data dnspython reads: those that may have compressed names (RFC 3597 section 4), and frequent ones. Any
other data is written in hex (RFC 3597 section 5)."""


class WireError(ValueError):
    """The octets are no DNS message of a zone transfer."""


class WireRecord(NamedTuple):
    """A record. `owner`: `@` for the zone itself. `data`: as a master file has it. `serial`: of an SOA, else 0."""

    owner: bytes
    type: int
    ttl: int
    data: bytes
    serial: int

    @property
    def is_apex_soa(self) -> bool:
        """Whether this is the zone's SOA."""
        return self.type == SOA and self.owner == b"@"

    def line(self) -> bytes:
        """The record as a line of a master file, with its newline."""
        type = b"CNAME" if self.type == CNAME else _mnemonic(self.type)
        return b"%b %d IN %b %b\n" % (self.owner, self.ttl, type, self.data)


class TransferSignature(NamedTuple):
    """The TSIG record of a message. `start`: its offset."""

    start: int
    key: dns.name.Name
    record: TSIG


@dataclass(slots=True)
class WireMessage:
    """An answer. `question`: name, type and class; None if the message repeats no question."""

    id: int
    flags: int
    question: tuple[bytes, int, int] | None
    answer: list[WireRecord]
    signature: TransferSignature | None

    @property
    def rcode(self) -> int:
        """The response code (RFC 1035 section 4.1.1)."""
        return self.flags & 0xF


def load() -> None:
    """Import the modules of the types that dnspython reads: it would import them with the first record."""
    for type in _BY_DNSPYTHON:
        dns.rdata.get_rdata_class(dns.rdataclass.IN, type)  # type: ignore[no-untyped-call]
    dns.rdata.get_rdata_class(dns.rdataclass.ANY, dns.rdatatype.TSIG)  # type: ignore[no-untyped-call]


def read_message(wire: bytes, zone: bytes) -> WireMessage:
    """Read a message. `zone`: its name in lower case, with the final dot. Raises WireError."""
    try:
        return _Reader(wire, b"." + zone).read()
    except (IndexError, struct.error, dns.exception.DNSException, ValueError):
        raise WireError from None


@dataclass(slots=True)
class _Reader:
    """`ending`: the zone's name after a dot. `names`: by offset, each name that a pointer led to, and its length in
    octets."""

    wire: bytes
    ending: bytes
    names: dict[int, tuple[bytes, int]] = field(default_factory=dict)

    def read(self) -> WireMessage:
        wire = self.wire
        id, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(wire)
        if questions > 1:
            raise WireError
        at, question = _HEADER.size, None
        if questions:
            name, at = self._name(at)
            type, rdclass = struct.unpack_from("!HH", wire, at)
            question = name, type, rdclass
            at += 4
        found = []
        for _ in range(answers):
            record, at = self._record(at)
            found.append(record)
        signature = None
        for number in range(authorities + additionals):
            start = at
            _, at = self._name(at)
            type, _, _, length = _FIXED.unpack_from(wire, at)
            at += _FIXED.size + length
            if type == dns.rdatatype.TSIG:
                if number != authorities + additionals - 1 or not additionals:
                    raise WireError
                signature = self._signature(start, at, length)
        if at != len(wire):
            raise WireError
        return WireMessage(id, flags, question, found, signature)

    def _record(self, at: int) -> tuple[WireRecord, int]:
        wire = self.wire
        owner, at = self._name(at)
        type, rdclass, ttl, length = _FIXED.unpack_from(wire, at)
        at += _FIXED.size
        end = at + length
        if rdclass != IN or end > len(wire):
            raise WireError
        serial = 0
        if type == CNAME:
            data, stop = self._name(at)
            if stop != end:
                raise WireError
        elif type == SOA:
            mname, stop = self._name(at)
            rname, stop = self._name(stop)
            times = _TIMES.unpack_from(wire, stop)
            if stop + _TIMES.size != end:
                raise WireError
            serial = times[0]
            data = b"%b %b %d %d %d %d %d" % (mname, rname, *times)
        elif type in _BY_DNSPYTHON:
            data = dns.rdata.from_wire(dns.rdataclass.IN, type, wire, at, length).to_text().encode()
        else:
            data = b"\\# %d %b" % (length, wire[at:end].hex().encode()) if length else b"\\# 0"
        ending = self.ending
        if owner.endswith(ending):
            owner = owner[: -len(ending)]
        elif owner == ending[1:]:
            owner = b"@"
        return WireRecord(owner, type, ttl, data, serial), end

    def _name(self, at: int) -> tuple[bytes, int]:
        """The name at an offset, absolute, and the offset after it."""
        (text, _), at = self._name_and_length(at, _MAX_POINTERS)
        return text, at

    def _name_and_length(self, at: int, pointers: int) -> tuple[tuple[bytes, int], int]:
        wire, start, octets = self.wire, at, 1
        labels: list[bytes] = []
        while length := wire[at]:
            if length >= 0xC0:
                target = (length & 0x3F) << 8 | wire[at + 1]
                found = self.names.get(target)
                if found is None:
                    if target >= start or not pointers:
                        raise WireError
                    found, _ = self._name_and_length(target, pointers - 1)
                    self.names[target] = found
                tail, more = found
                octets += more - 1
                if octets > _MAX_NAME:
                    raise WireError
                if labels:
                    tail = b".".join(labels) + (b"." if tail == b"." else b"." + tail)
                return (tail, octets), at + 2
            label = wire[at + 1 : at + 1 + length]
            if length > 63 or len(label) != length:
                raise WireError
            at += 1 + length
            octets += 1 + length
            labels.append(label.lower() if _PLAIN.fullmatch(label) else _SPECIAL.sub(_escaped, label.lower()))
        if octets > _MAX_NAME:
            raise WireError
        return (b".".join(labels) + b".", octets), at + 1

    def _signature(self, start: int, end: int, length: int) -> TransferSignature:
        key, _ = dns.name.from_wire(self.wire, start)
        record = dns.rdata.from_wire(dns.rdataclass.ANY, dns.rdatatype.TSIG, self.wire, end - length, length)
        assert isinstance(record, TSIG)
        return TransferSignature(start, key, record)


def _mnemonic(type: int) -> bytes:
    """The name of a type in a master file that formats/zonefile.py reads."""
    name = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(type)).encode()
    return name if name in TYPES else b"TYPE%d" % type


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"\\%03d" % found[0][0]
