"""Rules about addresses in answers, in a Response Policy Zone that is read: `rpz-ip`. Pure.

BIND takes the rule with the longest prefix, so an exception inside of a listed prefix makes a hole, which no entry can
express.
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress

from blocklistd.kinds.invalid import InvalidEntry
from blocklistd.kinds.ip import containing
from blocklistd.rpz.addresses import ip_of_owner, ip_owner


def ip_value(owner: bytes) -> str:
    """The canonical value of an owner below `rpz-ip`. Raises InvalidEntry."""
    return ip_of_owner(owner.decode("ascii", "backslashreplace"))


def owners_around(owner: bytes) -> list[bytes]:
    """The owners, in their usual form, of the rule of an exception and of those whose prefixes contain its own; none if
    the owner is no prefix that can be an entry."""
    with suppress(InvalidEntry):
        return [ip_owner(value).encode() for value in containing(ip_value(owner))]
    return []


def has_hole(owner: bytes, inexpressible: Container[bytes]) -> bool:
    """Whether there is an exception in the prefix of this owner. `inexpressible`: owners in their usual form."""
    return any(usual in inexpressible for usual in owners_around(owner)[:1])
