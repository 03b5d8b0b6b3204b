"""The owner names of rules about addresses in answers (draft-vixie-dnsop-dns-rpz section 4.3): the labels of a prefix,
below `rpz-ip`. Pure.

`192.0.2.0/24` is `24.0.2.0.192.rpz-ip`, `2001:db8::1` is `128.1.zz.db8.2001.rpz-ip`: the length, then the octets or the
groups from the last to the first. `zz` stands for the `::` of the canonical text (kinds/ip.py). BIND ignores a rule
with any other owner.
"""

from __future__ import annotations

from typing import Final

from blocklistd.kinds.invalid import InvalidEntry
from blocklistd.kinds.ip import ip

LABEL: Final = "rpz-ip"
_GROUPS: Final = 8  # of an IPv6 address


def ip_owner(value: str) -> str:
    """The owner of the rule for a canonical value, below the zone."""
    address, _, length = value.partition("/")
    if ":" in address:
        first, double, last = address.partition("::")
        parts = first.split(":") if first else []
        if double:
            parts += ["zz", *(last.split(":") if last else [])]
        length = length or "128"
    else:
        parts, length = address.split("."), length or "32"
    return ".".join([length, *reversed(parts), LABEL])


def ip_of_owner(owner: str) -> str:
    """The canonical value of the address or prefix that an owner below a zone is about. `owner` has lower-case
    letters; unlike BIND, this reads zeros that are written out.

    Raises InvalidEntry: not-an-address, and the reasons of `kinds.ip.ip`.
    """
    last, *labels = reversed(owner.split("."))
    if last != LABEL or not labels:
        raise InvalidEntry("not-an-address")
    length = labels.pop()
    if len(labels) == 4 and "zz" not in labels:
        return ip(f"{'.'.join(labels)}/{length}")
    if labels.count("zz") == 1:
        at = labels.index("zz")
        labels[at : at + 1] = ["0"] * (_GROUPS + 1 - len(labels))
    if len(labels) != _GROUPS:
        raise InvalidEntry("not-an-address")
    return ip(f"{':'.join(labels)}/{length}")
