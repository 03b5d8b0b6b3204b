"""The kinds of entries. A kind turns a text into its canonical form, or raises InvalidEntry.

The canonical form of a canonical form is itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from blocklistd.kinds.hash import DIGITS, md5, sha1, sha256
from blocklistd.kinds.invalid import InvalidEntry
from blocklistd.kinds.ip import PLAIN as PLAIN_IP
from blocklistd.kinds.ip import ip
from blocklistd.kinds.name import PLAIN as PLAIN_NAME
from blocklistd.kinds.name import name
from blocklistd.kinds.readings import readings
from blocklistd.kinds.url import PLAIN as PLAIN_URL
from blocklistd.kinds.url import PLAIN_WITHOUT_DOT_SEGMENTS, is_host_of, url

__all__ = [
    "CANONICALISER",
    "DIGITS",
    "KINDS",
    "PLAIN",
    "WITH_HOST",
    "InvalidEntry",
    "is_host_of",
    "plain_pattern",
    "readings",
]

CANONICALISER: Final = 6
"""The number of the rules below; it rises whenever an existing canonical form changes, or a kind is added. Each
published list names the number that it was made with.

6: addresses of special-purpose ranges are withheld.
5: addresses are entries, no longer withheld as records of another type.
4: dates have one form (sources/formats/dates.py); a record with an invalid date is rejected.
3: names and hosts of URLs consist of letters, digits, `-` and `_`; the host of a URL has two labels or more; a text
that contains more than one URL is refused; A-labels may be newer than the library's Unicode table.
2: a URL whose fragment carries the path is withheld.
1: such a URL became the front page of its host.
"""

KINDS: Final[Mapping[str, Callable[[str], str]]] = {
    "url": url,
    "host": name,
    "domain": name,
    "ip": ip,
    "md5": md5,
    "sha1": sha1,
    "sha256": sha256,
}
"""The function of each kind: from a text to its canonical form. Raises InvalidEntry."""

WITH_HOST: Final = ("url", "host", "domain")
"""The kinds whose values are a name, or have one as their host."""

PLAIN: Final[Mapping[str, re.Pattern[str]]] = {
    "url": PLAIN_URL,
    "host": PLAIN_NAME,
    "domain": PLAIN_NAME,
    "ip": PLAIN_IP,
}
"""Patterns of values that are already canonical, for the kinds that have such a pattern (`plain_pattern`)."""


def plain_pattern(kind: str, text: str) -> re.Pattern[str]:
    """The fastest pattern for the values of `kind`, a key of PLAIN, that are in `text`.

    A value that the pattern matches in full is canonical, unless it contains `xn--` or has more than MAX_URL
    characters. A value that it does not match may be canonical, too.
    """
    return PLAIN_WITHOUT_DOT_SEGMENTS if kind == "url" and "/." not in text else PLAIN[kind]
