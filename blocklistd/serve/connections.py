"""Counts connections by holder, and chooses which one is closed to make room. Pure: no socket, no clock.

A connection is counted for its address when it is accepted, before TLS, and moves to a subscriber when a request on it
is authenticated. It is idle unless a request is under way; a long poll is a request under way. At a holder's bound the
holder's longest idle connection is closed for the new one. At the total bound it is the longest idle connection of the
holder with the most connections among those that have idle ones. Where none is idle, the new connection is refused.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Final, NamedTuple, Protocol

from blocklistd.config import ConnectionBounds, Network


class Connected(Protocol):
    """What Connections needs of a connection."""

    def abort(self) -> None:
        """Closes the connection at once. Connections has removed it from its counts before."""


class Holder(NamedTuple):
    """Who connections are counted for: an address, a proxy, a subscriber or a local user (`kind` "uid")."""

    kind: str
    name: str


def address_holder(address: str) -> Holder:
    """The holder before authentication: an IPv4 address, or the /64 of an IPv6 one, since a host has all of a /64."""
    found = ipaddress.ip_address(plain(address))
    if isinstance(found, ipaddress.IPv6Address):
        return Holder("address", str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64))))
    return Holder("address", str(found))


def plain(address: str) -> str:
    """An address in its usual form: an IPv4-mapped IPv6 address (RFC 4291 2.5.5.2) becomes the IPv4 address, and the
    zone index is removed. Raises ValueError."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return str(getattr(found, "ipv4_mapped", None) or found)


def is_in(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether the address, in the form of `plain`, is in one of the networks."""
    if not networks:
        return False
    found = ipaddress.ip_address(plain(address))
    return any(found in network for network in networks)


NO_BOUND: Final = 1 << 32


class Connections:
    """The connections of one listener. `bounds` may be replaced: connections above a new bound stay until they end."""

    def __init__(self, bounds: ConnectionBounds | None = None) -> None:
        self.bounds = bounds or ConnectionBounds()
        self._holders: dict[Connected, Holder] = {}
        self._sizes: Counter[Holder] = Counter()
        self._idle: dict[Holder, dict[Connected, None]] = {}
        """Idle connections by holder, the longest idle first. A holder without any has no key."""
        self._by_size: dict[int, dict[Holder, None]] = {}
        """The holders that have idle connections, by the number of all their connections."""

    def __len__(self) -> int:
        return len(self._holders)

    def __contains__(self, connection: Connected) -> bool:
        return connection in self._holders

    def of(self, holder: Holder) -> int:
        """The number of the holder's connections."""
        return self._sizes[holder]

    def enter(self, connection: Connected, holder: Holder, bound: int) -> bool:
        """Counts a new connection, as idle. False where it has no place."""
        if self._sizes[holder] >= bound and not self._close_idle_of(holder):
            return False
        if len(self._holders) >= self.bounds.total and not self.make_room():
            return False
        self._add(connection, holder, idle=True)
        return True

    def move(self, connection: Connected, holder: Holder, bound: int) -> bool:
        """Counts a connection, which has a request under way, for another holder. False where that is at its bound."""
        if self._holders.get(connection) in (holder, None):
            return True
        if self._sizes[holder] >= bound and not self._close_idle_of(holder):
            return False
        self.leave(connection)
        self._add(connection, holder, idle=False)
        return True

    def leave(self, connection: Connected) -> None:
        """The connection has ended. A second call does nothing."""
        holder = self._holders.pop(connection, None)
        if holder is not None:
            self._busy(connection, holder)
            self._resize(holder, -1)

    def begin(self, connection: Connected) -> None:
        """A request on the connection is under way."""
        holder = self._holders.get(connection)
        if holder is not None:
            self._busy(connection, holder)

    def end(self, connection: Connected) -> None:
        """The request on the connection is over."""
        holder = self._holders.get(connection)
        if holder is None:
            return
        idle = self._idle.get(holder)
        if idle is None:
            self._idle[holder] = {connection: None}
            self._list(holder)
        else:
            idle.setdefault(connection)

    def make_room(self) -> bool:
        """Closes the longest idle connection of the holder with the most connections. False where none is idle."""
        if not self._by_size:
            return False
        return self._close_idle_of(next(iter(self._by_size[max(self._by_size)])))

    def _close_idle_of(self, holder: Holder) -> bool:
        idle = self._idle.get(holder)
        if not idle:
            return False
        longest = next(iter(idle))
        self.leave(longest)
        longest.abort()
        return True

    def _add(self, connection: Connected, holder: Holder, *, idle: bool) -> None:
        self._holders[connection] = holder
        self._resize(holder, 1)
        if idle:
            self.end(connection)

    def _busy(self, connection: Connected, holder: Holder) -> None:
        idle = self._idle.get(holder)
        if idle is not None and connection in idle:
            del idle[connection]
            if not idle:
                del self._idle[holder]
                self._unlist(holder)

    def _resize(self, holder: Holder, by: int) -> None:
        listed = holder in self._idle
        if listed:
            self._unlist(holder)
        self._sizes[holder] += by
        if not self._sizes[holder]:
            del self._sizes[holder]
        if listed:
            self._list(holder)

    def _list(self, holder: Holder) -> None:
        self._by_size.setdefault(self._sizes[holder], {})[holder] = None

    def _unlist(self, holder: Holder) -> None:
        size = self._sizes[holder]
        del self._by_size[size][holder]
        if not self._by_size[size]:
            del self._by_size[size]
