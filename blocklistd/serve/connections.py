"""Counts connections by holder, and chooses the connection that is closed to make room. Pure: no socket, no clock.

States of a connection: not counted, `enter` -> idle, `begin` -> busy, `end` -> idle, `leave` -> not counted. `move`,
while busy, changes the holder: an address from accept() on, a subscriber once a request is authenticated. A long poll
keeps its connection busy.
At a holder's bound the holder's longest idle connection is closed for the new one. At the total bound it is the longest
idle connection of the holder with the most connections, among the holders with idle ones. If none is idle, the new
connection is refused.
"""

from __future__ import annotations

import functools
import ipaddress
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple, Protocol

from blocklistd.config import ConnectionBounds, Network


class Connected(Protocol):
    """A connection, as Connections needs it."""

    def abort(self) -> None:
        """Closes the connection at once. It is no longer counted when this is called."""


class Holder(NamedTuple):
    """For whom connections are counted. `kind` is "address", "proxy", "subscriber" or "uid" (a local user)."""

    kind: str
    name: str


@functools.lru_cache(4096)
def address_holder(address: str) -> Holder:
    """The holder before authentication: an IPv4 address, or the /64 of an IPv6 address (a host may use a whole /64)."""
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
    """Whether one of the networks contains the address, after `plain`. Raises ValueError."""
    if not networks:
        return False
    found = ipaddress.ip_address(plain(address))
    return any(found in network for network in networks)


NO_BOUND: Final = 1 << 32  # more connections than there can be


class Connections:
    """The connections of one listener. `bounds` may be replaced; connections above a new bound stay until they end."""

    def __init__(self, bounds: ConnectionBounds | None = None) -> None:
        self.bounds = bounds or ConnectionBounds()
        self._holders: dict[Connected, Holder] = {}
        self._sizes: Counter[Holder] = Counter()
        self._idle: dict[Holder, dict[Connected, None]] = {}
        """Idle connections by holder, the longest idle first. A holder without any has no key."""
        self._by_size: dict[int, dict[Holder, None]] = {}
        """The holders that have idle connections, by the number of all their connections."""

    def __len__(self) -> int:
        """The number of all connections."""
        return len(self._holders)

    def __iter__(self) -> Iterator[Connected]:
        """All connections as they are now: they may end meanwhile."""
        return iter(tuple(self._holders))

    def __contains__(self, connection: Connected) -> bool:
        """Whether the connection is counted."""
        return connection in self._holders

    def of(self, holder: Holder) -> int:
        """The number of the holder's connections."""
        return self._sizes[holder]

    def enter(self, connection: Connected, holder: Holder, bound: int) -> bool:
        """Counts a new connection, as idle, for a holder of at most `bound` connections. False: refuse it."""
        if self._sizes[holder] >= bound and not self._close_idle_of(holder):
            return False
        if len(self._holders) >= self.bounds.total and not self.make_room():
            return False
        self._add(connection, holder, idle=True)
        return True

    def move(self, connection: Connected, holder: Holder, bound: int) -> bool:
        """Counts a busy connection for another holder. False if that has `bound` connections and none is idle.

        A connection that is not counted, because it was just closed to make room, is left alone.
        """
        if self._holders.get(connection) in (holder, None):
            return True
        if self._sizes[holder] >= bound and not self._close_idle_of(holder):
            return False
        self.leave(connection)
        self._add(connection, holder, idle=False)
        return True

    def leave(self, connection: Connected) -> None:
        """Counts the connection no longer. A second call does nothing."""
        holder = self._holders.pop(connection, None)
        if holder is not None:
            self._remove_idle(connection, holder)
            self._resize(holder, -1)

    def begin(self, connection: Connected) -> None:
        """Makes the connection busy: a request begins."""
        holder = self._holders.get(connection)
        if holder is not None:
            self._remove_idle(connection, holder)

    def end(self, connection: Connected) -> None:
        """Makes the connection idle, the last of its holder to be closed: the request has ended."""
        holder = self._holders.get(connection)
        if holder is None:
            return
        idle = self._idle.get(holder)
        if idle is None:
            self._idle[holder] = {connection: None}
            self._index(holder)
        else:
            idle.setdefault(connection)

    def close(self, holders: Collection[Holder]) -> None:
        """Closes all connections of these holders, busy ones too."""
        for connection, holder in list(self._holders.items()) if holders else ():
            if holder in holders:
                self.leave(connection)
                connection.abort()

    def make_room(self) -> bool:
        """Closes an idle connection: the longest idle one of the largest holder. False if no connection is idle."""
        if not self._by_size:
            return False
        return self._close_idle_of(next(iter(self._by_size[max(self._by_size)])))

    def _close_idle_of(self, holder: Holder) -> bool:
        idle = self._idle.get(holder)
        if not idle:
            return False
        longest_idle = next(iter(idle))
        self.leave(longest_idle)
        longest_idle.abort()
        return True

    def _add(self, connection: Connected, holder: Holder, *, idle: bool) -> None:
        self._holders[connection] = holder
        self._resize(holder, 1)
        if idle:
            self.end(connection)

    def _remove_idle(self, connection: Connected, holder: Holder) -> None:
        idle = self._idle.get(holder)
        if idle is not None and connection in idle:
            del idle[connection]
            if not idle:
                del self._idle[holder]
                self._unindex(holder)

    def _resize(self, holder: Holder, by: int) -> None:
        indexed = holder in self._idle
        if indexed:
            self._unindex(holder)
        self._sizes[holder] += by
        if not self._sizes[holder]:
            del self._sizes[holder]
        if indexed:
            self._index(holder)

    def _index(self, holder: Holder) -> None:
        self._by_size.setdefault(self._sizes[holder], {})[holder] = None

    def _unindex(self, holder: Holder) -> None:
        size = self._sizes[holder]
        del self._by_size[size][holder]
        if not self._by_size[size]:
            del self._by_size[size]
