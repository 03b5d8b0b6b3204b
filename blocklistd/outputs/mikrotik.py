"""The format `mikrotik`: a script for `/import` of RouterOS 7. It can express hosts, domains and addresses.

Names are static DNS entries that answer NXDOMAIN, addresses stand in the firewall's address lists `blocklistd`. The
script first removes what the last one added, which it knows by the comment. RouterOS refuses an entry that exists, and
ends the script there, so covered names are omitted.
"""

from __future__ import annotations

from typing import BinaryIO, Final

from blocklistd.outputs.reading import Out, Says, uncovered, write_lines

_HEAD: Final = b"""/ip dns static remove [find comment="blocklistd"]
/ip firewall address-list remove [find comment="blocklistd"]
/ipv6 firewall address-list remove [find comment="blocklistd"]
"""
_ADD_NAME: Final = b'/ip dns static add comment="blocklistd" type=NXDOMAIN name="%b"%b\n'


def _domain(name: bytes) -> bytes:
    return _ADD_NAME % (name, b" match-subdomain=yes")


def _host(name: bytes) -> bytes:
    return _ADD_NAME % (name, b"")


def _ip(value: bytes) -> bytes:
    menu = b"ipv6" if b":" in value else b"ip"
    return b'/%b firewall address-list add comment="blocklistd" list="blocklistd" address=%b\n' % (menu, value)


_SAYS: Final[Says] = {b"domain": _domain, b"host": _host, b"ip": _ip}


def render(snapshot: BinaryIO, out: Out) -> int:
    """Write the script. Returns the number of omitted entries: URLs and hashes."""
    out.write(_HEAD)
    return write_lines(uncovered(snapshot), out, _SAYS)
