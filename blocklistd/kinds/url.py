"""URLs: parsed by the WHATWG URL standard, then normalised where two spellings always mean the same resource."""

from __future__ import annotations

import re
import string
from typing import Final

import can_ada

from blocklistd.kinds.invalid import InvalidEntry
from blocklistd.kinds.name import (
    MAX_NAME,
    PLAIN_NAME,
    hide_newer_labels,
    is_address,
    listable_host,
    restore_newer_labels,
)
from blocklistd.limits import MAX_URL, MAX_URL_INPUT
from blocklistd.model import FRAGMENT

# URLs that are already canonical: without A-label, port, `%` and dot segment. Not parsing them halves the cost.
_HOST: Final = "https?://" + PLAIN_NAME.format(end="/", dots="+")
_SEGMENT: Final = r"(?!\.\.?(?:[/?]|\Z))[A-Za-z0-9._~!$&'()*+,;=:@-]*+"
_QUERY: Final = r"(?:\?[A-Za-z0-9._~!$&()*+,;=:@/?-]*+)?"
PLAIN: Final = re.compile(rf"{_HOST}{_SEGMENT}(?:/{_SEGMENT})*+{_QUERY}")
# 25 % faster than PLAIN; precondition: the URL contains no `/.`, hence no dot segment
PLAIN_WITHOUT_DOT_SEGMENTS: Final = re.compile(rf"{_HOST}[A-Za-z0-9._~!$&'()*+,;=:@/-]*+{_QUERY}")

_PARTS: Final = re.compile(r"(https?://)(?:[^/@]*@)?(\[[^/]*\]|[^/:]*)(:[0-9]+)?(/[^#]*)(?:#(.*))?")
_AUTHORITY: Final = re.compile(r"([^:/?#\\]*:[/\\]*(?:[^/?#\\]*@)?)([^/?#\\]*)")  # of a text that is not parsed yet
_BLANKS: Final = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200b\u2060\ufeff"  # three of zero width
_AROUND_URLS: Final = _BLANKS + "".join(map(chr, range(0x20)))  # the standard drops C0 controls, too
_NOT_ONE_URL: Final = re.compile(rf"[\0-\x1f\x7f-\x9f]|[{_BLANKS}](?:#|[\"'<(\[{{]*https?:[/\\])", re.I)
"""Matches a control character, or a blank before a comment or another URL."""
_ADDRESS: Final = re.compile(r"https?://(?:\[|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+[:/])")

_TRIPLET: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_STRAY: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _normal_triplets(decoded: str) -> dict[str, str]:
    """Maps each spelling of a percent-encoded octet to its normal form: the character itself for those in `decoded`,
    else the triplet in upper case."""
    spelt = ((f"%{high}{low}", int(high + low, 16)) for high in string.hexdigits for low in string.hexdigits)
    return {triplet: chr(octet) if chr(octet) in decoded else triplet.upper() for triplet, octet in spelt}


_UNRESERVED: Final = string.ascii_letters + string.digits + "-._~"  # RFC 3986 section 2.3
_NORMAL: Final = _normal_triplets(_UNRESERVED)
_NORMAL_BESIDE_STRAY: Final = _normal_triplets("".join(set(_UNRESERVED) - set(string.hexdigits)))


def url(value: str) -> str:
    """The canonical form of an http or https URL: no user info, no fragment, no default port, normal percent-encoding.

    The host is an address, or a name of two labels or more in the form of `name.listable_host`. Blanks around the URL
    are dropped.

    Raises InvalidEntry: not-a-url, scheme (neither http nor https), character (more than one URL, or a control
    character: the standard would drop a tab or a newline), one-label, url-too-long (more than MAX_URL characters),
    fragment (only a fragment follows the host, so it may be the path), and the reasons of `listable_host`.
    """
    canonical = value if "xn--" not in value and PLAIN.fullmatch(value) else parsed_url(value)
    if len(canonical) > MAX_URL:
        raise InvalidEntry("url-too-long")
    return canonical


