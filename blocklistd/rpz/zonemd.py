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
_PARENTS: Final = 1000  # names that are kept in wire format


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
    parents = {b"": b""}  # in wire format; most names have a parent that was just used
    owner = wildcard = b""
    for rule in rules:
        if rule == wildcard:
            yield STAR + owner
            continue
        parent, _, label = rule.rpartition(b"\0")
        below = parents.get(parent)
        if below is None:
            if len(parents) > _PARENTS:
                parents = {b"": b""}
            labels = reversed(parent.split(b"\0"))
            below = parents[parent] = b"".join([LENGTH[len(one)] + one for one in labels])
        owner = LENGTH[len(label)] + label + below
        wildcard = rule + WILDCARD
        yield owner
