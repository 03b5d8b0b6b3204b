"""The format `rpz`: a Response Policy Zone as a zone file (RFC 1035, 5), for resolvers that read their policy from one.

Owners are relative: the zone has the name that the resolver gives it. Rules answer NXDOMAIN.
"""

from __future__ import annotations

from typing import BinaryIO, Final

from blocklistd.rpz.rules import names, rules

_APEX: Final = b"$TTL 60\n@ SOA localhost. nobody.invalid. 1 3600 600 604800 60\n@ NS localhost.\n"

_LONGEST_ZONE: Final = "x" * 40
"""A name as long as that of the zone in the resolver may be: a longer owner would make the whole file unusable."""


def render(snapshot: BinaryIO, out: BinaryIO) -> int:
    """Write the rules of the domains, hosts and addresses. Returns the number of skipped entries: of other types, and
    those whose name is too long for a rule. An entry below a listed domain needs no rule and is not skipped."""
    entries = [line.rstrip(b"\n") for line in snapshot]
    found = names(entries)
    made = rules(found, _LONGEST_ZONE)
    out.write(_APEX)
    for rule in made.lines:
        out.write(b".".join(reversed(rule.split(b"\0"))) + b" CNAME .\n")
    return len(entries) - len(found) + len(set(made.omitted))
