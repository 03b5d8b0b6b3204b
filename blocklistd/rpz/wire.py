"""Rules as DNS messages, compiled once: a transfer sends them as they are, with another id in each header.

Every message is at most MESSAGE octets, so each offset in it is a valid compression target (RFC 1035 4.1.4). The zone's
name is written once a message; a wildcard is `*` and a pointer to its own name.
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

MESSAGE: Final = 16 * 1024 - 512  # octets, the rest is for a TSIG record and the length prefix
BREAKS: Final = 512
HEADER: Final = 12
ANSWER_FLAGS: Final = 0x8400  # QR, AA
CNAME: Final = 5
SOA: Final = 6
NS: Final = 2
IN: Final = 1

_LENGTH: Final = [bytes([length]) for length in range(64)]
_STAR: Final = b"\x01*"
_POINTER: Final = struct.Struct("!H").pack


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

    The rules come in their order (rpz.rules), a wildcard right behind its name. `lead` is a record that opens the
    first message; without a rule there is no message, and no lead.
    """
    return (message for message, _ in _compiled(rules, zone, action, lead))


def _compiled(
    rules: Iterable[bytes], zone: bytes, action: Action, lead: bytes = b""
) -> Iterator[tuple[bytes, bytes | None]]:
    """Each message, and the rule that begins the next.

    A message ends where it is full, and before about one name in BREAKS, by its hash: so whatever changes, messages
    behind the next such name are what they were (recompile).
    """
    fixed = struct.pack("!HHIH", CNAME, IN, action.ttl, len(action.target)) + action.target
    full = MESSAGE - len(zone) - 255 - len(fixed)
    owners: list[bytes] = []  # of the message's records, each of which goes on with `fixed`
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
            name = b"".join([_LENGTH[len(label)] + label for label in labels])
            if pointer:
                owner = name + pointer
            else:
                pointer = _POINTER(0xC000 | size + len(name))
                owner = name + zone
            star = _STAR + _POINTER(0xC000 | size)
            wildcard = rule + WILDCARD
        owners.append(owner)
        size += len(owner) + len(fixed)
    if owners:
        yield _message(lead, owners, fixed), None


def recompile(
    compiled: Buffer, rules: Buffer, changed: Sequence[bytes], zone: bytes, action: Action
) -> Iterator[bytes]:
    """What `compile_rules` makes of a sorted file of rules, from what it made of an earlier one that differs in the
    `changed` rules (sorted): messages in which nothing changed are taken as they are."""
    firsts: list[bytes] = []
    begins: list[int] = []
    at = 0
    for message in messages(compiled):
        firsts.append(_first_rule(message, zone))
        begins.append(at)
        at += 2 + len(message)
    begins.append(at)
    places = {rule: number for number, rule in enumerate(firsts)}
    kept = 0  # messages before this one, and rules before `done`, are dealt with
    done: bytes | None = b""
    for change in changed:
        if done is None:
            return
        if change < done:
            continue
        first = max(bisect_left(firsts, change) - 1, kept)  # where it stands, would stand, or where it began the next
        yield compiled[begins[kept] : begins[first]]
        start = position(rules, firsts[first]) if first else 0
        done = None
        for made, following in _compiled(lines(rules, start), zone, action):
            yield made
            if following in places:
                kept, done = places[following], following
                break
    if done is not None:
        yield compiled[begins[kept] :]


def _first_rule(message: memoryview, zone: bytes) -> bytes:
    """The rule of a message's first record, whose owner is written out."""
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

    def servers(self, but: Collection[str] = ()) -> tuple[bytes, int]:
        """The NS records, without those that are in `but`, and how many they are."""
        ns = [server for server in self.ns if server not in but]
        return b"".join(self._record(NS, wire_name(server)) for server in ns), len(ns)

    def _record(self, kind: int, data: bytes) -> bytes:
        return wire_name(self.zone) + struct.pack("!HHIH", kind, IN, self.minimum, len(data)) + data


def messages(compiled: Buffer | memoryview) -> Iterator[memoryview]:
    """The messages of what was compiled, without their prefixes."""
    view = memoryview(compiled)
    start = 0
    while start < len(view):
        (size,) = struct.unpack_from("!H", view, start)
        yield view[start + 2 : start + 2 + size]
        start += 2 + size
