"""The format `adblock`: filters for content blockers (adblockplus.org/filters). It can express hosts, domains and URLs.

Each filter is written twice, since a blocking filter without the option `document` is about what a page loads, and with
it about the page itself. A URL is a regular expression with `match-case`: other patterns ignore case, give `*`, `^` and
`|` a meaning, and can't quote them. A triplet matches in both cases of its letters (RFC 3986 6.2.2).
"""

from __future__ import annotations

import re
from typing import BinaryIO, Final

from blocklistd.outputs.reading import Out, Says, uncovered, write_lines

_QUOTED: Final = re.compile(rb"%[0-9A-F]{2}|[^A-Za-z0-9_:=&%@;-]")


def _domain(name: bytes) -> bytes:
    return b"||%b^\n||%b^$document\n" % (name, name)


def _host(name: bytes) -> bytes:
    return b"".join(b"|%b://%b^\n|%b://%b^$document\n" % ((scheme, name) * 2) for scheme in (b"http", b"https"))


def _url(value: bytes) -> bytes:
    # `\x24` for `$`, `\x2c` for `,`: unquoted they would begin options and separate them
    quoted = _QUOTED.sub(_quote, value)
    return b"/^%b$/$match-case\n/^%b$/$match-case,document\n" % (quoted, quoted)


def _quote(found: re.Match[bytes]) -> bytes:
    text = found[0]
    if len(text) == 1:
        return b"\\x%02x" % ord(text)
    return b"%" + re.sub(rb"[A-F]", lambda digit: b"[%b%b]" % (digit[0], digit[0].lower()), text[1:])


_SAYS: Final[Says] = {b"domain": _domain, b"host": _host, b"url": _url}


def render(snapshot: BinaryIO, out: Out) -> int:
    """Write the filters. Returns the number of omitted entries: all but hosts, domains and URLs."""
    out.write(b"[Adblock Plus 2.0]\n")
    return write_lines(uncovered(snapshot), out, _SAYS)
