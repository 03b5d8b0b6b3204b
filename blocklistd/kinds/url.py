"""URLs: parsed by the WHATWG URL standard, then normalised further where two texts always mean the same resource."""

from __future__ import annotations

import re
import string
from typing import Final

import can_ada

from blocklistd.kinds.name import MAX_INPUT, PLAIN_NAME, checked, is_address
from blocklistd.kinds.refused import Refused
from blocklistd.limits import MAX_URL, MAX_URL_INPUT
from blocklistd.model import FRAGMENT

# What is canonical as it stands and needs no parser, which halves the cost: no A-label, port, `%` or dot-segment.
_HOST: Final = "https?://" + PLAIN_NAME.format(end="/")
_SEGMENT: Final = r"(?!\.\.?(?:[/?]|\Z))[A-Za-z0-9._~!$&'()*+,;=:@-]*+"
_QUERY: Final = r"(?:\?[A-Za-z0-9._~!$&()*+,;=:@/?-]*+)?"
PLAIN: Final = re.compile(rf"{_HOST}{_SEGMENT}(?:/{_SEGMENT})*+{_QUERY}")
# the same at three quarters of the cost for who has seen that there is no `/.`, and so no dot-segment
PLAIN_UNDOTTED: Final = re.compile(rf"{_HOST}[A-Za-z0-9._~!$&'()*+,;=:@/-]*+{_QUERY}")

_PARTS: Final = re.compile(r"(https?://)(?:[^/@]*@)?(\[[^/]*\]|[^/:]*)(:[0-9]+)?(/[^#]*)(?:#(.*))?")
_AUTHORITY: Final = re.compile(r"[^:/?#\\]*:[/\\\t\n\r]*([^/?#\\]*)")  # of a text that was not parsed yet
_ADDRESS: Final = re.compile(r"https?://(?:\[|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+[:/])")

_TRIPLET: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_STRAY: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _normal_triplets(decoded: str) -> dict[str, str]:
    """Each percent-encoded octet, however it is spelt, to its normal form, which for those in `decoded` is itself."""
    spelt = ((f"%{high}{low}", int(high + low, 16)) for high in string.hexdigits for low in string.hexdigits)
    return {triplet: chr(octet) if chr(octet) in decoded else triplet.upper() for triplet, octet in spelt}


_UNRESERVED: Final = string.ascii_letters + string.digits + "-._~"  # RFC 3986 section 2.3
_NORMAL: Final = _normal_triplets(_UNRESERVED)
_NORMAL_BESIDE_STRAY: Final = _normal_triplets("".join(set(_UNRESERVED) - set(string.hexdigits)))


def url(value: str) -> str:
    """The canonical form of an http or https URL: no user info, no fragment, no default port, normal percent-encoding.

    The host is an address, or a name as `name.checked` has it. As the standard says, tabs and newlines are dropped
    wherever they stand; other control characters are percent-encoded, or make it no URL. Refused: not-a-url, scheme,
    url-too-long, fragment (there is nothing else behind the host: it may carry the path), and what `checked` refuses.
    """
    canonical = value if "xn--" not in value and PLAIN.fullmatch(value) else parsed_url(value)
    if len(canonical) > MAX_URL:
        raise Refused("url-too-long")
    return canonical


def parsed_url(value: str) -> str:
    """What `url` answers where it can't see at once that the value is canonical; the length is looked at only where
    the work would grow with it."""
    if len(value) > MAX_INPUT:
        if len(value) > MAX_URL_INPUT:
            raise Refused("url-too-long")
        authority = _AUTHORITY.match(value)
        if authority is not None and len(authority[1].rpartition("@")[2]) > MAX_INPUT:
            raise Refused("name-too-long")
    href = _href(value)
    if href is None:
        raise Refused("not-a-url")
    if len(href) > MAX_URL_INPUT:
        raise Refused("url-too-long")
    # As the parser wrote it: user info, where there is any, ends in the only `@` before the path.
    parts = _PARTS.fullmatch(href)
    if parts is None:
        raise Refused("scheme")
    scheme, host, port, rest, fragment = parts.groups(default="")
    if not is_address(host):
        host = checked(host)
    if fragment and rest in ("/", "/?"):
        raise Refused(FRAGMENT)
    return f"{scheme}{host}{port}{_normal_percents(rest)}"


def is_address_url(value: str) -> bool:
    """Whether the host of a canonical URL is an IPv4 or IPv6 address."""
    return _ADDRESS.match(value) is not None


def _href(value: str) -> str | None:
    try:
        return can_ada.parse(value).href
    except (ValueError, TypeError):  # TypeError: a surrogate
        return None


def _normal_percents(text: str) -> str:
    """Path and query with upper-case triplets and unreserved characters decoded (RFC 3986 section 6.2.2).

    The result parses to itself: the parser has already taken `%2e` for a dot in dot-segments. And it is normal: beside
    a stray `%` an encoded hex digit stays as it is, since decoding it could make a new triplet (`%%32e`).
    """
    if "%" not in text:
        return text
    normal = _NORMAL_BESIDE_STRAY if _STRAY.search(text) else _NORMAL
    return _TRIPLET.sub(lambda triplet: normal[triplet[0]], text)
