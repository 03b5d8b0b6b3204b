"""The format `rpz`: a Response Policy Zone as a zone file (RFC 1035, 5), for resolvers that read their policy from one.

Owners are relative: the zone has the name that the resolver gives it. Rules answer NXDOMAIN. It can express hosts,
domains and addresses.
"""

from __future__ import annotations

from typing import BinaryIO, Final

from blocklistd.outputs.reading import Out, uncovered
from blocklistd.rpz.addresses import ip_owner
from blocklistd.rpz.rules import longest_rule

_APEX: Final = b"$TTL 60\n@ SOA localhost. nobody.invalid. 1 3600 600 604800 60\n@ NS localhost.\n"

_LONGEST: Final = longest_rule("x" * 40)
"""Bytes of an owner: the name of the zone in the resolver may have 40. A longer owner would make the file unusable."""


def render(snapshot: BinaryIO, out: Out) -> int:
    """Write the rules. Returns the number of omitted entries: of other types, and those of which a name is too long for
    a rule. An entry below a listed domain needs no rule and is not omitted."""
    omitted = 0
    out.write(_APEX)
    for kind, value in uncovered(snapshot):
        owners = _owners(kind, value)
        fitting = [owner for owner in owners if len(owner) <= _LONGEST]
        out.write(b"".join(owner + b" CNAME .\n" for owner in fitting))
        omitted += not owners or len(fitting) < len(owners)
    return omitted


def _owners(kind: bytes, value: bytes) -> tuple[bytes, ...]:
    match kind:
        case b"domain":
            return value, b"*." + value
        case b"host":
            return (value,)
        case b"ip":
            return (ip_owner(value.decode()).encode(),)
    return ()
