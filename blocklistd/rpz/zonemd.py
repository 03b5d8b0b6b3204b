"""The digest of a zone's ZONEMD record (RFC 8976): scheme SIMPLE, SHA-384 over all records in canonical form. Pure.

The digest covers the SOA with its serial, so each serial needs its own; it does not cover the ZONEMD record itself
(section 3.3.1). Rules are sorted in canonical DNS order already (rpz/rules.py).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Final

from blocklistd.rpz.rules import WILDCARD
from blocklistd.rpz.wire import CNAME, IN, LENGTH, STAR, Action, Apex, wire_name

_BLOCK: Final = 1 << 13  # records that are hashed at once


def zone_digest(apex: Apex, serial: int, rules: Iterable[bytes], action: Action) -> str:
    """Return the digest, in hex, of a zone with these sorted rules."""
    zone = wire_name(apex.zone)
    # of one owner the RRsets are sorted by type, and the records of an RRset by their data (RFC 8976 section 3.3.1)
    servers = replace(apex, ns=tuple(sorted(apex.ns, key=wire_name)))
    digest = hashlib.sha384(b"".join(servers.server_records()) + apex.soa(serial))
    end = zone + struct.pack("!HHIH", CNAME, IN, action.ttl, len(action.target)) + action.target
    owners = _owners(rules)
    while block := list(islice(owners, _BLOCK)):
        digest.update(end.join(chain(block, (b"",))))
    return digest.hexdigest()


def _owners(rules: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the owner of each rule below the zone, in wire format."""
    owner = wildcard = b""
    for rule in rules:
        if rule == wildcard:
            yield STAR + owner
        else:
            labels = rule.split(b"\0")
            labels.reverse()
            owner = b"".join([LENGTH[len(label)] + label for label in labels])
            wildcard = rule + WILDCARD
            yield owner
