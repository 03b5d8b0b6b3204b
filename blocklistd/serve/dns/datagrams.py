"""Sends each UDP answer from the address that the request was sent to (ip(7), ipv6(7)): a host may have several."""

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
    """Makes the kernel add the destination address to each datagram that arrives, as ancillary data."""
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        bound.setsockopt(socket.IPPROTO_IP, _PKTINFO4, 1)


def asked_address(ancillary: Iterable[Ancillary]) -> list[Ancillary]:
    """The ancillary data to send an answer with, from those of the request."""
    return [_back(item) for item in ancillary if _is_pktinfo(item)]


def _is_pktinfo(item: Ancillary) -> bool:
    return item[:2] in ((socket.IPPROTO_IPV6, _PKTINFO), (socket.IPPROTO_IP, _PKTINFO4))


def _back(item: Ancillary) -> Ancillary:
    """Turns the destination of a request into the source of its answer (ip(7): ipi_spec_dst); no interface is set."""
    level, kind, data = item
    if level == socket.IPPROTO_IPV6:
        return level, kind, data[:16] + struct.pack("@i", 0)
    return level, kind, struct.pack("@i4s4s", 0, data[8:12], b"\0" * 4)
