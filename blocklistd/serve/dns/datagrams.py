"""Sends each UDP answer from the address that the request was sent to (ip(7), ipv6(7)).

A host may have several addresses, and a resolver drops an answer from another address than that of its request.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

_IPV6_PKTINFO: Final = socket.IPV6_PKTINFO
_IP_PKTINFO: Final = 8  # of Linux; socket.IP_PKTINFO from Python 3.12 on


class Ancillary(NamedTuple):
    """One item of ancillary data, as socket.recvmsg returns it."""

    level: int
    type: int
    data: bytes


def request_destinations(bound: socket.socket) -> None:
    """Makes the kernel add to each datagram that arrives its destination address, as ancillary data."""
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        bound.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def answer_source(ancillary: Iterable[tuple[int, int, bytes]]) -> list[Ancillary]:
    """The ancillary data for an answer, from the ancillary data of its request: sets the answer's source address."""
    return [_as_source(item) for item in map(Ancillary._make, ancillary) if _is_pktinfo(item)]


def _is_pktinfo(item: Ancillary) -> bool:
    return item[:2] in ((socket.IPPROTO_IPV6, _IPV6_PKTINFO), (socket.IPPROTO_IP, _IP_PKTINFO))


def _as_source(item: Ancillary) -> Ancillary:
    """A struct in_pktinfo or in6_pktinfo that sends from the address at which the request arrived.

    The interface index is 0, so the kernel chooses the route.
    """
    level, kind, data = item
    if level == socket.IPPROTO_IPV6:
        return Ancillary(level, kind, data[:16] + struct.pack("@i", 0))
    return Ancillary(level, kind, struct.pack("@i4s4s", 0, data[8:12], b"\0" * 4))  # ipi_spec_dst from ipi_addr
