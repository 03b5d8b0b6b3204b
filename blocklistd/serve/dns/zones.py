"""The served zones: one frozen view for each zone, and the subscribers that may transfer it.

State: for each configured zone a view, or None before its first version. `configure` sets the names, `publish` replaces
the view of one zone by one assignment, `replace_peers` replaces the subscribers. `replace_catalogs` replaces the
catalog zones (RFC 9432): each subscriber has its own, and all have the same name. While `halted` is set, every query is
answered SERVFAIL. A transfer keeps the view with which it began.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from blocklistd.config import Network
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.tsig import Key
from blocklistd.store.compiled_file import CompiledFile
from blocklistd.store.zones import ZonePlan


@dataclass(frozen=True, slots=True)
class ZoneView:
    """A zone at one serial, made from the list's `version` by the settings in `plan`.

    `records`, `covered` and `omitted` are numbers of rules, of names that a listed domain covers, and of entries for
    which there is no rule (rpz.rules). `oldest` is the oldest serial from which a difference (IXFR) can start. Serials
    here are not wrapped to 32 bits. `compiled` are the zone's messages (rpz.wire), None while they are being made;
    `file` is the file with them (None: they are in memory).
    """

    plan: ZonePlan
    serial: int
    version: int
    records: int
    covered: int
    omitted: int
    oldest: int
    compiled: memoryview | CompiledFile | None = field(repr=False)
    file: CompiledFile | None = field(default=None, repr=False)

    @property
    def name(self) -> bytes:
        """The zone's name in wire format."""
        return wire_name(self.plan.name)

    def soa(self) -> bytes:
        """The SOA record in wire format."""
        return self.plan.apex.soa(self.serial)


@dataclass(frozen=True, slots=True)
class TlsClient:
    """What a client on TLS has shown in its handshake. `certificate`: the SHA-256 (hex) of the public key (SPKI) of its
    certificate, "" if it sent none. `alpn`: whether it negotiated the protocol `dot`."""

    certificate: str = ""
    alpn: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """A subscriber as the DNS server needs it.

    `zones`: the names, in wire format, of the zones that it may transfer. `networks`: where it may send requests from
    without a signature. `notify`: addresses and ports of its secondaries. `certificates`: the SHA-256 of the public
    keys of its client certificates. `without_alpn`: whether it may use TLS without ALPN.
    """

    subscriber: str
    zones: frozenset[bytes]
    keys: tuple[Key, ...]
    networks: tuple[Network, ...]
    notify: tuple[tuple[str, int], ...]
    certificates: tuple[str, ...] = ()
    without_alpn: bool = False


