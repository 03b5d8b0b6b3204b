"""What an entry is: each kind takes a text to its canonical form, which it takes to itself, or raises Refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from blocklistd.kinds.hash import md5, sha1, sha256
from blocklistd.kinds.name import name
from blocklistd.kinds.refused import Refused
from blocklistd.kinds.url import url

__all__ = ["CANONICALISER", "KINDS", "Refused"]

CANONICALISER: Final = 1
"""Raised whenever an existing canonical form changes; each published list says which made it."""

KINDS: Final[Mapping[str, Callable[[str], str]]] = {
    "url": url,
    "host": name,
    "domain": name,
    "md5": md5,
    "sha1": sha1,
    "sha256": sha256,
}
