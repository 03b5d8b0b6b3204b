"""From a list's version to its zones: advance in a job, load, flip, notify; and who was seen with which serial."""

from __future__ import annotations

import asyncio
import logging
import mmap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, func, select

from blocklistd.errors import StoreError, told
from blocklistd.jobs.runner import Jobs
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.limits import MAX_SECONDARIES, OMITTED_SHOWN, SMALL_DIFF
from blocklistd.model import ListId, Sha256, Version
from blocklistd.outputs.wire import wire_name
from blocklistd.publish import Clock
from blocklistd.serve.dns_query import Seen
from blocklistd.serve.zones import Zones, ZoneView
from blocklistd.stations import Stations
from blocklistd.versions.database import Database
from blocklistd.versions.schema import zone_changes, zone_serials
from blocklistd.versions.store import Store
from blocklistd.versions.zones import (
    ZonePlan,
    ZoneSerial,
    advance,
    ixfr_path,
    leads_from,
    newest_serial,
    oldest_ixfr,
    read_ixfr,
    write_ixfr,
)

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A secondary: the serial that it last asked from (None: it has not said one), and when."""

    serial: int | None
    seen: datetime


class ZonePublisher:
    """Keeps the zones at their lists' live versions; `announce` hears of each new serial."""

    def __init__(
        self, store: Store, database: Database, jobs: Jobs, zones: Zones, clock: Clock, stations: Stations
    ) -> None:
        self._store = store
        self._database = database
        self._jobs = jobs
        self._zones = zones
        self._clock = clock
        self._stations = stations
        self._plans: dict[str, ZonePlan] = {}
        self._made: dict[tuple[str, int, int], asyncio.Future[None]] = {}
        self.sightings: dict[tuple[str, bytes], dict[str, Sighting]] = {}
        self.behind: set[str] = set()
        self.announce: Callable[[ZoneView], None] = lambda view: None

    async def configure(self, plans: Iterable[ZonePlan]) -> None:
        """Serves what the store has of these zones, and no others; one of which that can't be had is `behind`."""
        self._plans = {plan.name: plan for plan in plans}
        self._zones.configure(self._plans.values())
        self.behind &= self._plans.keys()
        for plan in self._plans.values():
            try:
                if not await asyncio.to_thread(self._is_whole, plan):
                    raise StoreError("a file of it is missing or damaged")
                await self._load(plan)
            except Exception as error:
                log.error("zone %s is made again: %s", plan.name, told(error))
                self.behind.add(plan.name)

    async def advance(self, list_id: ListId | None = None, version: Version | None = None) -> None:
        """Brings the zones of a list, or all, to its live version; those that are known to be at `version` are left.

        Files are sealed meanwhile. A zone that can't be made keeps its last good serial, and is in `behind` until it
        can: for it is not known why, all of it is made anew then.
        """
        for plan in [plan for plan in self._plans.values() if list_id in (None, plan.list)]:
            served = self._zones.get(wire_name(plan.name))
            if served is not None and served.version == version and served.plan.renders_as(plan):
                continue  # a version of the same number may be another list's
            try:
                with self._stations.timed("zone", plan.name):
                    order = (self._store, plan, self._clock(), plan.name in self.behind)
                    serial = await self._jobs.run(advance, *order, limits=COMMIT)
                    changed = serial is not None and await self._load(plan)
                if changed:
                    log.info("zone %s: serial %d is live", plan.name, serial)
                self.behind.discard(plan.name)
            except Exception as error:  # one zone's trouble keeps no other from its version
                self.behind.add(plan.name)
                log.error("zone %s stays as it is: %s", plan.name, told(error))

    def _is_whole(self, plan: ZonePlan) -> bool:
        """Whether the files of the newest serial are what their names say."""
        with self._database.read() as connection:
            found = newest_serial(connection, plan.name)
        digests = (found.wire, found.rules, found.names) if found else ()
        return all(digest is None or self._store.sealed.intact(digest) for digest in digests)

    async def _load(self, plan: ZonePlan) -> bool:
        """Serves the newest serial; whether it is another than was served."""

        def newest(connection: Connection) -> tuple[ZoneSerial | None, int | None]:
            return newest_serial(connection, plan.name), oldest_ixfr(connection, plan.name)

        found, oldest = await self._database.reading(newest)
        if found is None or oldest is None:
            return False
        view = ZoneView(
            plan=found.plan,  # not today's, until it has its own serial: none stands for two contents
            serial=found.serial,
            version=found.version,
            records=found.records,
            covered=found.covered,
            omitted=len(found.omitted),
            oldest=oldest,
            compiled=await asyncio.to_thread(self._map, found.wire),
        )
        changed = self._zones.publish(view)
        if changed:
            self.announce(view)
        return changed

    def _map(self, digest: Sha256) -> memoryview:
        """The compiled zone. The mapping outlives the file's name, as long as a transfer still reads it."""
        with open(self._store.sealed.path(digest), "rb") as file:
            if not file.seek(0, 2):
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    async def difference(self, view: ZoneView, since: int) -> tuple[bytes, bytes] | None:
        """What goes and what comes since a serial, compiled; None where the whole zone is less to send."""

        def known(connection: Connection) -> tuple[bool, int]:
            return leads_from(connection, view.plan.name, since), _logged(connection, view, since)

        leads, logged = await self._database.reading(known)
        if not leads or logged > max(view.records, 1):
            return None
        key = (view.plan.name, since, view.serial)
        path = ixfr_path(self._store, *key)
        if not await asyncio.to_thread(path.exists):
            if key not in self._made:
                made = asyncio.ensure_future(self._make(view.plan, since, view.serial, logged))
                made.add_done_callback(lambda _: self._made.pop(key, None))
                self._made[key] = made
            await asyncio.shield(self._made[key])
        return await asyncio.to_thread(read_ixfr, path)

    async def _make(self, plan: ZonePlan, start: int, end: int, logged: int) -> None:
        if logged <= SMALL_DIFF:
            await asyncio.to_thread(write_ixfr, self._store, plan, start, end)
        else:
            await self._jobs.run(write_ixfr, self._store, plan, start, end, limits=COMMIT)

    # -- who has what ----------------------------------------------------------------------------------------------

    def saw(self, seen: Seen) -> None:
        """A secondary holds a serial when it asks from it, not when it was sent."""
        known = self.sightings.setdefault((seen.peer.subscriber, seen.zone), {})
        before = known.get(seen.address)
        serial = seen.serial if seen.serial is not None else before.serial if before else None
        known.pop(seen.address, None)  # behind all that asked before it
        known[seen.address] = Sighting(serial, self._clock())
        if len(known) > MAX_SECONDARIES:
            del known[next(iter(known))]

    def status(self, connection: Connection) -> dict[str, Any]:
        """The zones of `status`."""
        shown = {}
        for view in self._zones.views().values():
            if view is not None:
                found = newest_serial(connection, view.plan.name)
                shown[view.plan.name] = {
                    "serial": view.serial,
                    "version": view.version,
                    "records": view.records,
                    "covered": view.covered,
                    "omitted": view.omitted,
                    "omitted_ids": list(found.omitted)[:OMITTED_SHOWN] if found else [],
                    "list": view.plan.list,
                }
        return shown

    def lag(self, connection: Connection, zone: str, serial: int | None) -> float | None:
        """Seconds since there is something newer than this serial; None where it is not known."""
        if serial is None:
            return None
        since = connection.execute(
            select(func.min(zone_serials.c.time)).where(zone_serials.c.zone == zone, zone_serials.c.serial > serial)
        ).scalar()
        return round((self._clock() - since).total_seconds(), 3) if since else 0.0

    def furthest(self, connection: Connection) -> dict[str, float]:
        """By zone, since when (seconds) a secondary has lacked a serial; 0.0 where none does.

        One that asks with SOA first never says that it has what it was sent last (RFC 1995 2), so only the serial after
        that is missed for sure. An address that has not asked for a day is a secondary no more.
        """
        now, found = self._clock(), {}
        for zone in list(self._plans):
            name = wire_name(zone)
            entitled = {peer.subscriber for peer in self._zones.peers if name in peer.zones}
            serials = {
                sighting.serial
                for (subscriber, of), known in self.sightings.items()
                if of == name and subscriber in entitled
                for sighting in known.values()
                if sighting.serial is not None and now - sighting.seen < timedelta(days=1)
            }
            since = _second_after(connection, zone, min(serials)) if serials else None
            found[zone] = (now - since).total_seconds() if since else 0.0
        return found


def _second_after(connection: Connection, zone: str, serial: int) -> datetime | None:
    """When the zone had its second serial after this one."""
    made: datetime | None = connection.execute(
        select(zone_serials.c.time)
        .where(zone_serials.c.zone == zone, zone_serials.c.serial > serial)
        .order_by(zone_serials.c.serial)
        .offset(1)
        .limit(1)
    ).scalar()
    return made


def _logged(connection: Connection, view: ZoneView, since: int) -> int:
    """How many rows of the log lie between a serial and the view's."""
    return int(
        connection.execute(
            select(func.count()).where(
                zone_changes.c.zone == view.plan.name,
                zone_changes.c.serial > since,
                zone_changes.c.serial <= view.serial,
            )
        ).scalar_one()
    )
