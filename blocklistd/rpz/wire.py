"""Compiles rules into the DNS messages of a zone transfer, once for each serial. A transfer sends them as they are, and
sets only the id in each header.

Every message has at most MESSAGE octets, so each offset in it is a valid compression target (RFC 1035 section 4.1.4).
The zone's name is written once a message; the owner of a wildcard is `*` and a pointer to the name before it.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from blocklistd.lines.keys import Buffer
from blocklistd.lines.snapshot import lines, position
from blocklistd.rpz.rules import WILDCARD

MESSAGE: Final = 16 * 1024 - 512  # octets: 16 KiB less the room for a TSIG record and the length prefix
BREAKS: Final = 512  # one name in so many, by its hash, always begins a message
HEADER: Final = 12  # octets
ANSWER_FLAGS: Final = 0x8400  # QR, AA (RFC 1035 section 4.1.1)
CNAME: Final = 5
SOA: Final = 6
NS: Final = 2
ZONEMD: Final = 63
IN: Final = 1

LENGTH: Final = [bytes([length]) for length in range(64)]
STAR: Final = b"\x01*"
_POINTER: Final = struct.Struct("!H").pack


@dataclass(frozen=True, slots=True)
class Action:
    """The record of each rule: `CNAME target`. `target` is in wire format, `ttl` in seconds."""

    target: bytes
    ttl: int


def wire_name(name: str) -> bytes:
    """Return a name in wire format, uncompressed (RFC 1035 section 3.1)."""
    labels = [label for label in name.encode().split(b".") if label]
    return b"".join(LENGTH[len(label)] + label for label in labels) + b"\0"


def compile_rules(rules: Iterable[bytes], zone: bytes, action: Action, lead: bytes = b"") -> Iterator[bytes]:
    """Yield length-prefixed messages with one CNAME record for each rule. `zone` is the zone's name in wire format.

    The rules are sorted (rpz.rules), a wildcard directly after its name. `lead` is a record that opens the first
    message; without rules there is no message, and no lead.
    """
    return (message for message, _ in _compiled(rules, zone, action, lead))


def _compiled(
    rules: Iterable[bytes], zone: bytes, action: Action, lead: bytes = b""
) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield each message with the rule that begins the next one; None after the last.

    A message ends where it is full, and before about one name in BREAKS, chosen by its hash. So a change affects only
    messages up to the next such name; the messages after it stay the same (recompile).
    """
    fixed = struct.pack("!HHIH", CNAME, IN, action.ttl, len(action.target)) + action.target
    full = MESSAGE - len(zone) - 255 - len(fixed)
    owners: list[bytes] = []  # of the message's records; each is followed by `fixed`
    size = HEADER + len(lead)
    wildcard = pointer = star = b""
    for rule in rules:
        if rule == wildcard and size <= full:
            owner = star
        else:
            if size > full or (owners and rule != wildcard and not crc32(rule) % BREAKS):
                yield _message(lead, owners, fixed), rule
                lead, owners, size, pointer = b"", [], HEADER, b""
            labels = rule.split(b"\0")
            labels.reverse()
            name = b"".join([LENGTH[len(label)] + label for label in labels])
            if pointer:
                owner = name + pointer
            else:
                pointer = _POINTER(0xC000 | size + len(name))
                owner = name + zone
            star = STAR + _POINTER(0xC000 | size)
            wildcard = rule + WILDCARD
        owners.append(owner)
        size += len(owner) + len(fixed)
    if owners:
        yield _message(lead, owners, fixed), None


def recompile(
    compiled: Buffer, rules: Buffer, changed: Sequence[bytes], zone: bytes, action: Action
) -> Iterator[bytes]:
    """Yield the messages that `compile_rules` makes of the sorted file `rules`, at a cost that grows with the change.

    `compiled`: the messages of an earlier file, which differs in the `changed` rules (sorted). Unchanged messages are
    copied.
    """
    firsts: list[bytes] = []
    begins: list[int] = []
    at = 0
    for message in messages(compiled):
        firsts.append(_first_rule(message, zone))
        begins.append(at)
        at += 2 + len(message)
    begins.append(at)
    numbers = {rule: number for number, rule in enumerate(firsts)}
    kept = 0  # messages before this one, and rules before `done`, are written
    done: bytes | None = b""  # None: everything is written
    for change in changed:
        if done is None:
            return
        if change < done:
            continue
        # the message with the rule, or the one before: the rule may have begun a message
        first = max(bisect_left(firsts, change) - 1, kept)
        yield compiled[begins[kept] : begins[first]]
        start = position(rules, firsts[first]) if first else 0
        done = None
        for made, following in _compiled(lines(rules, start), zone, action):
            yield made
            if following in numbers:
                kept, done = numbers[following], following
                break
    if done is not None:
        yield compiled[begins[kept] :]


def _first_rule(message: memoryview, zone: bytes) -> bytes:
    """The rule of a message's first record, whose owner is not compressed."""
    labels = []
    at = HEADER
    while message[at : at + len(zone)] != zone:
        end = at + 1 + message[at]
        labels.append(bytes(message[at + 1 : end]))
        at = end
    return b"\0".join(reversed(labels))


def _message(lead: bytes, owners: list[bytes], fixed: bytes) -> bytes:
    count = len(owners) + bool(lead)
    records = lead + fixed.join(owners) + fixed
    size = HEADER + len(records)
    return struct.pack("!HHHHHHH", size, 0, ANSWER_FLAGS, 0, count, 0, 0) + records


@dataclass(frozen=True, slots=True)
class Apex:
    """The records at the zone's own name: SOA, NS, and with `zonemd` ZONEMD (RFC 8976). Names are text, times in
    seconds; `minimum` is also the TTL of all. `digest`: of the zone (rpz/zonemd.py), in hex; "" in a plan, since each
    serial has its own."""

    zone: str
    mname: str
    rname: str
    refresh: int
    retry: int
    expire: int
    minimum: int
    ns: tuple[str, ...]
    zonemd: bool = False
    digest: str = ""

    def soa(self, serial: int) -> bytes:
        """Return the SOA record (RFC 1035 section 3.3.13) with `serial` modulo 2^32."""
        times = (serial % 2**32, self.refresh, self.retry, self.expire, self.minimum)
        return self._record(SOA, wire_name(self.mname) + wire_name(self.rname) + struct.pack("!IIIII", *times))

    def server_records(self, but: Collection[str] = ()) -> list[bytes]:
        """Return the NS records, without the servers in `but`."""
        return [self._record(NS, wire_name(server)) for server in self.ns if server not in but]

    def except_soa(self, serial: int, but: Collection[str] = ()) -> tuple[bytes, int]:
        """Return the NS records, without the servers in `but`, and the ZONEMD record of `serial`; and their number."""
        found = self.server_records(but)
        if self.digest:  # scheme SIMPLE, SHA-384 (RFC 8976 section 2.2)
            found.append(self._record(ZONEMD, struct.pack("!IBB", serial % 2**32, 1, 1) + bytes.fromhex(self.digest)))
        return b"".join(found), len(found)

    def _record(self, kind: int, data: bytes) -> bytes:
        return wire_name(self.zone) + struct.pack("!HHIH", kind, IN, self.minimum, len(data)) + data


def messages(compiled: Buffer | memoryview) -> Iterator[memoryview]:
    """Yield the messages of a compiled file, without their length prefixes."""
    view = memoryview(compiled)
    start = 0
    while start < len(view):
        (size,) = struct.unpack_from("!H", view, start)
        yield view[start + 2 : start + 2 + size]
        start += 2 + size
