"""The daemon: starts the parts in order, reloads them, and stops them in reverse.

owner → lock → ports → database → trust → lists signed → listeners → READY → scrub, sweep, zones, reconcile → schedule.
SIGTERM → drain
"""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Final

from blocklistd import __version__
from blocklistd.config import CheckedConfig
from blocklistd.daemon import reloading
from blocklistd.daemon.listeners import Listeners
from blocklistd.daemon.parts import Parts
from blocklistd.daemon.start import bind_all, check_writable, open_store, refuse_strangers
from blocklistd.errors import DatabaseDamagedError, StoreError
from blocklistd.events import Event
from blocklistd.jobs.runner import Jobs
from blocklistd.limits import THREADS
from blocklistd.ops import loop, systemd
from blocklistd.ops.metrics import Metrics
from blocklistd.pipeline.resources import Resources
from blocklistd.signing.keys import load_trust
from blocklistd.store import upkeep
from blocklistd.store.database import Database
from blocklistd.store.high_water import HighWater, loss
from blocklistd.store.numbers import newest_time
from blocklistd.store.store import Store
from blocklistd.store.verified import Verified
from blocklistd.telemetry import ActiveAlarms
from blocklistd.times import CheckedClock, utc_now
from blocklistd.tls import ServedCertificate

log: Final = logging.getLogger(__name__)

DAMAGED: Final = (
    "Nothing is served and nothing is changed. Stop the daemon and put the newest database back; or, if there is no "
    "copy of it, move this one away together with its -wal and -shm, start the daemon, and do what it then says"
)


class Application:
    """One daemon on one state_dir."""

    def __init__(self, read: CheckedConfig) -> None:
        self._read = read
        self._first = read.config
        self._clock = CheckedClock()
        self._stopping = asyncio.Event()
        self._ready = False

    async def run(self) -> None:
        """Starts, serves until SIGTERM or SIGINT, drains. Raises BlocklistError where it can't start."""
        config = self._first
        asyncio.get_running_loop().set_exception_handler(loop.unheard)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="io"))
        async with AsyncExitStack() as stack:
            refuse_strangers(config.state_dir)
            found = Store.found(config.state_dir)
            stack.enter_context(found.locked())  # before the ports, which another daemon of this state_dir has as well
            check_writable(found)
            sockets = bind_all(config, stack)
            certificate = ServedCertificate(config.feed.tls)
            metrics = Metrics()
            resources, lost = await self._open(metrics, stack)
            warming = asyncio.ensure_future(resources.jobs.warm())
            stack.callback(warming.cancel)
            trust = await asyncio.to_thread(load_trust, config)
            self._parts = parts = Parts(self._read, resources, self._clock, metrics, trust, certificate)
            parts.alarms.look_at_clock()
            parts.alarms.found_at_start(self._read.problems)
            reloading.warn(self._read)
            if lost is None:
                try:
                    await parts.start()
                except DatabaseDamagedError as error:
                    lost = f"{error}. {DAMAGED}"
            if lost is not None:
                parts.halt(lost)
            # before the listeners: fed until they have drained
            for watching in (
                loop.watch(metrics.record_loop_lag),
                loop.feed(systemd.watchdog_interval()),
                parts.scheduler.watch(utc_now, stepped=parts.stepped),
            ):
                stack.callback(asyncio.ensure_future(watching).cancel)
            listeners = Listeners(parts, self._look)
            await listeners.start(stack, sockets)
            self._handle_signals()
            self._ready = True
            systemd.notify(f"READY=1\nSTATUS={lost or 'serving'}")
            Event.DAEMON_READY.log(log, version=__version__, file=config.path, listeners=listeners)
            settling = asyncio.ensure_future(self._settle_and_schedule(warming))
            stack.callback(settling.cancel)
            await self._stopping.wait()
            systemd.notify("STOPPING=1")
            Event.DAEMON_STOPPING.log(log)
            parts.scheduler.stop()
            parts.catalogue.close()

    # -- start -----------------------------------------------------------------------------------------------------

    async def _open(self, metrics: Metrics, stack: AsyncExitStack) -> tuple[Resources, str | None]:
        """The state and the jobs, closed with `stack`; and why the state may not be the newest (high_water.loss)."""
        store = await asyncio.to_thread(open_store, self._first.state_dir)
        database = Database(store.database, store.epoch, metrics, read_only=store.read_only)
        stack.callback(database.close)
        await asyncio.to_thread(database.keep_head)  # a job that was killed has perhaps written a line
        jobs = Jobs(metrics)
        stack.callback(jobs.close)
        alarms = ActiveAlarms()
        high_water = HighWater(self._first.high_water or store.state_dir / "high-water", alarms)
        await asyncio.to_thread(high_water.open)
        if self._first.high_water is not None:
            await asyncio.to_thread(high_water.check_writable)
        try:
            head = await asyncio.to_thread(database.head_file.read)
            lost = await database.reading(
                lambda connection: loss(connection, high_water.marks, head, high_water.missing)
            )
            self._clock.begin(await database.reading(newest_time))
        except StoreError as error:  # a damaged page: what can be read is served
            Event.STATE_NOT_CHECKED.log(log, reason=error)
            lost = None
        verified = Verified(store.sealed)
        return Resources(store, database, jobs, verified, self._clock, metrics, alarms, high_water), lost

    def _handle_signals(self) -> None:
        running = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(name, self._stopping.set)
        running.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(self._parts.reloading.run_quietly()))

    async def _settle_and_schedule(self, warming: asyncio.Future[None]) -> None:
        """Finishes the work that a crash interrupted, then starts the schedule. Work that fails is tried again."""

        async def warm() -> None:
            await warming

        parts = self._parts
        await loop.in_turn(warm)  # a job that has no process yet starts one
        await parts.resumed.wait()
        for name, work in (
            ("scrub", parts.pipeline.scrub),
            ("sweep", parts.upkeep.sweep),
            ("zones", parts.zones.advance),
            ("reconcile", parts.reconciling.reconcile),
            ("alarms", parts.housekeeping.look_for_alarms),
            ("reserve", functools.partial(asyncio.to_thread, upkeep.reserve, parts.resources.store)),
            ("schedule", parts.housekeeping.schedule),
        ):
            await parts.duties.do(name, work)
        parts.scheduler.start()
        await parts.duties.do("check database", parts.upkeep.check_database)

    def _look(self) -> tuple[list[str], list[str]]:
        """The lines of /readyz (ops.health.Look)."""
        if self._stopping.is_set():
            return ["stopping"], []
        found = self._parts.readiness()
        return [*([] if self._ready else ["starting"]), *found.down], found.wrong
