"""Names: of hosts and domains, as they stand in the DNS and in the host of a URL.

Canonical is what the WHATWG URL standard makes of a host: UTS 46 nontransitional to lower-case A-labels, with
CheckHyphens false. Added to it: VerifyDnsLength (RFC 1035 section 2.3.4), no trailing dot, and labels of letters,
digits, `-` and `_` alone (real lists hold `r3---x` and `_dmarc`). A name that would mean something else in a policy
zone is refused. An A-label of a newer Unicode than the library's is kept as it is.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Final

import can_ada

from blocklistd.kinds.refused import Refused

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

MAX_NAME: Final = 253  # octets without the trailing dot: 255 in wire format
MAX_LABEL: Final = 63  # octets

PLAIN_NAME: Final = (
    r"(?=[a-z0-9._-]{{1,253}}+{end})(?:[a-z0-9_-]{{1,63}}+\.){dots}+(?!rpz-)[a-z][a-z0-9_-]{{0,62}}+{end}"
)
"""A template of a pattern for names that are canonical, unless they contain `xn--`. `end` is what follows the name,
`dots` is `*` or `+`. A last label that begins with a letter is never a number, so the name is no IPv4 address."""

PLAIN: Final = re.compile(PLAIN_NAME.format(end=r"\Z", dots="*"))
_FOREIGN: Final = re.compile(
    r"[^A-Za-z0-9._*\x80-\U0010ffff-]"
)  # ASCII that is in no name; `*` has a reason of its own
_LABELS: Final = re.compile(r"[a-z0-9._-]*")
_A_LABEL: Final = re.compile(
    r"(?<![^.\u3002\uff0e\uff61])xn--([a-z0-9-]{1,59})(?![^.\u3002\uff0e\uff61:])", re.I | re.A
)
_STAND_IN: Final = "xn!!"  # the library accepts it as an ordinary label, and no name contains it


def name(value: str) -> str:
    """The canonical form of a host's or a domain's name.

    Refused: empty, character (of ASCII, in no name), not-a-name (UTS 46 or a number where the last label is), address,
    and what `checked` refuses.
    """
    return value if "xn--" not in value and PLAIN.fullmatch(value) else parsed_name(value)


def parsed_name(value: str) -> str:
    """What `name` answers where it can't see at once that the value is canonical."""
    if not value:
        raise Refused("empty")
    if len(value) > MAX_NAME + 1:  # of Unicode, too: its normalisation takes 1 µs a character
        raise Refused("name-too-long")
    if value.startswith("["):
        raise Refused("address")
    if _FOREIGN.search(value):
        raise Refused("character")
    host = _host(value) or _newer_host(value)
    if not host:
        raise Refused("not-a-name")
    if is_address(host):
        raise Refused("address")
    return checked(host)


def checked(host: str) -> str:
    """A host that came out of a URL parser and is no address, without its trailing dot, if it is a name that can be
    listed.

    Refused: empty (the root, too), empty-label, label-too-long, name-too-long, wildcard (a label `*`), rpz-label (a
    last label that a policy zone takes for a trigger: `rpz-ip` and its like), character (none of a name).
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
    if not _LABELS.fullmatch(host):
        raise Refused("character")
    if labels[-1].startswith("rpz-"):
        raise Refused("rpz-label")
    return host


def is_address(host: str) -> bool:
    """Whether a host that came out of a URL parser is an address: in brackets, or its last label is a number."""
    return host.startswith("[") or host.rpartition(".")[2].isdigit()


def is_public_suffix(name: str) -> bool:
    """Whether names right below a canonical one have different owners: by the Public Suffix List, or a single label."""
    return bool(_public_suffixes().publicsuffix(name) == name)


# -- A-labels of a newer Unicode ---------------------------------------------------------------------------------------


def disguised(host: str) -> str:
    """A host, perhaps with a port, to be parsed by the library: the `xn--` of each A-label that is newer than its table
    is replaced by _STAND_IN, so that it keeps the label. "" where there is none."""
    if _STAND_IN in host.lower():
        return ""
    found = _A_LABEL.sub(lambda label: (_STAND_IN if _is_newer(label[1].lower()) else label[0][:4]) + label[1], host)
    return found if _STAND_IN in found else ""


def revealed(host: str, disguised: str) -> str:
    """A disguised host after it was parsed, with the A-labels as they were."""
    as_many = host.count(_STAND_IN) == disguised.count(_STAND_IN)  # others may have been percent-encoded
    return host.replace(_STAND_IN, "xn--") if as_many else host


def _newer_host(value: str) -> str | None:
    hidden = disguised(value)
    host = _host(hidden) if hidden else None
    return revealed(host, hidden) if host else None


def _is_newer(encoded: str) -> bool:
    """Whether an A-label (its Punycode, without `xn--`) has characters that the library does not know, and is valid
    with a known letter in the place of each."""
    try:
        text = encoded.encode("ascii").decode("punycode")
        if text.encode("punycode").decode("ascii") != encoded:
            return False
        known = "".join("\u4e00" if _is_unassigned(character) else character for character in text)
        return known != text and _host(f"xn--{known.encode('punycode').decode('ascii')}") is not None
    except (UnicodeError, ValueError, OverflowError):
        return False


def _is_unassigned(character: str) -> bool:
    code = ord(character)
    is_noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return unicodedata.category(character) == "Cn" and not is_noncharacter and _host(character) is None


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
