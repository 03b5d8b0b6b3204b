"""The zones as they are served: one frozen view a zone, and who may have it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from blocklistd.config import Network
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.tsig import Key
from blocklistd.store.zone_files import CompiledFile
from blocklistd.store.zones import ZonePlan


@dataclass(frozen=True, slots=True)
class ZoneView:
    """A zone at one serial, made of the list's `version` as `plan` says.

    `oldest` is the serial that a difference can start from, `compiled` the zone's messages, `file` the file that they
    are mapped from (None: they are in memory).
    """

    plan: ZonePlan
    serial: int
    version: int
    records: int
    covered: int
    omitted: int
    oldest: int
    compiled: memoryview = field(repr=False)
    file: CompiledFile | None = field(default=None, repr=False)

    @property
    def name(self) -> bytes:
        return wire_name(self.plan.name)

    def soa(self) -> bytes:
        return self.plan.apex.soa(self.serial)


@dataclass(frozen=True, slots=True)
class Peer:
    """What a subscriber is to the DNS side: its zones (names on the wire), its keys, the addresses that it may ask from
    unsigned, where to notify it."""

    subscriber: str
    zones: frozenset[bytes]
    keys: tuple[Key, ...]
    networks: tuple[Network, ...]
    notify: tuple[tuple[str, int], ...]


class Zones:
    """What can be asked for, and by whom. Replaced piece by piece; a transfer keeps the view that it began with."""

    def __init__(self) -> None:
        self._views: dict[bytes, ZoneView | None] = {}
        self._keys: dict[bytes, tuple[Key, Peer]] = {}
        self._networks: dict[tuple[int, int], dict[int, list[Peer]]] = {}
        """The peers by network, by IP version and prefix length, the longest first: an unsigned query costs one look-up
        for each length instead of one for each subscriber."""
        self.peers: tuple[Peer, ...] = ()
        self.halted = False
        """Whether every query is answered SERVFAIL, since the state is not the newest or is damaged."""

    def configure(self, plans: Iterable[ZonePlan]) -> None:
        """Which zones there are; one that is new has no version yet."""
        names = {wire_name(plan.name) for plan in plans}
        self._views = {name: self._views.get(name) for name in names}

    def publish(self, view: ZoneView) -> bool:
        """Makes this the view that is served, unless a later serial is; whether the serial is another."""
        old = self._views.get(view.name)
        if old is not None and old.serial > view.serial:
            return False
        self._views[view.name] = view
        return old is None or old.serial != view.serial

    def admit(self, peers: Iterable[Peer]) -> None:
        self.peers = tuple(peers)
        self._keys = {key.name: (key, peer) for peer in self.peers for key in peer.keys}
        networks: dict[tuple[int, int], dict[int, list[Peer]]] = {}
        for peer in self.peers:
            for network in peer.networks:
                same_length = networks.setdefault((network.version, network.prefixlen), {})
                same_length.setdefault(int(network.network_address), []).append(peer)
        self._networks = dict(sorted(networks.items(), reverse=True))

    def __contains__(self, name: bytes) -> bool:
        return name in self._views

    def get(self, name: bytes) -> ZoneView | None:
        return self._views.get(name)

    def views(self) -> Mapping[bytes, ZoneView | None]:
        return self._views

    def key(self, name: bytes) -> Key | None:
        found = self._keys.get(name)
        return found[0] if found else None

    def subscriber(self, name: bytes) -> str | None:
        """The subscriber whose key has this name."""
        found = self._keys.get(name)
        return found[1].subscriber if found else None

    def peer_of(self, key: Key | None, address: str, zone: bytes) -> Peer | None:
        """Who asks for this zone: by its key, or, unsigned, by its address (a mapped IPv4 is an IPv4).

        None for whoever is not entitled to it. Where prefixes of several subscribers hold the address, it is the one
        that has the zone, by the longest prefix.
        """
        if key is not None:
            found = self._keys.get(key.name)
            return found[1] if found and zone in found[1].zones else None
        asked = ipaddress.ip_address(address)
        asked = getattr(asked, "ipv4_mapped", None) or asked
        number = int(asked)
        for (version, length), peers in self._networks.items():
            if version == asked.version:
                host = asked.max_prefixlen - length
                for peer in peers.get(number >> host << host, ()):
                    if zone in peer.zones:
                        return peer
        return None
