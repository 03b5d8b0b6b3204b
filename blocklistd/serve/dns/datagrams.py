"""UDP answers leave from the address that was asked (ip(7), ipv6(7)), whatever the addresses of the host."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import Final

_PKTINFO: Final = socket.IPV6_PKTINFO
_PKTINFO4: Final = 8  # IP_PKTINFO of Linux; the socket module names it from Python 3.12 on

Ancillary = tuple[int, int, bytes]
"""Level, type and data of ancillary data (socket.recvmsg)."""


def keep_address(bound: socket.socket) -> None:
    """From now on each datagram comes with the address that it was sent to."""
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        bound.setsockopt(socket.IPPROTO_IP, _PKTINFO4, 1)


def asked_address(ancillary: Iterable[Ancillary]) -> list[Ancillary]:
    """The ancillary data of an answer to a datagram that came with these."""
    return [_back(item) for item in ancillary if _is_pktinfo(item)]


def _is_pktinfo(item: Ancillary) -> bool:
    return item[:2] in ((socket.IPPROTO_IPV6, _PKTINFO), (socket.IPPROTO_IP, _PKTINFO4))


def _back(item: Ancillary) -> Ancillary:
    """The address that was asked, as the one to answer from (ip(7): ipi_spec_dst; the interface is left open)."""
    level, kind, data = item
    if level == socket.IPPROTO_IPV6:
        return level, kind, data[:16] + struct.pack("@i", 0)
    return level, kind, struct.pack("@i4s4s", 0, data[8:12], b"\0" * 4)
