"""What an entry is: each kind takes a text to its canonical form, which it takes to itself, or raises Refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from blocklistd.kinds.hash import DIGITS, md5, sha1, sha256
from blocklistd.kinds.name import PLAIN as PLAIN_NAME
from blocklistd.kinds.name import name
from blocklistd.kinds.refused import Refused
from blocklistd.kinds.url import PLAIN as PLAIN_URL
from blocklistd.kinds.url import PLAIN_UNDOTTED, url

__all__ = ["CANONICALISER", "DIGITS", "KINDS", "PLAIN", "Refused", "plain"]

CANONICALISER: Final = 3
"""Raised whenever an existing canonical form changes; each published list says which made it. With 3, names and hosts
of URLs have letters, digits, `-` and `_` alone, a URL's host has two labels, a text that is more than one URL is
refused, and A-labels may be newer than the library. With 2, a URL whose fragment carries the path is withheld; with 1
it became the front page of its host."""

KINDS: Final[Mapping[str, Callable[[str], str]]] = {
    "url": url,
    "host": name,
    "domain": name,
    "md5": md5,
    "sha1": sha1,
    "sha256": sha256,
}

PLAIN: Final[Mapping[str, re.Pattern[str]]] = {"url": PLAIN_URL, "host": PLAIN_NAME, "domain": PLAIN_NAME}


def plain(kind: str, text: str) -> re.Pattern[str]:
    """A value in the text that matches as a whole is canonical as it stands, unless `xn--` is in it or it has more than
    MAX_URL characters. One that does not may be, too. `kind` is of PLAIN."""
    return PLAIN_UNDOTTED if kind == "url" and "/." not in text else PLAIN[kind]
