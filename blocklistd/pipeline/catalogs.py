"""Publishes catalog zones (RFC 9432): one for each subscriber, with the zones that it may transfer.

Order of calls: `update` after a start, after each change of the subscribers and of the configuration, and after the
first serial of a zone. A catalog's serial rises when its members change, and never else.

A zone becomes a member once it is served: before, a secondary could not transfer it. So a catalog never begins empty: a
secondary that is taken over from another primary would delete its zones. A member stays one while it is
configured and granted, also if it can't be loaded: a secondary deletes a zone that is not a member any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from sqlalchemy import Connection

from blocklistd.model import ListId
from blocklistd.pipeline.resources import Resources
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.catalog import catalog_apex, compile_catalog
from blocklistd.serve.dns.zones import Zones, ZoneView
from blocklistd.store import catalogs
from blocklistd.store.catalogs import StoredCatalog
from blocklistd.store.numbers import start_above_number
from blocklistd.store.zones import ZonePlan

_NO_LIST: Final = ListId("")


class CatalogPublisher:
    """Keeps each subscriber's catalog in `zones`. `name`: that of `dns.catalog`; None: there are no catalogs.
    `configured`: the names of the zones. `announce` is called with each new serial and its subscriber, to send
    NOTIFY."""

    def __init__(
        self,
        resources: Resources,
        zones: Zones,
        name: Callable[[], str | None],
        configured: Callable[[], Iterable[str]],
        announce: Callable[[ZoneView, str], None],
    ) -> None:
        self._database = resources.database
        self._high_water = resources.high_water
        self._zones = zones
        self._name = name
        self._configured = configured
        self._announce = announce
        self._served: dict[str, StoredCatalog] = {}
        """By subscriber."""
        self._updating = asyncio.Lock()

    def lacks(self, view: ZoneView) -> bool:
        """Whether the zone is served and not yet in the catalog of every subscriber that may have it."""
        if self._name() is None:
            return False
        peers = [peer for peer in self._zones.peers if view.name in peer.zones]
        return any(view.plan.name not in self._members_served(peer.subscriber) for peer in peers)

    def _members_served(self, subscriber: str) -> tuple[str, ...]:
        found = self._served.get(subscriber)
        return found.members if found is not None else ()

    async def update(self) -> None:
        """Makes and serves new serials of the catalogs whose members have changed. Raises StoreError; then the catalogs
        before are served."""
        async with self._updating:
            name = self._name()
            if name is None:
                self._served = {}
                self._zones.replace_catalogs(None, {})
                return
            lowest, stored = await self._database.reading(lambda c: (start_above_number(c), catalogs.load(c, name)))
            changed = {}
            for peer in self._zones.peers:
                before = stored.get(peer.subscriber, StoredCatalog(0, ()))
                members = self._members(peer.zones, before)
                if members != before.members or (members and before.serial <= lowest):
                    changed[peer.subscriber] = members

            def save(connection: Connection) -> dict[str, StoredCatalog]:
                catalogs.save(connection, name, changed, lowest)
                return catalogs.load(connection, name)

            try:
                if changed:
                    stored = await self._database.writing(save)
            finally:
                await self._serve(name, {who: one for who, one in stored.items() if one.serial > lowest})

    def _members(self, granted: frozenset[bytes], before: StoredCatalog) -> tuple[str, ...]:
        """The names of the granted zones that are served, or that were members and are configured."""
        return tuple(
            name
            for name in sorted(self._configured())
            if (zone := wire_name(name)) in granted and (self._zones.get(zone) is not None or name in before.members)
        )

    async def _serve(self, name: str, stored: dict[str, StoredCatalog]) -> None:
        """Serves the stored catalogs of the present subscribers, and announces new serials."""
        if stored:
            highest = max(one.serial for one in stored.values())
            await asyncio.to_thread(self._high_water.record_zone, name, highest, replaces=bool(self._served))
        views = {
            peer.subscriber: _view(name, stored[peer.subscriber])
            for peer in self._zones.peers
            if peer.subscriber in stored
        }
        before, self._served = self._served, {who: stored[who] for who in views}
        self._zones.replace_catalogs(wire_name(name), views)
        for who, view in views.items():
            if who not in before or before[who].serial != view.serial:
                self._announce(view, who)


def _view(name: str, found: StoredCatalog) -> ZoneView:
    """The catalog as a zone at its serial. There are no differences: an IXFR is answered with the complete zone."""
    return ZoneView(
        plan=ZonePlan(name, _NO_LIST, (), ".", 0, catalog_apex(name), 1),
        serial=found.serial,
        version=0,
        records=1 + len(found.members),
        covered=0,
        omitted=0,
        oldest=found.serial,
        compiled=memoryview(compile_catalog(name, found.members)),
    )
