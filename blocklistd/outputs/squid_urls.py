"""The format `squid-urls`: a file for an ACL of the type url_regex. It can express URLs, each as a pattern of this URL
alone (POSIX, extended). Squid sees an https URL only where it decrypts TLS.

Squid decodes a URL before it compares it, so a pattern is of the decoded URL. It can express a URL if no other one has
its decoded form: if each of its triplets stands for a character that browsers would encode in that place.
"""

from __future__ import annotations

import re
from typing import BinaryIO, Final

from blocklistd.outputs.reading import Out, Says, entries, write_lines

MAX_PATTERN: Final = 2000
"""Bytes. Squid reads at most 2,047 of a line, and takes the rest for a pattern of its own, which would match others."""

_TRIPLET: Final = re.compile(rb"%([0-9A-F]{2})?")
_ENCODED: Final = frozenset(b' "<>') | frozenset(range(0x80, 0x100))  # by the URL standard, in each part of a URL
_IN_PATHS: Final = _ENCODED | frozenset(b"`{}")
_IN_QUERIES: Final = _ENCODED | frozenset(b"'")
_SPECIAL: Final = re.compile(rb"[\\.^$*+?()\[{|]")


def _url(value: bytes) -> bytes:
    path, separator, query = value.partition(b"?")
    decoded, decoded_query = _decoded(path, _IN_PATHS), _decoded(query, _IN_QUERIES)
    if decoded is None or decoded_query is None:
        return b""
    line = b"^%b$\n" % _SPECIAL.sub(rb"\\\g<0>", decoded + separator + decoded_query)
    return line if len(line) <= MAX_PATTERN else b""


def _decoded(part: bytes, expressible: frozenset[int]) -> bytes | None:
    """The part as Squid compares it; None if it has a triplet of another character, or a `%` that begins none."""
    for triplet in _TRIPLET.findall(part):
        if not triplet or int(triplet, 16) not in expressible:
            return None
    return _TRIPLET.sub(lambda triplet: bytes([int(triplet[1], 16)]), part)


_SAYS: Final[Says] = {b"url": _url}


def render(snapshot: BinaryIO, out: Out) -> int:
    """Write a pattern for each line. Returns the number of omitted entries: all but URLs, and URLs that
    Squid can't tell from others, or that are too long."""
    return write_lines(entries(snapshot), out, _SAYS)
