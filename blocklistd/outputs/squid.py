"""The format `squid`: a file for an ACL of the type dstdomain. It can express hosts and domains.

`.a.example` is a domain, `a.example` a host. Squid refuses its whole configuration if a name stands beside a domain
that contains it, so covered names are omitted. An address is no dstdomain: Squid would look for its name.
URLs are in `squid-urls`.
"""

from __future__ import annotations

from typing import BinaryIO, Final

from blocklistd.outputs.reading import Out, Says, uncovered, write_lines

_SAYS: Final[Says] = {b"domain": lambda name: b".%b\n" % name, b"host": lambda name: b"%b\n" % name}


def render(snapshot: BinaryIO, out: Out) -> int:
    """Write a name for each line. Returns the number of omitted entries: all but hosts and domains."""
    return write_lines(uncovered(snapshot), out, _SAYS)
