"""Remembers which TSIG keys the secondaries use, and chooses the key that signs a NOTIFY. Pure; `now` is Unix seconds.

After a rotation a subscriber has several keys, and its secondaries change over one by one: each gets NOTIFY signed with
the newest key that it has used. State, in memory and by subscriber: `saw` adds the key of a request; `learn` adds the
last uses that the database has from before a restart, which does not know by which secondary.
"""

from __future__ import annotations

from collections.abc import Iterable

from blocklistd.limits import MAX_SECONDARIES
from blocklistd.serve.dns.tsig import Key
from blocklistd.serve.dns.zones import Peer


class KeyUse:
    """The uses of all keys. `last`: the time of each key's last use, by its name in wire format."""

    def __init__(self) -> None:
        self.last: dict[bytes, int] = {}
        self._newest: dict[str, dict[str, bytes]] = {}
        """By subscriber and address: the newest key that was used from there. The address that asked last is last."""

    def saw(self, peer: Peer, address: str, key: bytes, now: int) -> None:
        """Records a request of the subscriber, signed with the key of this name."""
        self.last[key] = now
        known = self._newest.setdefault(peer.subscriber, {})
        before = known.pop(address, None)
        order = [one.name for one in peer.keys]
        if before in order and not (key in order and order.index(key) > order.index(before)):
            key = before
        known[address] = key
        if len(known) > MAX_SECONDARIES:
            del known[next(iter(known))]

    def learn(self, uses: Iterable[tuple[bytes, int]]) -> None:
        """Adds last uses of keys that are not known to be used."""
        for name, used in uses:
            self.last.setdefault(name, used)

    def keep(self, peers: Iterable[Peer]) -> None:
        """Forgets subscribers and keys that do not exist any more."""
        peers = list(peers)
        names = {key.name for peer in peers for key in peer.keys}
        self.last = {name: used for name, used in self.last.items() if name in names}
        owners = {peer.subscriber for peer in peers}
        self._newest = {owner: known for owner, known in self._newest.items() if owner in owners}

    def addresses(self, subscriber: str, key: bytes) -> list[str]:
        """The addresses of secondaries that use the key of this name and no newer one."""
        return sorted(address for address, newest in self._newest.get(subscriber, {}).items() if newest == key)

    def key_for(self, peer: Peer, address: str, now: int) -> Key | None:
        """The key that signs a NOTIFY to this address: the newest that it has used; else the newest that any secondary
        of the subscriber has; else the oldest. None: unsigned.

        That is so for a subscriber that is known by its address, and for one with a client certificate that has used no
        key: neither has to know a key.
        """
        valid = [key for key in peer.keys if key.until is None or now < key.until]
        if peer.networks or not valid:
            return None
        own = self._newest.get(peer.subscriber, {}).get(address)
        used = [key for key in valid if key.name == own] or [key for key in valid if key.name in self.last]
        if used:
            return used[-1]
        return None if peer.certificates else valid[0]
