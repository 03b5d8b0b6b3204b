"""Names: of hosts and domains, as they stand in the DNS and in the host of a URL.

Canonical is what the WHATWG URL standard makes of a host: UTS 46 nontransitional to lower-case A-labels, with
CheckHyphens and UseSTD3ASCIIRules false, for real lists hold `r3---x` and `_dmarc`. Added to it: VerifyDnsLength
(RFC 1035 section 2.3.4), no trailing dot, and what would mean something else in a policy zone is refused.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

import can_ada

from blocklistd.kinds.refused import Refused

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

MAX_NAME: Final = 253  # octets without the trailing dot: 255 in wire format
MAX_LABEL: Final = 63  # octets
MAX_INPUT: Final = 4 * MAX_NAME  # characters; of 20,000 the Unicode normalisation takes 0.4 s

PLAIN_NAME: Final = r"(?=[a-z0-9._-]{{1,253}}+{end})(?:[a-z0-9_-]{{1,63}}+\.)*+(?!rpz-)[a-z][a-z0-9_-]{{0,62}}+{end}"
"""A pattern, before some `end`, of names that are canonical as they stand unless `xn--` is in them. A last label that
begins with a letter is never a number, so the name is no IPv4 address."""

PLAIN: Final = re.compile(PLAIN_NAME.format(end=r"\Z"))
_SYNTAX: Final = re.compile(r"[\x00-\x20\x7f/?#@:\\%\[\]]")  # what ends, splits or rewrites a host inside a URL


def name(value: str) -> str:
    """The canonical form of a host's or a domain's name.

    Refused: empty, character (it would be more than a name in a URL), not-a-name (UTS 46 or a number where the last
    label is), address, and what `checked` refuses.
    """
    return value if "xn--" not in value and PLAIN.fullmatch(value) else parsed_name(value)


def parsed_name(value: str) -> str:
    """What `name` answers where it can't see at once that the value is canonical."""
    if not value:
        raise Refused("empty")
    if len(value) > MAX_INPUT:
        raise Refused("name-too-long")
    if value.startswith("["):
        raise Refused("address")
    if _SYNTAX.search(value):
        raise Refused("character")
    host = _host(value)
    if not host:
        raise Refused("not-a-name")
    if is_address(host):
        raise Refused("address")
    return checked(host)


def checked(host: str) -> str:
    """A host that came out of a URL parser and is no address, without its trailing dot, if it is a name that can be
    listed.

    Refused: empty (the root, too), empty-label, label-too-long, name-too-long, wildcard (a label `*`), rpz-label (a
    last label that a policy zone takes for a trigger: `rpz-ip` and its like).
    """
    host = host.removesuffix(".")
    if not host:
        raise Refused("empty")
    if len(host) > MAX_NAME:
        raise Refused("name-too-long")
    labels = host.split(".")
    for label in labels:
        if not label:
            raise Refused("empty-label")
        if len(label) > MAX_LABEL:
            raise Refused("label-too-long")
        if label == "*":
            raise Refused("wildcard")
    if labels[-1].startswith("rpz-"):
        raise Refused("rpz-label")
    return host


def is_address(host: str) -> bool:
    """Whether a host that came out of a URL parser is an address: in brackets, or its last label is a number."""
    return host.startswith("[") or host.rpartition(".")[2].isdigit()


def is_public_suffix(name: str) -> bool:
    """Whether names right below a canonical one have different owners: by the Public Suffix List, or a single label."""
    return bool(_public_suffixes().publicsuffix(name) == name)


def _host(value: str) -> str | None:
    try:
        return can_ada.parse(f"http://{value}/").hostname
    except (ValueError, TypeError):  # TypeError: a surrogate
        return None


@cache
def _public_suffixes() -> PublicSuffixList:
    # Loaded on first use: the list takes 30 ms to read, and only composing asks it.
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList(accept_unknown=True)
