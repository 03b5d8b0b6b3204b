"""Finds URLs in a text that a person wrote, and every entry that one of its words could name."""

from __future__ import annotations

import html
import ipaddress
import re
import unicodedata
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from blocklistd.kinds.hash import DIGITS
from blocklistd.kinds.invalid import InvalidEntry
from blocklistd.kinds.ip import containing, ip
from blocklistd.kinds.name import name
from blocklistd.model import Entry

_DEFANGED: Final = re.compile(r"[\[({](?:\.|dot)[\])}]", re.I)
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:[/\\]", re.I)
_PATH: Final = re.compile(r"\.[a-z0-9-]+(?::[0-9]+)?[/\\][^\s/\\]", re.I)
"""A name with a dot, then a path: a URL without its scheme."""
_BETWEEN_WORDS: Final = re.compile(r"[^\w.\-:\[\]@/\\=*]+")
"""Characters that occur in no name, address or hash; they separate words."""
_BETWEEN_PARTS: Final = re.compile(r"[/\\=@:]")
_BETWEEN_ADDRESSES: Final = re.compile(r"[/\\=@\[\]]")  # an IPv6 address has colons
_DOTS: Final = re.compile("[\u3002\uff0e\uff61]")  # UTS 46 maps these to a dot
_SPACED: Final = re.compile(r"\s*\.\s+|\s+\.|\s+dot\s+", re.I)
"""A dot with blanks beside it, or written as a word."""
_AROUND_WORDS: Final = ".:*[]-"
_AROUND_ADDRESS: Final = ".*[]-_"  # `2001:db8::` ends in colons


def has_url(text: str) -> bool:
    """Whether the text contains a URL: with any scheme, without a scheme (a name, then a path), or defanged
    (`hxxps://name[.]example`)."""
    refanged = _refanged(text)
    return bool(_SCHEME.search(refanged) or _PATH.search(refanged))


def could_name_an_entry(text: str) -> bool:
    """Whether a text contains a URL, a hash, or a name of two labels or more, whether it is listed or not."""
    if has_url(text):
        return True
    for word in _BETWEEN_WORDS.split(_refanged(text)):
        for found in _parts(word):
            part = found.strip(f"{_AROUND_WORDS}_")
            if len(part) in DIGITS.values() and re.fullmatch("[0-9a-fA-F]+", part):
                return True
            if _address(found.strip(_AROUND_ADDRESS)) is not None:
                return True
            with suppress(InvalidEntry):
                if "." in name(part):
                    return True
    return False


def mentions(text: str) -> Iterator[bytes]:
    """Yield a prefix of the canonical line (lines.keys) of each entry that a word of the text could be.

    A word can be a hash, a host, a domain, a name below a listed domain, the host of a URL, an address or a prefix, or
    an address in a listed prefix. The same prefix may come
    more than once.
    """
    refanged = _refanged(text)
    for written in dict.fromkeys((refanged, _SPACED.sub(".", refanged))):
        for word in _BETWEEN_WORDS.split(written):
            for part in _parts(word):
                for stripped in {
                    part.strip(around) for around in (_AROUND_WORDS, f"{_AROUND_WORDS}_", _AROUND_ADDRESS)
                }:
                    yield from _line_prefixes(stripped)


def _parts(word: str) -> set[str]:
    """The word, and its parts: a value may stand beside other text, as in `host=a.example` and `[2001:db8::1]:53`."""
    return {word, *_BETWEEN_PARTS.split(word), *_BETWEEN_ADDRESSES.split(word)}


def _refanged(text: str) -> str:
    """The text in NFC, without percent-encoding and HTML's references, with `[.]`, `(dot)` and the other dots of UTS 46
    as `.`."""
    decoded = html.unescape(urllib.parse.unquote(text))
    return _DOTS.sub(".", _DEFANGED.sub(".", unicodedata.normalize("NFC", decoded)))


def _line_prefixes(word: str) -> Iterator[bytes]:
    if not word:
        return
    for kind, digits in DIGITS.items():
        if len(word) == digits:
            yield Entry(kind, word.lower()).line()[:-1]
    with suppress(InvalidEntry):
        for prefix in containing(ip(word)):
            yield Entry("ip", prefix).line()[:-1]
    host = _address(word)
    if host is None:
        try:
            host = name(word)
        except InvalidEntry:
            return
        yield Entry("host", host).line()[:-1]
        labels = host.split(".")
        for start in range(len(labels)):
            yield Entry("domain", ".".join(labels[start:])).line()[:-1]
    for scheme in ("http", "https"):
        for end in "/:":
            yield Entry("url", f"{scheme}://{host}{end}").line()[:-2]  # without the quote: any path may follow


def _address(word: str) -> str | None:
    """An IP address as the host of a canonical URL (RFC 3986 section 3.2.2); None for any other word."""
    try:
        found = ipaddress.ip_address(word)
    except ValueError:
        return None
    return str(found) if found.version == 4 else f"[{found.compressed}]"