class Zones:
    """The views by zone name, and the subscribers by key, by client certificate and by network. All names are in wire
    format, lower case."""

    def __init__(self) -> None:
        self._views: dict[bytes, ZoneView | None] = {}
        self._shards: dict[bytes, list[bytes]] = {}
        self._given: tuple[Peer, ...] = ()
        self._keys: dict[bytes, tuple[Key, Peer]] = {}
        self._certificates: dict[str, Peer] = {}
        self._networks: dict[tuple[int, int], dict[int, list[Peer]]] = {}
        """From (IP version, prefix length), the longest first, to network address, to subscribers. An unsigned query
        costs one look-up for each prefix length instead of one for each subscriber."""
        self.peers: tuple[Peer, ...] = ()
        self._catalog: bytes | None = None
        self._catalogs: Mapping[str, ZoneView] = {}
        """By subscriber."""
        self.halted = False
        """Whether every query is answered SERVFAIL, because the state is old or damaged."""

    def configure(self, plans: Iterable[ZonePlan]) -> None:
        """Sets the zones. A new one has no view until `publish`; views of zones that are not named are dropped."""
        shards: dict[bytes, list[bytes]] = {}
        for plan in plans:
            shards.setdefault(wire_name(plan.granted), []).append(wire_name(plan.name))
        self._shards = shards
        self._views = {name: self._views.get(name) for names in shards.values() for name in names}
        self.replace_peers(self._given)

    def publish(self, view: ZoneView) -> bool:
        """Serves this view from now on, unless the present one has a higher serial. Returns whether the serial changed.

        The caller then sends NOTIFY.
        """
        old = self._views.get(view.name)
        if old is not None and old.serial > view.serial:
            return False
        self._views[view.name] = view
        return old is None or old.serial != view.serial

    def replace_peers(self, peers: Iterable[Peer]) -> None:
        """Replaces the subscribers. One that is entitled to a zone is entitled to its shards."""
        self._given = tuple(peers)
        self.peers = tuple(map(self._with_shards, self._given))
        self._keys = {key.name: (key, peer) for peer in self.peers for key in peer.keys}
        self._certificates = {one: peer for peer in self.peers for one in peer.certificates}
        networks: dict[tuple[int, int], dict[int, list[Peer]]] = {}
        for peer in self.peers:
            for network in peer.networks:
                same_length = networks.setdefault((network.version, network.prefixlen), {})
                same_length.setdefault(int(network.network_address), []).append(peer)
        self._networks = dict(sorted(networks.items(), reverse=True))

    def _with_shards(self, peer: Peer) -> Peer:
        zones = frozenset(name for zone in peer.zones for name in self._shards.get(zone, [zone]))
        return peer if zones == peer.zones else replace(peer, zones=zones)

    def replace_catalogs(self, name: bytes | None, views: Mapping[str, ZoneView]) -> None:
        """Replaces the catalog zones: their name (None: there are none), and the views by subscriber."""
        self._catalog, self._catalogs = name, views

    def catalogs(self) -> Mapping[str, ZoneView]:
        """The catalog zones by subscriber."""
        return self._catalogs

    def __contains__(self, name: bytes) -> bool:
        """Whether the zone is configured, or is the catalog."""
        return name in self._views or name == self._catalog

    def entitles(self, peer: Peer, zone: bytes) -> bool:
        """Whether a subscriber may transfer the zone. The catalog is for everyone who may transfer another zone."""
        return zone in peer.zones or (bool(peer.zones) and zone == self._catalog)

    def view_for(self, zone: bytes, subscriber: str) -> ZoneView | None:
        """The view of the zone, or of the subscriber's own catalog; None before the first."""
        return self._catalogs.get(subscriber) if zone == self._catalog else self._views.get(zone)

    def get(self, name: bytes) -> ZoneView | None:
        """The zone's view; None before its first version, or if there is no such zone."""
        return self._views.get(name)

    def names(self) -> list[bytes]:
        """The names of all zones, and of the catalog."""
        return [*self._views, *([] if self._catalog is None else [self._catalog])]

    def views(self) -> Mapping[bytes, ZoneView | None]:
        """The views by zone name; None before a zone's first version."""
        return self._views

    def key(self, name: bytes, now: int) -> Key | None:
        """The key of this name; None once it is not valid any more. `now` is in Unix seconds."""
        key, _ = self._keys.get(name, (None, None))
        return None if key is None or (key.until is not None and now >= key.until) else key

    def subscriber(self, name: bytes) -> str | None:
        """The subscriber whose key has this name."""
        found = self._keys.get(name)
        return found[1].subscriber if found else None

    def owner(self, certificate: str) -> Peer | None:
        """The subscriber whose client certificate has a public key with this SHA-256 (hex)."""
        return self._certificates.get(certificate)

    def peer_of(self, key: Key | None, address: str, zone: bytes, certificate: str = "") -> Peer | None:
        """The subscriber that sent a request for this zone: by its key; if the request is unsigned, by its client
        certificate; without a registered one, by its address.

        None if the client is not entitled to the zone, or if its key and its certificate are of different subscribers.
        If networks of several subscribers contain the address, it is the subscriber with the longest prefix among those
        that are entitled. An IPv4-mapped IPv6 address is an IPv4 address.
        """
        owner = self.owner(certificate)
        signed = self._keys.get(key.name) if key is not None else None
        if key is not None or owner is not None:
            found = signed[1] if signed else owner if key is None else None
            return found if found and self.entitles(found, zone) and owner in (None, found) else None
        sender = ipaddress.ip_address(address)
        sender = getattr(sender, "ipv4_mapped", None) or sender
        number = int(sender)
        for (version, length), peers in self._networks.items():
            if version == sender.version:
                host = sender.max_prefixlen - length
                for peer in peers.get(number >> host << host, ()):
                    if self.entitles(peer, zone):
                        return peer
        return None
