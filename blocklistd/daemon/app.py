"""The daemon: starts the parts in order, reloads them, and stops them in reverse.

ports → lock → database → trust → lists signed → listeners → READY → scrub, sweep, zones, reconcile → schedule.
SIGTERM → drain
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Final

from blocklistd.config import Config, load
from blocklistd.daemon import plans
from blocklistd.daemon.listeners import Listeners
from blocklistd.daemon.parts import Parts
from blocklistd.daemon.start import bind_all, fixed_changes, open_store
from blocklistd.errors import BlocklistError, ConfigError, StoreError, told, without_text
from blocklistd.jobs.runner import Jobs
from blocklistd.limits import THREADS
from blocklistd.ops import logs, loop, systemd
from blocklistd.ops.metrics import Metrics
from blocklistd.pipeline.resources import Resources
from blocklistd.signing.keys import load_trust
from blocklistd.store import upkeep
from blocklistd.store.database import Database
from blocklistd.store.store import Store
from blocklistd.store.verified import Verified
from blocklistd.times import utc_now
from blocklistd.tls import ServedCertificate

log: Final = logging.getLogger(__name__)


class Application:
    """One daemon on one state_dir."""

    def __init__(self, config: Config, clock: Callable[[], datetime] = utc_now) -> None:
        self._first = config
        self._clock = clock
        self._stopping = asyncio.Event()
        self._ready = False
        self._reloading = asyncio.Lock()

    async def run(self) -> None:
        """Starts, serves until SIGTERM or SIGINT, drains. Raises BlocklistError where it can't start."""
        config = self._first
        asyncio.get_running_loop().set_exception_handler(loop.unheard)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="io"))
        async with AsyncExitStack() as stack:
            sockets = bind_all(config, stack)
            certificate = ServedCertificate(config.feed.tls)
            stack.enter_context(Store(config.state_dir).locked())
            metrics = Metrics()
            resources = await self._open(metrics, stack)
            warming = asyncio.ensure_future(resources.jobs.warm())
            stack.callback(warming.cancel)
            trust = await asyncio.to_thread(load_trust, config)
            self._parts = parts = Parts(config, resources, metrics, trust, certificate)
            await parts.configure(config, await asyncio.to_thread(plans.source_plans, config))
            await parts.serve_lists()
            await parts.operations.subscribers.admit_known()
            # before the listeners: fed until they have drained
            for watching in (
                loop.watch(metrics.late),
                loop.feed(systemd.watchdog_interval()),
                parts.scheduler.watch(self._clock),
            ):
                stack.callback(asyncio.ensure_future(watching).cancel)
            listeners = Listeners(parts, self._not_ready)
            await listeners.start(stack, sockets)
            self._handle_signals()
            self._ready = True
            systemd.notify("READY=1\nSTATUS=serving")
            log.info("ready: feed on %s", ", ".join(map(str, listeners.addresses)))
            settling = asyncio.ensure_future(self._settle_and_schedule(warming))
            stack.callback(settling.cancel)
            await self._until_stopped(settling)
            systemd.notify("STOPPING=1")
            log.info("stopping: requests under way may end")
            parts.scheduler.stop()
            parts.catalogue.close()

    # -- start -----------------------------------------------------------------------------------------------------

    async def _open(self, metrics: Metrics, stack: AsyncExitStack) -> Resources:
        """The state and the jobs, closed with `stack`."""
        store = await asyncio.to_thread(open_store, self._first.state_dir)
        database = Database(store.database, store.epoch, metrics)
        stack.callback(database.close)
        await asyncio.to_thread(database.keep_head)  # a job that was killed has perhaps written a line
        jobs = Jobs(metrics)
        stack.callback(jobs.close)
        return Resources(store, database, jobs, Verified(store.sealed), self._clock, metrics)

    def _handle_signals(self) -> None:
        running = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(name, self._stopping.set)
        running.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(self.reload()))

    async def _settle_and_schedule(self, warming: asyncio.Future[None]) -> None:
        """Finishes what a crash interrupted between two stages. If that fails, what is served stays served."""

        async def warm() -> None:
            await warming

        parts = self._parts
        scrub, sweep, advance = parts.pipeline.scrub, parts.upkeep.sweep, parts.zones.advance
        await loop.in_turn(warm, scrub, sweep, advance, parts.reconciling.reconcile, parts.alarms.raise_alarms)
        await asyncio.to_thread(upkeep.reserve, parts.resources.store)
        await parts.housekeeping.schedule()
        parts.scheduler.start()

    async def _until_stopped(self, settling: asyncio.Future[None]) -> None:
        """Waits for the end, or for an error that nobody else hears of."""
        while not self._stopping.is_set():
            if settling.done() and settling.exception() is not None:
                raise settling.exception()  # type: ignore[misc]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5.0):
                    await self._stopping.wait()

    def _not_ready(self) -> list[str]:
        if self._stopping.is_set():
            return ["stopping"]
        return [*([] if self._ready else ["starting"]), *self._parts.missing()]

    # -- reload ----------------------------------------------------------------------------------------------------

    async def reload(self) -> None:
        """One reload after the other. Never raises: nobody would hear of it."""
        async with self._reloading:
            try:
                await self._reload(self._parts)
            except Exception as error:
                log.error("the reload did not come to its end: %s", told(error), exc_info=without_text(error))

    async def _reload(self, parts: Parts) -> None:
        """SIGHUP: all of the new configuration, or, with every error in the log, none of it."""
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            new = await asyncio.to_thread(load, parts.config.path)
            if changed := fixed_changes(parts.config, new):
                raise StoreError(f"{', '.join(changed)} can only be changed by a restart")
            await parts.configure(new, await asyncio.to_thread(plans.source_plans, new))
        except (BlocklistError, OSError) as error:
            problems = error.problems if isinstance(error, ConfigError) else [error]
            for problem in problems:
                log.error("reload refused, the running configuration stays: %s", problem)
        else:
            logs.configure(new.ops.log.level, new.ops.log.format)
            await loop.in_turn(
                parts.serve_lists, parts.housekeeping.schedule, parts.zones.advance, parts.alarms.raise_alarms
            )
            log.info("reloaded %s", new.path)
            await parts.reconciling.reconcile()
        finally:
            systemd.notify("READY=1")