def parsed_url(value: str) -> str:
    """`url` for a value that PLAIN does not match; without the last check of the length.

    Each length is checked before the work that grows with it.
    """
    value = value.strip(_AROUND_URLS)
    if len(value) > MAX_URL_INPUT:
        raise InvalidEntry("url-too-long")
    may_be_two = " " in value and ("#" in value or ":/" in value[8:] or ":\\" in value[8:])
    if (may_be_two or not value.isprintable()) and _NOT_ONE_URL.search(value):
        raise InvalidEntry("character")
    if len(value) > MAX_NAME and _host_length(value) > MAX_NAME + 1:
        raise InvalidEntry("name-too-long")
    href = _href(value) or _href_with_newer_labels(value)
    if href is None:
        raise InvalidEntry("not-a-url")
    if len(href) > MAX_URL_INPUT:
        raise InvalidEntry("url-too-long")
    # In the parser's output user info ends in the only `@` before the path.
    parts = _PARTS.fullmatch(href)
    if parts is None:
        raise InvalidEntry("scheme")
    scheme, host, port, rest, fragment = parts.groups(default="")
    if not is_address(host):
        host = listable_host(host)
        if "." not in host:
            raise InvalidEntry("one-label")
    if fragment and rest in ("/", "/?"):
        raise InvalidEntry(FRAGMENT)
    return f"{scheme}{host}{port}{_normal_percents(rest)}"


def is_address_url(value: str) -> bool:
    """Whether the host of a canonical URL is an IPv4 or IPv6 address."""
    return _ADDRESS.match(value) is not None


def is_host_of(host: str, value: str) -> bool:
    """Whether `host` is the name or the address of a canonical URL or name, or a name above it. `host` need not be
    canonical; a text that is no host is False."""
    try:
        given = parsed_url(f"http://{host}/").partition("//")[2][:-1]
    except InvalidEntry:
        return False
    own = value.partition("://")[2].partition("/")[0] if "/" in value else value
    own = own if own.endswith("]") else own.rpartition(":")[0] or own
    return own == given or own.endswith(f".{given}")


def _host_length(value: str) -> int:
    """The length of the host, in characters, before the URL is parsed; a percent-encoded octet counts as one."""
    authority = _AUTHORITY.match(value)
    host = authority[2].partition(":")[0] if authority is not None else ""
    return len(_TRIPLET.sub("x", host))


def _href_with_newer_labels(value: str) -> str | None:
    """The parsed URL if its host has A-labels that are newer than the parser's table; else None."""
    authority = _AUTHORITY.match(value)
    hidden = hide_newer_labels(authority[2]) if authority is not None else ""
    if authority is None or not hidden:
        return None
    href = _href(f"{authority[1]}{hidden}{value[authority.end() :]}")
    parts = _PARTS.fullmatch(href) if href is not None else None
    if href is None or parts is None:
        return None
    return f"{href[: parts.start(2)]}{restore_newer_labels(parts[2], hidden)}{href[parts.end(2) :]}"


def _href(value: str) -> str | None:
    """The URL as the parser serialises it; None if it is invalid."""
    try:
        return can_ada.parse(value).href
    except (ValueError, TypeError):  # TypeError: a surrogate
        return None


def _normal_percents(text: str) -> str:
    """Path and query with triplets in upper case and unreserved characters decoded (RFC 3986 section 6.2.2).

    The result parses to itself, since the parser has already resolved `%2e` in dot segments. If the text has a `%`
    without two hex digits, encoded hex digits stay encoded: decoding them could make a new triplet (`%%32e`).
    """
    if "%" not in text:
        return text
    normal = _NORMAL_BESIDE_STRAY if _STRAY.search(text) else _NORMAL
    return _TRIPLET.sub(lambda triplet: normal[triplet[0]], text)
