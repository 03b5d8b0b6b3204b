"""Catalog zones (RFC 9432), version 2: a secondary configures itself for the zones that a catalog names. Pure.

A subscriber's catalog has one member for each of its zones: a PTR record below `zones`, whose owner is a hash of the
zone's name. So a member keeps its owner, and the secondary the zone's data, whatever else changes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

from blocklistd.rpz.wire import ANSWER_FLAGS, HEADER, IN, MESSAGE, Apex, wire_name

_PTR: Final = 12
_TXT: Final = 16
_TTL: Final = 0  # seconds: no resolver asks for these records (RFC 9432 section 4.1)
_VERSION: Final = b"\x012"


def catalog_apex(name: str) -> Apex:
    """Return the apex of a catalog: nobody resolves its names, so its servers are `invalid` (RFC 9432 section 4.1)."""
    day = 24 * 60 * 60
    return Apex(name, "invalid", "invalid", refresh=60, retry=30, expire=28 * day, minimum=_TTL, ns=("invalid",))


def member_label(zone: str) -> str:
    """Return the label of a member: the hash of the zone's name, in hex."""
    return hashlib.blake2b(wire_name(zone), digest_size=16).hexdigest()


def compile_catalog(name: str, members: Iterable[str]) -> bytes:
    """Return the records below the apex, as length-prefixed messages (as in rpz.wire)."""
    records = [_record(f"version.{name}", _TXT, _VERSION)]
    records += [_record(f"{member_label(zone)}.zones.{name}", _PTR, wire_name(zone)) for zone in sorted(members)]
    made = []
    while records:
        size, count = HEADER, 0
        while count < len(records) and size + len(records[count]) <= MESSAGE:
            size += len(records[count])
            count += 1
        made += [struct.pack("!HHHHHHH", size, 0, ANSWER_FLAGS, 0, count, 0, 0), *records[:count]]
        del records[:count]
    return b"".join(made)


def _record(owner: str, kind: int, data: bytes) -> bytes:
    return wire_name(owner) + struct.pack("!HHIH", kind, IN, _TTL, len(data)) + data
