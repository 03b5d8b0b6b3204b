"""The format `dnsmasq`: a file for `conf-file=` in dnsmasq.conf. It can express hosts and domains.

A domain is answered with NXDOMAIN, and so are all names below it. dnsmasq has no NXDOMAIN for one name alone: a host is
answered with the addresses 0.0.0.0 and ::, and queries for other types are forwarded.
"""

from __future__ import annotations

from typing import BinaryIO, Final

from blocklistd.outputs.reading import Out, Says, uncovered, write_lines


def _domain(name: bytes) -> bytes:
    return b"address=/%b/\n" % name


def _host(name: bytes) -> bytes:
    return b"host-record=%b,0.0.0.0,::\n" % name


_SAYS: Final[Says] = {b"domain": _domain, b"host": _host}


def render(snapshot: BinaryIO, out: Out) -> int:
    """Write the options. Returns the number of omitted entries: all but hosts and domains."""
    return write_lines(uncovered(snapshot), out, _SAYS)
