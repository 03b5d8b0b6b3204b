"""The format `unbound`: a file for `include:` in unbound.conf. It can express hosts and domains.

A domain is answered with NXDOMAIN, and so are all names below it. A host gets a zone `transparent` with a record of a
type that no browser asks for: other types of that name have no data, and the names below it resolve. Inside a domain
such a zone would unblock names, so covered hosts are omitted.
"""

from __future__ import annotations

from typing import BinaryIO, Final

from blocklistd.outputs.reading import Out, Says, uncovered, write_lines


def _domain(name: bytes) -> bytes:
    return b'local-zone: "%b." always_nxdomain\n' % name


def _host(name: bytes) -> bytes:
    return b'local-zone: "%b." transparent\nlocal-data: "%b. 60 IN HINFO blocked blocked"\n' % (name, name)


_SAYS: Final[Says] = {b"domain": _domain, b"host": _host}


def render(snapshot: BinaryIO, out: Out) -> int:
    """Write the zones. Returns the number of omitted entries: all but hosts and domains."""
    out.write(b"server:\n")
    return write_lines(uncovered(snapshot), out, _SAYS)
