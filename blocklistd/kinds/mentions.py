"""What a text written by a person names: URLs, and the entries that its words would be if they were listed."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from blocklistd.kinds.hash import DIGITS
from blocklistd.kinds.name import name
from blocklistd.kinds.refused import Refused
from blocklistd.model import Entry

_DEFANGED: Final = re.compile(r"[\[({](?:\.|dot)[\])}]", re.I)
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:[/\\]", re.I)
_PATH: Final = re.compile(r"\.[a-z0-9-]+(?::[0-9]+)?[/\\][^\s/\\]", re.I)
"""A name with a dot, then a path: a URL without its scheme."""
_APART: Final = re.compile(r"[^\w.\-:\[\]@/\\=*]+")
"""What stands between words: all that can be no part of a name, an address or a hash, also typographic marks."""
_PARTS: Final = re.compile(r"[/\\=@:]")
_DOTS: Final = re.compile("[\u3002\uff0e\uff61]")  # which UTS 46 takes for a dot
_AROUND: Final = ".:*[]-"


def has_url(text: str) -> bool:
    """Whether a URL is in the text: with any scheme, without one (a name, then a path), or written as people do who
    don't want it to be followed (`hxxps://name[.]example`)."""
    plain = _plain(text)
    return bool(_SCHEME.search(plain) or _PATH.search(plain))


def mentions(text: str) -> Iterator[bytes]:
    """How the canonical lines begin (lines.keys) of all entries that a word of the text names: as a host, a domain or
    one above it, the host of a URL, or a hash."""
    for word in _APART.split(_plain(text)):
        for part in {word, *_PARTS.split(word)}:
            for spelt in {part.strip(_AROUND), part.strip(f"{_AROUND}_")}:
                yield from _beginnings(spelt)


def _plain(text: str) -> str:
    return _DOTS.sub(".", _DEFANGED.sub(".", unicodedata.normalize("NFC", text)))


def _beginnings(word: str) -> Iterator[bytes]:
    if not word:
        return
    for kind, digits in DIGITS.items():
        if len(word) == digits:
            yield Entry(kind, word.lower()).line()[:-1]
    host = _address(word)
    if host is None:
        try:
            host = name(word)
        except Refused:
            return
        yield Entry("host", host).line()[:-1]
        labels = host.split(".")
        for start in range(len(labels)):
            yield Entry("domain", ".".join(labels[start:])).line()[:-1]
    for scheme in ("http", "https"):
        for end in "/:":
            yield Entry("url", f"{scheme}://{host}{end}").line()[:-2]  # without the quote: whatever follows


def _address(word: str) -> str | None:
    """The address as the host of a canonical URL."""
    try:
        found = ipaddress.ip_address(word)
    except ValueError:
        return None
    return str(found) if found.version == 4 else f"[{found.compressed}]"
