"""Publishes zones: brings each zone to its list's live version, serves the new serial, and announces it.

Order of calls: `configure` at a start and after each reload, then `advance` after each version, `usable` before each
transfer and `difference` for an IXFR. A zone's lock is held while its files or its next serial are made.

A zone is served in one of these states, which `status`, readiness and metrics show:

- current: the newest serial is served, from a compiled file that was verified.
- `behind`: it could not be brought to its list's version. The last good serial is served; the next try makes all of
  the zone's files again.
- `damaged`: it is `behind`, and one of its files is damaged. If that is the file of compiled messages, transfers are
  refused until it is made again.
- `unloaded`: nothing of it could be loaded from the store; nothing is served.

A large zone's new serial is served and announced before its files are written: differences (IXFR) lead to it at once,
and a request for the complete zone waits for the messages.

On the disk: the sealed files of each serial (store/zone_files.py), and the files of differences under ixfr/, which are
made at the first request and may be deleted at any time. In the database: the serials (store/zones.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from blocklistd.errors import DamagedError, StoreError, safe_message
from blocklistd.events import Event
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.model import ListId, Sha256, Version
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.secondaries import Secondaries
from blocklistd.pipeline.zone_completion import compile_all
from blocklistd.pipeline.zone_differences import ZoneDifference, ZoneDifferences
from blocklistd.pipeline.zone_job import advance_all, digests_read
from blocklistd.pipeline.zone_status import zone_status
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.zones import Zones, ZoneView
from blocklistd.store.compiled_file import CompiledFile
from blocklistd.store.numbers import start_above_number
from blocklistd.store.zones import ZonePlan, ZoneSerial, drop_zone_delta, newest_serial, oldest_ixfr, zone_at

log: Final = logging.getLogger(__name__)


class _StoredZone(NamedTuple):
    """`oldest`: the first serial from which a difference is possible; `lowest`: serials must be above this number."""

    serial: ZoneSerial | None
    oldest: int | None
    lowest: int


class ZonePublisher:
    """Keeps the zones at their lists' live versions. `announce` is called with each new serial, to send NOTIFY."""

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
        """By zone: held while its next serial or its files are made."""
        self._repairs: dict[str, asyncio.Task[None]] = {}
        self._differences = ZoneDifferences(resources)
        self.secondaries = Secondaries(zones, resources.clock, resources.claims)
        self.behind: set[str] = set()
        self.damaged: dict[str, str] = {}
        """Zones with a damaged file, and a description of the damage."""
        self.unloaded: dict[str, str] = {}
        """Zones whose newest serial could not be loaded from the store, with the reason."""

    async def configure(self, plans: Iterable[ZonePlan]) -> None:
        """Serve the newest serial of these zones, and no other zones. A zone that can't be loaded is `behind`."""
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
                Event.ZONE_NOT_LOADED.log(log, zone=plan.name, reason=safe_message(error))
                self.behind.add(plan.name)
                if self._zones.get(wire_name(plan.name)) is None and not await self._load_last_shown(plan):
                    self.unloaded[plan.name] = safe_message(error)
                if isinstance(error, DamagedError):
                    self.damaged[plan.name] = str(error)

    async def advance(
        self,
        list_id: ListId | None = None,
        version: Version | None = None,
        served: Callable[[], None] = lambda: None,
    ) -> None:
        """Bring the zones of a list (None: of all lists) to the live version. Zones that are at `version` already are
        skipped. `served` is called when the serials of a list are served, before their files are written.

        If a zone can't be made, its last good serial stays live and the zone is `behind`. Never raises.
        """
        lists = dict.fromkeys(plan.list for plan in self._plans.values())
        for one in [list_id] if list_id is not None else lists:
            names = sorted(plan.name for plan in self._plans.values() if plan.list == one)
            async with contextlib.AsyncExitStack() as stack:
                for name in names:
                    await stack.enter_async_context(self._locks[name])
                # read under the locks: a reload may have changed the plans meanwhile
                plans = [plan for name in names if (plan := self._plans.get(name)) is not None]
                due = [plan for plan in plans if not self._is_current(plan, version)]
                made = await self._advance_zones(due) if due else []
                served()
                await self._compile(made)

    def _is_current(self, plan: ZonePlan, version: Version | None) -> bool:
        """Whether the zone is at this version. The plans are compared too: another list may have a version of this
        number."""
        served = self._zones.get(wire_name(plan.name))
        if served is None or served.compiled is None or served.version != version:
            return False
        return served.plan.renders_as(plan) and plan.name not in self.behind

    async def _advance_zones(self, plans: list[ZonePlan]) -> list[ZonePlan]:
        """Run the job for zones of one list, and serve the serials that it made. Returns the zones that did not fail,
        for `_compile`. The caller holds the zones' locks. Never raises."""
        failed: dict[str, str] = {}
        serials: dict[str, int | None] = {}
        try:
            with contextlib.ExitStack() as stack:
                for plan in plans:
                    stack.enter_context(self._telemetry.time_stage("zone", plan.name))
                stack.enter_context(self._verified.sealing())

                def read(connection: Connection) -> list[Sha256]:
                    return [digest for plan in plans for digest in digests_read(connection, plan)]

                known = self._verified.of(await self._database.reading(read))
                arguments = (self._store, plans, self._clock(), self.behind.copy(), known)
                answer = await self._jobs.run(advance_all, *arguments, limits=COMMIT)
                self._verified.learn(answer["verified"])
                serials, failed = answer["serials"], answer["failed"]
        except Exception as error:
            failed = {plan.name: safe_message(error) for plan in plans}
        for plan in plans:
            name = plan.name
            try:
                serial = serials.get(name)
                changed = serial is not None and await self._load(plan)
            except Exception as error:  # an error in one zone does not stop the others
                failed[name] = safe_message(error)
            if name in failed:
                self.behind.add(name)
                Event.ZONE_BEHIND.log(log, zone=name, reason=failed[name])
                continue
            if changed and serial is not None:
                view = self._zones.get(wire_name(name))
                Event.ZONE_LIVE.log(log, zone=name, serial=serial % 2**32, records=view.records if view else None)
            if self.damaged.pop(name, None) is not None:
                Event.ZONE_REPAIRED.log(log, zone=name)
            self.behind.discard(name)
        return [plan for plan in plans if plan.name not in failed]

    async def _compile(self, plans: list[ZonePlan]) -> None:
        """Write the files of the zones that are served without them. The caller holds the zones' locks. Never
        raises."""
        views = (self._zones.get(wire_name(plan.name)) for plan in plans)
        due = [view.plan.name for view in views if view is not None and view.compiled is None]
        if not due:
            return
        try:
            with self._verified.sealing():
                answer = await self._jobs.run(compile_all, self._store, due, self._verified.fingerprints, limits=COMMIT)
            self._verified.learn(answer["verified"])
            failed = answer["failed"]
        except Exception as error:
            failed = dict.fromkeys(due, safe_message(error))
        for plan in plans:
            if plan.name in due and plan.name not in failed:
                try:
                    await self._load(plan)
                except Exception as error:  # an error in one zone does not stop the others
                    failed[plan.name] = safe_message(error)
            if plan.name in failed:
                self.behind.add(plan.name)
                Event.ZONE_BEHIND.log(log, zone=plan.name, reason=failed[plan.name])

    async def repair(self, damaged: Collection[Sha256]) -> None:
        """Make the files of each zone again that uses a damaged file; drop damaged deltas from the database."""
        digests = set(damaged)

        def drop(connection: Connection) -> None:
            for digest in digests:
                drop_zone_delta(connection, digest)

        await self._database.writing(drop)
        for name, plan in list(self._plans.items()):
            found = await self._database.reading(functools.partial(newest_serial, zone=name))
            if found is not None and digests & set(found.digests):
                self.behind.add(name)
                self.damaged[name] = "a sealed file is damaged"
                await self._make_again(name)
            elif found is not None:
                async with self._locks[name]:
                    try:
                        await self._load(plan)  # without the dropped deltas, differences may begin at a later serial
                    except Exception as error:  # an error in one zone does not stop the others
                        self.behind.add(name)
                        Event.ZONE_BEHIND.log(log, zone=name, reason=safe_message(error))

    def _verify(self, plan: ZonePlan, *, served: bool) -> None:
        """Verify the files of the newest serial: with `served` only the file that transfers send, else all.

        Raises DamagedError.
        """
        with self._database.read() as connection:
            found = newest_serial(connection, plan.name)
        if found is not None:
            self._verified.require(*((found.wire,) if served else found.digests))

    async def _load_last_shown(self, plan: ZonePlan) -> bool:
        """Serve the serial that the high-water file names; False if its files are missing or damaged."""
        serial = self._high_water.highest_numbers.zones.get(plan.name)
        with contextlib.suppress(StoreError, DamagedError):
            return serial is not None and await self._load(plan, serial)
        return False

    async def _load(self, plan: ZonePlan, serial: int | None = None) -> bool:
        """Serve this serial, or the newest. True if the served serial changed. Raises DamagedError."""

        def read(connection: Connection) -> _StoredZone:
            name = plan.name
            found = newest_serial(connection, name) if serial is None else zone_at(connection, name, serial)
            return _StoredZone(found, oldest_ixfr(connection, name), start_above_number(connection))

        found, oldest, lowest = await self._database.reading(read)
        if found is None or oldest is None or plan.name not in self._plans:  # a reload may have removed the zone
            return False
        if found.serial <= lowest:  # made before `start-above`: `advance` makes a new one
            return False
        file = await asyncio.to_thread(self._open, found.wire) if found.is_compiled else None
        view = ZoneView(
            plan=found.plan,  # of the serial, not the configured one: a serial never stands for two contents
            serial=found.serial,
            version=found.version,
            records=found.records,
            covered=found.covered,
            omitted=len(found.omitted),
            oldest=min(oldest, found.serial),
            compiled=file,
            file=file,
        )
        served = self._zones.get(view.name)
        replaces = served is not None and served.serial != view.serial
        await asyncio.to_thread(self._high_water.record_zone, plan.name, view.serial, replaces=replaces)
        changed = self._zones.publish(view)
        self.unloaded.pop(plan.name, None)
        if changed:
            self._differences.forget(plan.name, view.serial)
            self._announce(view)
        return changed

    def _open(self, digest: Sha256) -> CompiledFile:
        file = CompiledFile(self._store.sealed.path(digest), digest, self._verified.fingerprints.get(digest))
        self._verified.learn({digest: file.fingerprint})
        return file

    # -- before and during a transfer ------------------------------------------------------------------------------

    async def usable(self, view: ZoneView, is_complete: bool) -> ZoneView | None:
        """Return the view to send, with a verified file: `view`, or the newest one if the file of `view` is damaged.
        None while the zone is damaged; its files are then made again. `is_complete`: the transfer is that of the
        complete zone, and waits while its messages are being compiled.

        Costs one fstat while the file is unchanged.
        """
        if is_complete and view.compiled is None:
            async with self._locks[view.plan.name]:
                compiled = self._zones.get(view.name)
            if compiled is None or compiled.compiled is None:
                return None
            view = compiled
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
        """Start to make the zone's files again, unless that is under way."""
        self.behind.add(name)
        if name not in self._repairs:
            Event.ZONE_DAMAGED.log(log, zone=name, reason=reason)
            self._repairs[name] = asyncio.create_task(self._make_again(name))
            self._repairs[name].add_done_callback(lambda _: self._repairs.pop(name))

    async def _make_again(self, name: str) -> None:
        async with self._locks[name]:
            plan = self._plans.get(name)
            if plan is not None and name in self.behind:
                await self._compile(await self._advance_zones([plan]))

    async def difference(self, view: ZoneView, since: int) -> ZoneDifference | None:
        """Return the difference from serial `since` to the serial of `view` (ZoneDifferences.between). A damaged delta
        is dropped from the database. Raises StoreError."""
        try:
            return await self._differences.between(view, since)
        except DamagedError as error:
            digest = Sha256(error.digest)
            if await self._database.writing(lambda connection: drop_zone_delta(connection, digest)):  # not just pruned
                Event.ZONE_DELTA_DAMAGED.log(log, zone=view.plan.name)
            await self._load(view.plan)  # sets `oldest` to the first serial from which a difference is still possible
            return None

    def names_of(self, zone: str) -> list[str]:
        """The zones that are served for a configured zone: itself, or its shards."""
        return [name for name, plan in self._plans.items() if plan.granted == zone] or [zone]

    def status(self, connection: Connection) -> dict[str, Any]:
        """Return the zones as `status --json` has them, by name."""
        return zone_status(connection, self._zones.views().values(), self.damaged)
