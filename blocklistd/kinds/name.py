"""Names of hosts and domains, as in the DNS and in the host of a URL.

The canonical form is the host that the WHATWG URL standard parses: UTS 46 nontransitional processing to lower-case
A-labels, with CheckHyphens false. Stricter than the standard: VerifyDnsLength (RFC 1035 section 2.3.4), no trailing
dot, and labels consist of letters, digits, `-` and `_` (real lists contain `r3---x` and `_dmarc`). A name that has
another meaning in a policy zone is refused. An A-label that needs a newer Unicode than the library's is kept unchanged.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

import can_ada

from blocklistd.kinds.invalid import InvalidEntry

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

MAX_NAME: Final = 253  # octets without the trailing dot: 255 in wire format
MAX_LABEL: Final = 63  # octets

PLAIN_NAME: Final = (
    r"(?=[a-z0-9._-]{{1,253}}+{end})(?:[a-z0-9_-]{{1,63}}+\.){dots}+(?!rpz-)[a-z][a-z0-9_-]{{0,62}}+{end}"
)
"""A template of a pattern of canonical names; a name that contains `xn--` may match and not be canonical.

`end`: the pattern of the text after the name. `dots`: `*` to allow a single label, `+` to require two. A last label
that begins with a letter is not a number, so the name is not an IPv4 address.
"""

PLAIN: Final = re.compile(PLAIN_NAME.format(end=r"\Z", dots="*"))
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._*\x80-\U0010ffff-]")  # in ASCII; `*` is refused as a wildcard later
_LABELS: Final = re.compile(r"[a-z0-9._-]*")
_A_LABEL: Final = re.compile(
    r"(?<![^.\u3002\uff0e\uff61])xn--([a-z0-9-]{1,59})(?![^.\u3002\uff0e\uff61:])", re.I | re.A
)
_PLACEHOLDER: Final = "xn!!"  # the library accepts it as the beginning of an ordinary label, and no name contains it


def name(value: str) -> str:
    """The canonical form of the name of a host or a domain, of at most MAX_NAME octets.

    Raises InvalidEntry: empty, name-too-long, character (an ASCII character that occurs in no name), not-a-name (it
    fails UTS 46, or its last label is a number and it is no address), address, and the reasons of `listable_host`.
    """
    return value if "xn--" not in value and PLAIN.fullmatch(value) else parsed_name(value)


def parsed_name(value: str) -> str:
    """`name` for a value that PLAIN does not match: slower, with the library's parser."""
    if not value:
        raise InvalidEntry("empty")
    if len(value) > MAX_NAME + 1:  # characters of Unicode, too: their normalisation takes 1 µs each
        raise InvalidEntry("name-too-long")
    if value.startswith("["):
        raise InvalidEntry("address")
    if _NOT_IN_NAMES.search(value):
        raise InvalidEntry("character")
    host = _host(value) or _newer_host(value)
    if not host:
        raise InvalidEntry("not-a-name")
    if is_address(host):
        raise InvalidEntry("address")
    return listable_host(host)


def listable_host(host: str) -> str:
    """A host from a URL parser, which is no address, without its trailing dot.

    Raises InvalidEntry: empty (or the root), empty-label, label-too-long, name-too-long, wildcard (a label `*`),
    rpz-label (a last label that a policy zone reads as a trigger, such as `rpz-ip`), character (one that occurs in no
    name).
    """
    host = host.removesuffix(".")
    if not host:
        raise InvalidEntry("empty")
    if len(host) > MAX_NAME:
        raise InvalidEntry("name-too-long")
    labels = host.split(".")
    for label in labels:
        if not label:
            raise InvalidEntry("empty-label")
        if len(label) > MAX_LABEL:
            raise InvalidEntry("label-too-long")
        if label == "*":
            raise InvalidEntry("wildcard")
    if not _LABELS.fullmatch(host):
        raise InvalidEntry("character")
    if labels[-1].startswith("rpz-"):
        raise InvalidEntry("rpz-label")
    return host


def is_address(host: str) -> bool:
    """Whether a host from a URL parser is an address: it is in brackets, or its last label is a number."""
    return host.startswith("[") or host.rpartition(".")[2].isdigit()


def is_public_suffix(name: str) -> bool:
    """Whether a canonical name is on the Public Suffix List, so that the names directly below it have different owners.
    A single label always is a public suffix."""
    return bool(may_be_public_suffixes([name.encode()])) and bool(_public_suffixes().publicsuffix(name) == name)


def may_be_public_suffixes(names: Sequence[bytes]) -> list[int]:
    """The indexes of the canonical names that may be public suffixes: those of a rule or directly below one with `*`,
    and single labels. Costs a tenth of `is_public_suffix`, and is exact but for the exceptions of `*`."""
    exact, parents = _suffix_rules()
    return [at for at, name in enumerate(names) if name in exact or name.partition(b".")[2] in parents]


# -- A-labels of a newer Unicode ---------------------------------------------------------------------------------------


def hide_newer_labels(host: str) -> str:
    """Replace the `xn--` of each A-label that is newer than the library's table, so that the library keeps the label.

    `host` may have a port, and is not parsed yet. Returns "" if it has no such label.
    """
    if _PLACEHOLDER in host.lower():
        return ""
    hidden = _A_LABEL.sub(
        lambda label: (_PLACEHOLDER if _is_newer(label[1].lower()) else label[0][:4]) + label[1], host
    )
    return hidden if _PLACEHOLDER in hidden else ""


def restore_newer_labels(parsed: str, hidden: str) -> str:
    """Undo `hide_newer_labels` in a parsed host. `hidden` is the host before it was parsed."""
    # percent-encoding in the original may have made placeholders that are none of ours
    is_ours = parsed.count(_PLACEHOLDER) == hidden.count(_PLACEHOLDER)
    return parsed.replace(_PLACEHOLDER, "xn--") if is_ours else parsed


def _newer_host(value: str) -> str | None:
    hidden = hide_newer_labels(value)
    host = _host(hidden) if hidden else None
    return restore_newer_labels(host, hidden) if host else None


def _is_newer(encoded: str) -> bool:
    """Whether an A-label (its Punycode, without `xn--`) contains characters that the library does not know, and would
    be valid with a known letter in place of each."""
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
    """The host as the library parses it; None if it is invalid."""
    try:
        return can_ada.parse(f"http://{value}/").hostname
    except (ValueError, TypeError):  # TypeError: a surrogate
        return None


@cache
def _suffix_rules() -> tuple[frozenset[bytes], frozenset[bytes]]:
    """The names in the rules of the Public Suffix List, and the names after `*.` (and the empty one, the parent of
    single labels)."""
    rules = {rule.encode() for rule in _public_suffixes()._publicsuffix}
    parents = {rule[2:] for rule in rules if rule.startswith(b"*.")}
    return frozenset(rules | parents), frozenset(parents | {b""})


@cache
def _public_suffixes() -> PublicSuffixList:
    # Loaded on first use: reading the list takes 30 ms, and only composing needs it.
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList(accept_unknown=True)
