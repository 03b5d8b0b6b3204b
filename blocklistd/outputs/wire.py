"""Rules as DNS messages, compiled once: a transfer sends them as they are, with another id in each header.

Every message is at most MESSAGE octets, so each offset in it is a valid compression target (RFC 1035 4.1.4). The zone's
name is written once a message; a wildcard is `*` and a pointer to its own name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from blocklistd.outputs.rules import WILDCARD

MESSAGE: Final = 16 * 1024 - 512  # octets, the rest is for a TSIG record and the length prefix
HEADER: Final = 12
ANSWER_FLAGS: Final = 0x8400  # QR, AA
CNAME: Final = 5
SOA: Final = 6
NS: Final = 2
IN: Final = 1

_LENGTH: Final = [bytes([length]) for length in range(64)]
_STAR: Final = b"\x01*"


@dataclass(frozen=True, slots=True)
class Action:
    """What a rule says: `CNAME target` with a TTL in seconds. `target` is a name on the wire."""

    target: bytes
    ttl: int


def wire_name(name: str) -> bytes:
    """A name on the wire, uncompressed (RFC 1035 3.1)."""
    labels = [label for label in name.encode().split(b".") if label]
    return b"".join(_LENGTH[len(label)] + label for label in labels) + b"\0"


def compile_rules(rules: Iterable[bytes], zone: bytes, action: Action, lead: bytes = b"") -> Iterator[bytes]:
    """Length-prefixed messages with one CNAME record for each rule; `zone` is its name on the wire.

    The rules come in their order (outputs.rules), a wildcard right behind its name. `lead` is a record that opens the
    first message; without a rule there is no message, and no lead.
    """
    fixed = struct.pack("!HHIH", CNAME, IN, action.ttl, len(action.target)) + action.target
    largest = len(zone) + 255 + len(fixed)
    body: list[bytes] = [lead] if lead else []
    size, count, led = HEADER + len(lead), 0, int(bool(lead))
    apex = base = 0  # offsets of the zone's name, and of the name that a wildcard would be of
    last = b""
    pointer = b""
    for rule in rules:
        if size + largest > MESSAGE:
            yield _message(body, size, count + led)
            body, size, count, led, apex, last = [], HEADER, 0, 0, 0, b""
        if last and rule == last + WILDCARD:
            owner = _STAR + struct.pack("!H", 0xC000 | base)
        else:
            labels = b"".join([_LENGTH[len(label)] + label for label in reversed(rule.split(b"\0"))])
            base, last = size, rule
            if apex:
                owner = labels + pointer
            else:
                apex = size + len(labels)
                pointer = struct.pack("!H", 0xC000 | apex)
                owner = labels + zone
        body += (owner, fixed)
        size += len(owner) + len(fixed)
        count += 1
    if count:
        yield _message(body, size, count + led)


def _message(body: list[bytes], size: int, count: int) -> bytes:
    return struct.pack("!HHHHHHH", size, 0, ANSWER_FLAGS, 0, count, 0, 0) + b"".join(body)


@dataclass(frozen=True, slots=True)
class Apex:
    """What stands at a zone's own name. Names are as they are written, times in seconds; `minimum` is the TTL too."""

    zone: str
    mname: str
    rname: str
    refresh: int
    retry: int
    expire: int
    minimum: int
    ns: tuple[str, ...]

    def soa(self, serial: int) -> bytes:
        """The SOA record (RFC 1035 3.3.13); a serial goes on the wire modulo 2^32."""
        times = (serial % 2**32, self.refresh, self.retry, self.expire, self.minimum)
        return self._record(SOA, wire_name(self.mname) + wire_name(self.rname) + struct.pack("!IIIII", *times))

    def servers(self) -> tuple[bytes, int]:
        """The NS records, and how many they are."""
        return b"".join(self._record(NS, wire_name(server)) for server in self.ns), len(self.ns)

    def _record(self, kind: int, data: bytes) -> bytes:
        return wire_name(self.zone) + struct.pack("!HHIH", kind, IN, self.minimum, len(data)) + data


def messages(compiled: bytes | memoryview) -> Iterator[memoryview]:
    """The messages of what was compiled, without their prefixes."""
    view = memoryview(compiled)
    start = 0
    while start < len(view):
        (size,) = struct.unpack_from("!H", view, start)
        yield view[start + 2 : start + 2 + size]
        start += 2 + size
