"""From a list's version to its zones: advance in a job, load, publish, notify.

A zone's serial is made by one job at a time. Nothing is sent from a file that is not verified: `usable` compares the
fingerprint of the compiled file when a transfer begins. A zone whose file is damaged is in `damaged`, and its transfers
are refused, until its files were made again; a zone that could not be brought to its list's version is in `behind`, and
the next try makes all of its files again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.errors import DamagedError, StoreError, told
from blocklistd.events import Event
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.limits import OMITTED_SHOWN, SMALL_DIFF
from blocklistd.model import ListId, Sha256, Version
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.secondaries import Secondaries
from blocklistd.pipeline.zone_job import advance, digests_read
from blocklistd.rpz.wire import Apex, wire_name
from blocklistd.serve.dns.zones import Zones, ZoneView
from blocklistd.store.ixfr import Way, ixfr_path, read_ixfr, way_from, write_ixfr
from blocklistd.store.numbers import above
from blocklistd.store.zone_files import CompiledFile
from blocklistd.store.zones import ZonePlan, ZoneSerial, drop_zone_delta, newest_serial, oldest_ixfr, zone_at

log: Final = logging.getLogger(__name__)

FEW_DELTAS: Final = 64  # deltas that are netted in a thread; more go to a job


class ZonePublisher:
    """Keeps the zones at their lists' live versions; `announce` hears of each new serial."""

    def __init__(self, resources: Resources, zones: Zones, announce: Callable[[ZoneView], None]) -> None:
        self._store = resources.store
        self._database = resources.database
        self._jobs = resources.jobs
        self._clock = resources.clock
        self._telemetry = resources.telemetry
        self._verified = resources.verified
        self._high_water = resources.high_water
        self._zones = zones
        self._announce = announce
        self._plans: dict[str, ZonePlan] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By zone: held while its next serial, or its files, are made."""
        self._repairs: dict[str, asyncio.Task[None]] = {}
        self._made: dict[tuple[str, int, int], asyncio.Future[None]] = {}
        self._renderings: dict[tuple[str, int, int], str | None] = {}
        """Fingerprints of the IXFR files that this process wrote; None for a difference larger than the zone."""
        self.secondaries = Secondaries(zones, resources.clock, resources.alarms)
        self.behind: set[str] = set()
        self.damaged: dict[str, str] = {}
        """Zones with a damaged file, and what is known of it."""
        self.unloaded: dict[str, str] = {}
        """Zones whose newest serial could not be loaded from the store, with the reason."""

    async def configure(self, plans: Iterable[ZonePlan]) -> None:
        """Serves what the store has of these zones, and no others; a zone that can't be served is `behind`."""
        self._plans = {plan.name: plan for plan in plans}
        self._zones.configure(self._plans.values())
        self.behind &= self._plans.keys()
        self.damaged = {name: reason for name, reason in self.damaged.items() if name in self._plans}
        self.unloaded = {name: reason for name, reason in self.unloaded.items() if name in self._plans}
        for plan in self._plans.values():
            try:
                await asyncio.to_thread(self._verify, plan, served=True)
                await self._load(plan)
                await asyncio.to_thread(self._verify, plan, served=False)
            except Exception as error:
                Event.ZONE_NOT_LOADED.log(log, zone=plan.name, reason=told(error))
                self.behind.add(plan.name)
                if self._zones.get(wire_name(plan.name)) is None and not await self._load_last_shown(plan):
                    self.unloaded[plan.name] = told(error)
                if isinstance(error, DamagedError):
                    self.damaged[plan.name] = str(error)

    async def advance(self, list_id: ListId | None = None, version: Version | None = None) -> None:
        """Brings the zones of a list, or all, to its live version; those that are known to be at `version` are left.

        A zone that can't be made keeps its last good serial, and is `behind` until it can.
        """
        for name in [plan.name for plan in self._plans.values() if list_id in (None, plan.list)]:
            async with self._locks[name]:
                plan = self._plans.get(name)  # not before: a reload may have changed it while this waited
                if plan is None:
                    continue
                served = self._zones.get(wire_name(plan.name))
                current = served is not None and served.version == version and served.plan.renders_as(plan)
                if current and plan.name not in self.behind:
                    continue  # a version of the same number may be another list's
                await self._bring(plan)

    async def _bring(self, plan: ZonePlan) -> None:
        """Runs the job for one zone, whose lock is held, and serves what it made. Never raises."""
        name = plan.name
        try:
            with self._telemetry.time_stage("zone", name), self._verified.sealing():
                digests = await self._database.reading(lambda connection: digests_read(connection, plan))
                order = (self._store, plan, self._clock(), name in self.behind, self._verified.of(digests))
                answer = await self._jobs.run(advance, *order, limits=COMMIT)
                self._verified.learn(answer["verified"])
                serial = answer["serial"]
                changed = serial is not None and await self._load(plan)
            if changed:
                view = self._zones.get(wire_name(name))
                records = view.records if view is not None else None
                Event.ZONE_LIVE.log(log, zone=name, serial=serial % 2**32, records=records)
            if self.damaged.pop(name, None) is not None:
                Event.ZONE_REPAIRED.log(log, zone=name)
            self.behind.discard(name)
        except Exception as error:  # one zone's trouble keeps no other from its version
            self.behind.add(name)
            Event.ZONE_BEHIND.log(log, zone=name, reason=told(error))

    async def repair(self, damaged: Collection[Sha256]) -> None:
        """Makes the files of the zones again of which one of these is a part; drops deltas that are lost."""
        wanted = set(damaged)

        def drop(connection: Connection) -> None:
            for digest in wanted:
                drop_zone_delta(connection, digest)

        await self._database.writing(drop)
        for name, plan in list(self._plans.items()):
            found = await self._database.reading(functools.partial(newest_serial, zone=name))
            if found is not None and wanted & set(found.digests):
                self.behind.add(name)
                self.damaged[name] = "a sealed file is damaged"
                await self._make_again(name)
            elif found is not None:
                async with self._locks[name]:
                    try:
                        await self._load(plan)  # differences may start later now
                    except Exception as error:  # one zone's trouble keeps no other from being repaired
                        self.behind.add(name)
                        Event.ZONE_BEHIND.log(log, zone=name, reason=told(error))

    def _verify(self, plan: ZonePlan, *, served: bool) -> None:
        """Verifies the files of the newest serial: with `served` the one that is sent, else all.

        Raises DamagedError.
        """
        with self._database.read() as connection:
            found = newest_serial(connection, plan.name)
        if found is not None:
            self._verified.require(*((found.wire,) if served else found.digests))

    async def _load_last_shown(self, plan: ZonePlan) -> bool:
        """Serves the last serial in the high-water file, where its file is still there. False where it is not."""
        serial = self._high_water.marks.zones.get(plan.name)
        with contextlib.suppress(StoreError, DamagedError):
            return serial is not None and await self._load(plan, serial)
        return False

    async def _load(self, plan: ZonePlan, serial: int | None = None) -> bool:
        """Serves this serial, or the newest. True where the served serial changed. Raises DamagedError."""

        def newest(connection: Connection) -> tuple[ZoneSerial | None, int | None, int]:
            name = plan.name
            found = newest_serial(connection, name) if serial is None else zone_at(connection, name, serial)
            return found, oldest_ixfr(connection, name), above(connection)

        found, oldest, lowest = await self._database.reading(newest)
        if found is None or oldest is None or plan.name not in self._plans:  # a reload may have taken it away
            return False
        if found.serial <= lowest:  # made before `start-above`: a new one is made
            return False
        file = await asyncio.to_thread(self._open, found.wire)
        view = ZoneView(
            plan=found.plan,  # not today's, until it has its own serial: none stands for two contents
            serial=found.serial,
            version=found.version,
            records=found.records,
            covered=found.covered,
            omitted=len(found.omitted),
            oldest=min(oldest, found.serial),
            compiled=file.content,
            file=file,
        )
        served = self._zones.get(view.name)
        replaces = served is not None and served.serial != view.serial
        await asyncio.to_thread(self._high_water.show_zone, plan.name, view.serial, replaces=replaces)
        changed = self._zones.publish(view)
        self.unloaded.pop(plan.name, None)
        if changed:
            for key in [key for key in self._renderings if key[0] == plan.name and key[2] != view.serial]:
                del self._renderings[key]
            self._announce(view)
        return changed

    def _open(self, digest: Sha256) -> CompiledFile:
        file = CompiledFile(self._store.sealed.path(digest), digest, self._verified.fingerprints.get(digest))
        self._verified.learn({digest: file.fingerprint})
        return file

    # -- before and during a transfer ------------------------------------------------------------------------------

    async def usable(self, view: ZoneView) -> ZoneView | None:
        """The view to send, verified: the newest one if the file of an older one is damaged. None while the zone is
        damaged; then its files are being made again.

        Costs one fstat as long as nothing touches the file.
        """
        while view.file is not None and not view.file.is_unchanged():
            current, name = self._zones.get(view.name), view.plan.name
            if current is view and name in self.damaged:
                return None
            if await asyncio.to_thread(view.file.is_intact):
                if current is view and not await asyncio.to_thread(self._verified.check, view.file.digest):
                    self._repair(name, "the file of compiled messages is missing or damaged; an open copy is served")
                return view
            current = self._zones.get(view.name)
            if current is view or current is None:
                if name in self._plans:
                    self.damaged[name] = "the file of compiled messages is damaged"
                    self._repair(name, f"{self.damaged[name]}; transfers are refused until it is made again")
                return None
            view = current
        return view

    def _repair(self, name: str, reason: str) -> None:
        """Has the zone's files made again, unless that runs already."""
        self.behind.add(name)
        if name not in self._repairs:
            Event.ZONE_DAMAGED.log(log, zone=name, reason=reason)
            self._repairs[name] = asyncio.create_task(self._make_again(name))
            self._repairs[name].add_done_callback(lambda _: self._repairs.pop(name))

    async def _make_again(self, name: str) -> None:
        async with self._locks[name]:
            plan = self._plans.get(name)
            if plan is not None and name in self.behind:
                await self._bring(plan)

    async def difference(self, view: ZoneView, since: int) -> tuple[Apex, bytes, bytes] | None:
        """The apex at a serial, and the compiled rules that are removed and added since. None where the whole zone is
        less to send, or no deltas lead from there."""
        key = (view.plan.name, since, view.serial)
        way = await self._database.reading(lambda connection: way_from(connection, *key))
        for _ in range(2):
            if way is None:
                return None
            if key not in self._renderings:
                if key not in self._made:
                    made = asyncio.ensure_future(self._write_ixfr(view, since, way))
                    made.add_done_callback(lambda _: self._made.pop(key, None))
                    self._made[key] = made
                await asyncio.shield(self._made[key])
            known = self._renderings.get(key)
            if known is None:
                return None
            compiled = await asyncio.to_thread(read_ixfr, ixfr_path(self._store, *key), known)
            if compiled is not None:
                return way.apex, *compiled
            if self._renderings.get(key) == known:  # the file was changed, or dropped to make room
                del self._renderings[key]
        raise StoreError(f"zone {view.plan.name}: another program keeps changing the file of a difference")

    async def _write_ixfr(self, view: ZoneView, start: int, way: Way) -> None:
        """Writes a difference and remembers its fingerprint. A damaged delta is dropped from the database."""
        plan, few = view.plan, way.changes <= SMALL_DIFF and len(way.deltas) <= FEW_DELTAS
        known, most = self._verified.of(way.deltas), max(view.records, 1)
        order = (self._store, plan, start, view.serial, way.deltas, most, known)
        try:
            if few:
                answer = await asyncio.to_thread(functools.partial(write_ixfr, *order, alone=True))
            else:
                answer = await self._jobs.run(write_ixfr, *order, limits=COMMIT)
        except DamagedError as error:
            digest = Sha256(error.digest)
            if await self._database.writing(lambda connection: drop_zone_delta(connection, digest)):  # not just pruned
                Event.ZONE_DELTA_DAMAGED.log(log, zone=plan.name)
            await self._load(plan)  # with another `oldest`
            return
        self._verified.learn(answer["verified"])
        self._renderings[plan.name, start, view.serial] = answer["fingerprint"]

    # -- what is told of the zones ---------------------------------------------------------------------------------

    def status(self, connection: Connection) -> dict[str, Any]:
        """The zones of `status`."""
        shown = {}
        for view in self._zones.views().values():
            if view is not None:
                found = newest_serial(connection, view.plan.name)
                shown[view.plan.name] = {
                    "serial": view.serial % 2**32,
                    "version": view.version,
                    "records": view.records,
                    "covered": view.covered,
                    "omitted": view.omitted,
                    "omitted_ids": list(dict.fromkeys(found.omitted))[:OMITTED_SHOWN] if found else [],
                    "list": view.plan.list,
                    "damaged": self.damaged.get(view.plan.name),
                }
        return shown
