"""The daemon: starts the parts in order, and stops them in reverse order.

States, each with the event that leads to the next:

1. starting: check the owner of state_dir, take the store lock, bind the ports, open the database, load the keys, sign
   the lists, start the listeners; then READY=1.
2. ready: scrub, sweep, publish zones, reconcile, check alarms; then the schedule runs. SIGHUP reloads (reloading.py).
3. stopping (SIGTERM, SIGINT): /readyz is 503, requests under way may end, then everything is closed.

*Halted* is a variant of ready, entered by a start whose state is damaged or older than what was published before:
clients get 503 and SERVFAIL, nothing is published, the schedule does not begin. `blocklistd start-above` ends it if
the database can be read.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import Final

from blocklistd import __version__
from blocklistd.config import CheckedConfig
from blocklistd.daemon import reloading, status_line
from blocklistd.daemon.listeners import Listeners
from blocklistd.daemon.operations.keys import is_adopted
from blocklistd.daemon.parts import Parts
from blocklistd.daemon.start import bind_all, check_writable, open_store, require_owner
from blocklistd.daemon.state_checks import require_state
from blocklistd.errors import DatabaseDamagedError, StoreError
from blocklistd.events import Event
from blocklistd.jobs.runner import Jobs
from blocklistd.limits import THREADS
from blocklistd.ops import loop, systemd
from blocklistd.ops.metrics import Metrics
from blocklistd.pipeline.resources import Resources
from blocklistd.serve.claims import Claims
from blocklistd.serve.http.certificate import ServedCertificate
from blocklistd.signing.trust import finish_staged, load_trust, roots_dir
from blocklistd.store import client_claims, upkeep
from blocklistd.store.database import Database
from blocklistd.store.high_water import HighWater, suspected_loss
from blocklistd.store.numbers import newest_time
from blocklistd.store.store import Store
from blocklistd.store.verified import Verified
from blocklistd.telemetry import ActiveAlarms
from blocklistd.times import CheckedClock, utc_now

log: Final = logging.getLogger(__name__)

DAMAGED: Final = (
    "Nothing is served and nothing is changed. Stop the daemon and restore the newest backup of the database; without "
    "a backup, move the database away together with its -wal and -shm, start the daemon, and follow its message"
)


class Application:
    """One daemon on one state_dir, with a checked configuration. Call `run` once."""

    def __init__(self, checked: CheckedConfig) -> None:
        self._checked = checked
        self._config = checked.config
        self._clock = CheckedClock()
        self._stopping = asyncio.Event()
        self._ready = False

    async def run(self) -> None:
        """Starts, serves until SIGTERM or SIGINT, and stops. Raises BlocklistError if the daemon can't start."""
        config = self._config
        asyncio.get_running_loop().set_exception_handler(loop.log_unhandled)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="io"))
        async with AsyncExitStack() as stack:
            require_owner(config.state_dir)
            require_state(config)
            found = Store.found(config.state_dir, config.database)
            # before the ports: the error of a second daemon then names the lock, not a port
            stack.enter_context(found.locked())
            check_writable(found)
            sockets = bind_all(self._checked, stack)
            certificate = ServedCertificate(config.feed.tls)
            metrics = Metrics()
            resources, reason = await self._open(metrics, stack)
            warming = asyncio.ensure_future(resources.jobs.warm())
            stack.callback(warming.cancel)
            if reason is None and not resources.store.read_only:
                adopted = functools.partial(is_adopted, resources.database)
                await asyncio.to_thread(finish_staged, roots_dir(config.state_dir), adopted)
            trust = await asyncio.to_thread(load_trust, config)
            self._parts = parts = Parts(self._checked, resources, self._clock, metrics, trust, certificate)
            await parts.delivery.configure(self._config.alarms)
            stack.push_async_callback(parts.delivery.stop)
            parts.alarms.check_clock()
            parts.alarms.raise_configuration_alarms(self._checked.problems)
            reloading.log_warnings(self._checked)
            if reason is None:
                try:
                    await parts.start()
                except DatabaseDamagedError as error:
                    reason = f"{error}. {DAMAGED}"
            if reason is not None:
                parts.halt(reason)
            # before the listeners, hence stopped after them: the watchdog is fed until they have drained
            for watching in (
                loop.measure_lag(metrics.record_loop_lag),
                loop.feed_watchdog(systemd.watchdog_interval()),
                parts.scheduler.watch(utc_now, stepped=parts.clock_stepped),
            ):
                stack.callback(asyncio.ensure_future(watching).cancel)
            stack.push_async_callback(parts.operations.subscribers.finish)
            listeners = Listeners(parts, self._readiness_lines)
            await listeners.start(stack, sockets)
            self._handle_signals()
            self._ready = True
            systemd.notify("READY=1")
            Event.DAEMON_READY.log(log, version=__version__, file=config.path, listeners=listeners)
            finishing = asyncio.ensure_future(self._finish_and_schedule(warming))
            stack.callback(finishing.cancel)
            showing = asyncio.ensure_future(status_line.keep_current(parts))
            await self._stopping.wait()
            showing.cancel()
            systemd.notify("STOPPING=1\nSTATUS=stopping: requests under way may end")
            Event.DAEMON_STOPPING.log(log)
            parts.scheduler.stop()
            parts.live_lists.close()

    # -- start -----------------------------------------------------------------------------------------------------

    async def _open(self, metrics: Metrics, stack: AsyncExitStack) -> tuple[Resources, str | None]:
        """Opens the store, the database and the job runner; `stack` closes them.

        The second value is the reason to halt: why the state may not be the newest (high_water.suspected_loss). None if
        it is the newest.
        """
        store = await asyncio.to_thread(open_store, self._config.state_dir, self._config.database)
        database = Database(store.backend, store.epoch, metrics, read_only=store.read_only)
        stack.callback(database.close)
        await asyncio.to_thread(database.keep_head)  # a killed job may have written an audit line without it
        jobs = Jobs(metrics)
        stack.callback(jobs.close)
        alarms = ActiveAlarms()
        high_water = HighWater(self._config.high_water or store.state_dir / "high-water", alarms)
        await asyncio.to_thread(high_water.open)
        if self._config.high_water is not None:
            await asyncio.to_thread(high_water.check_writable)
        try:
            head = await asyncio.to_thread(database.head_file.read)
            reason = await database.reading(
                lambda connection: suspected_loss(connection, high_water.highest_numbers, head, high_water.missing)
            )
            self._clock.begin(await database.reading(newest_time))
        except StoreError as error:  # a damaged database page: serve the lists that can be read
            Event.STATE_NOT_CHECKED.log(log, reason=error)
            reason = None
        claims = Claims(alarms, self._clock)
        with suppress(StoreError):  # the check of the database reports it
            claims.load(await database.reading(client_claims.load))
        verified = Verified(store.sealed)
        return Resources(store, database, jobs, verified, self._clock, metrics, alarms, high_water, claims), reason

    def _handle_signals(self) -> None:
        running = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(name, self._stopping.set)
        running.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(self._parts.reloading.run_quietly()))

    async def _finish_and_schedule(self, warming: asyncio.Future[None]) -> None:
        """Finishes the work that a crash interrupted, then starts the schedule.

        RetriedTasks tries failed work again.
        """

        async def warm() -> None:
            await warming

        parts = self._parts
        await loop.run_steps(warm)  # a job without a warm process would start one more
        await parts.resumed.wait()
        for name, work in (
            ("scrub", parts.pipeline.scrub),
            ("sweep", parts.upkeep.sweep),
            ("zones", parts.zones.advance),
            ("guard files", parts.guard_names.refresh),
            ("reconcile", parts.reconciler.reconcile),
            ("count due", parts.due_counts.refresh),
            ("alarms", parts.housekeeping.check_alarms),
            ("nodes", parts.housekeeping.check_nodes),
            ("reserve", functools.partial(asyncio.to_thread, upkeep.reserve, parts.resources.store)),
            ("schedule", parts.housekeeping.schedule),
        ):
            await parts.tasks.do(name, work)
        parts.scheduler.start()
        await parts.tasks.do("check database", parts.upkeep.check_database)
        parts.delivery.checked_all()

    def _readiness_lines(self) -> tuple[list[str], list[str]]:
        """The lines of /readyz: lists and zones that are not served, and other faults (ops.health.ReadinessReport)."""
        if self._stopping.is_set():
            return ["stopping"], []
        found = self._parts.readiness()
        return [*([] if self._ready else ["starting"]), *found.down], found.wrong
