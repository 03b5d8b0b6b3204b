"""The daemon: puts the parts together, starts them in order, and stops them in reverse.

ports → lock → database → trust → lists signed → listeners → READY → scrub, sweep, zones, reconcile → schedule.
SIGTERM → drain
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Final

from aiohttp import web

from blocklistd.config import Config, load
from blocklistd.daemon import plans
from blocklistd.daemon.commands import COMMANDS
from blocklistd.daemon.control import Control, control_socket
from blocklistd.daemon.housekeeping import Housekeeping
from blocklistd.daemon.operations import Operations
from blocklistd.daemon.operations.candidates import CandidateOperations
from blocklistd.daemon.operations.free_text import FreeText
from blocklistd.daemon.operations.lists import ListOperations
from blocklistd.daemon.operations.overview import Overview
from blocklistd.daemon.operations.sources import SourceOperations
from blocklistd.daemon.operations.subscribers import SubscriberOperations
from blocklistd.daemon.readiness import missing
from blocklistd.daemon.start import bind_all, fixed_changes, open_store
from blocklistd.errors import BlocklistError, ConfigError, StoreError, told, without_text
from blocklistd.jobs.runner import Jobs
from blocklistd.limits import THREADS
from blocklistd.model import ListId, Sha256, SourceId
from blocklistd.ops import logs, loop, systemd
from blocklistd.ops.collectors import ListCollector, ServingCollector, StoredCollector, ZoneCollector
from blocklistd.ops.dns_metrics import DnsCollector
from blocklistd.ops.health import Health
from blocklistd.ops.metrics import Metrics
from blocklistd.ops.scheduler import Scheduler
from blocklistd.pipeline.decide import Decisions
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.pull import Pipeline
from blocklistd.pipeline.receive import SourcePlan
from blocklistd.pipeline.reconcile import Reconciling
from blocklistd.pipeline.release import Releases
from blocklistd.pipeline.repair import Repair
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.dns.server import DnsServer
from blocklistd.serve.dns.zones import Zones
from blocklistd.serve.http.access import Access
from blocklistd.serve.http.catalogue import Catalogue
from blocklistd.serve.http.feed import Feed
from blocklistd.serve.http.listener import Listener
from blocklistd.serve.http.renderings import StoredRenderings
from blocklistd.signing.keys import Trust, load_trust
from blocklistd.store import upkeep
from blocklistd.store.database import Database
from blocklistd.store.lists import ensure_list
from blocklistd.store.store import Store
from blocklistd.store.subscribers import Subscriber
from blocklistd.store.verified import Verified
from blocklistd.times import utc_now
from blocklistd.tls import good_until, load_certificate, server_context

log: Final = logging.getLogger(__name__)


class Application:
    """One daemon on one state_dir."""

    def __init__(self, config: Config, clock: Callable[[], datetime] = utc_now) -> None:
        self.config = config
        self.clock = clock
        self.stopping = asyncio.Event()
        self.catalogue = Catalogue()
        self.access = Access()
        self.served_zones = Zones()
        self._dns: DnsServer | None = None
        self.metrics = Metrics()
        self.scheduler = Scheduler()
        self._ready = False
        self._reloading = asyncio.Lock()
        self._repairing: dict[Sha256, asyncio.Future[None]] = {}
        self._tls: ssl.SSLContext | None = None

    async def run(self) -> None:
        """Starts, serves until `stopping` is set, drains. Raises BlocklistError where it can't start."""
        config = self.config
        asyncio.get_running_loop().set_exception_handler(loop.unheard)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="io"))
        async with AsyncExitStack() as stack:
            sockets = bind_all(config, stack)
            if config.feed.tls is not None:
                self._tls = server_context(config.feed.tls.cert, config.feed.tls.key)
            stack.enter_context(Store(config.state_dir).locked())
            store = await asyncio.to_thread(open_store, config.state_dir)
            self.database = Database(store.database, store.epoch, self.metrics)
            stack.callback(self.database.close)
            self.jobs = Jobs(self.metrics)
            stack.callback(self.jobs.close)
            warming = asyncio.ensure_future(self.jobs.warm())
            stack.callback(warming.cancel)
            self._assemble(store, await asyncio.to_thread(load_trust, config))
            await self._take_plans(config, await asyncio.to_thread(plans.source_plans, config))
            await self._serve_lists()
            await self.subscribers.admit_known()
            # before the listeners: fed until they have drained
            for watching in (
                loop.watch(self.metrics.late),
                loop.feed(systemd.watchdog_interval()),
                self.scheduler.watch(self.clock),
            ):
                stack.callback(asyncio.ensure_future(watching).cancel)
            await self._listen(stack, sockets)
            self._handle_signals()
            self._ready = True
            systemd.notify("READY=1\nSTATUS=serving")
            log.info("ready: feed on %s", ", ".join(map(str, self._feed.addresses)))
            settling = asyncio.ensure_future(self._settle_and_schedule(warming))
            stack.callback(settling.cancel)
            await self._until_stopped(settling)
            systemd.notify("STOPPING=1")
            log.info("stopping: requests under way may end")
            self.scheduler.stop()
            self.catalogue.close()

    # -- start -----------------------------------------------------------------------------------------------------

    def _assemble(self, store: Store, trust: Trust) -> None:
        config, database, jobs, clock, metrics = self.config, self.database, self.jobs, self.clock, self.metrics
        self.store = store
        self.verified = verified = Verified(store.sealed)
        self.renderings = StoredRenderings(store, database, jobs, verified)
        self.renderings.damaged = self._damaged
        self.publisher = publisher = Publisher(database, self.catalogue, trust, clock, metrics)
        self.zones = zones = ZonePublisher(store, database, jobs, self.served_zones, clock, metrics, verified)
        self.releases = releases = Releases(
            store, database, jobs, publisher, clock, zones, metrics, verified, self._render
        )
        self.reconciling = reconciling = Reconciling(releases, database)
        repair = Repair(store, database, jobs, releases, reconciling, zones)
        self.pipeline = pipeline = Pipeline(
            store, database, jobs, clock, metrics.observe_pull, metrics, releases, reconciling, repair
        )
        decisions = Decisions(releases, reconciling, database, clock)
        sources = SourceOperations(self._running, database, pipeline, clock)
        self.subscribers = SubscriberOperations(self._running, database, self.access, self._admit, zones, clock)
        self.operations = Operations(
            Overview(database, self.catalogue, zones, sources, publisher, clock),
            sources,
            CandidateOperations(database, decisions, FreeText(database, store.sealed)),
            ListOperations(database, self.catalogue, self.renderings),
            self.subscribers,
        )
        self.housekeeping = Housekeeping(
            config,
            store,
            database,
            pipeline,
            verified,
            publisher,
            zones,
            self.renderings,
            self.scheduler,
            clock,
            repair,
        )

    async def _take_plans(self, config: Config, sources: dict[SourceId, SourcePlan]) -> None:
        """Hands the configuration's sections to the stations."""
        now = self.clock()

        def ensure() -> None:
            with self.database.write() as connection:
                for name in config.lists:
                    ensure_list(connection, name, now)

        await asyncio.to_thread(ensure)
        if self._tls is not None and config.feed.tls is not None:  # here, behind what may refuse the configuration
            load_certificate(self._tls, config.feed.tls.cert, config.feed.tls.key)
            self.housekeeping.certificate_until = good_until(config.feed.tls.cert)
        self.releases.lists, self.releases.sources = plans.list_plans(config), sources
        for name, wanted in config.lists.items():
            self.publisher.configure(name, wanted.expires, config.keys.timestamp_expires)
        for gone in self.config.lists.keys() - config.lists.keys():
            self.publisher.forget(gone)
        zones = plans.zone_plans(config).values()
        await self.zones.configure(zones)
        self.metrics.configure(config.sources, config.lists, [zone.name for zone in zones])
        for source in sources.values():
            if not source.proves_origin:
                unproven = "source %s: verify: %s: what it says is taken without a proof of its origin"
                log.warning(unproven, source.id, source.proof)
        self.config = self.housekeeping.config = config

    async def _serve_lists(self) -> None:
        """Every list that is whole is served before the daemon is ready; a damaged one is made again first."""
        for name, plan in self.releases.lists.items():
            try:
                await self.releases.serve(plan)
            except Exception as error:  # one list's trouble keeps no other from being served
                log.critical("list %s can't be served: %s", name, told(error))

    async def _listen(self, stack: AsyncExitStack, sockets: dict[str, list[socket.socket]]) -> None:
        feed = Feed(self.catalogue, self.access, self.renderings)
        self._feed = Listener(feed.answer, self._observe_request)
        self._ops = Listener(Health(self._not_ready, self.metrics.text).answer)
        self._control = Listener(Control(COMMANDS.values(), self.operations, self._roles).answer)
        for collector in (
            ListCollector(self.catalogue, self.publisher.signed, self.publisher.trust, self.clock),
            ZoneCollector(self.served_zones, self.zones, lambda: self.config),
            StoredCollector(self.database, self.zones.secondaries, self.clock, lambda: self.config),
            ServingCollector(self.jobs, self._feed, self.catalogue, self._not_ready, self.store.state_dir),
        ):
            self.metrics.registry.register(collector)
        stack.push_async_callback(self._ops.stop)  # last: till then it says that the others stop
        stack.push_async_callback(lambda: asyncio.gather(self._feed.stop(), self._control.stop()))
        for listener, bound, tls in (
            (self._feed, sockets["feed"], self._tls),
            (self._ops, sockets["ops"], None),
            (self._control, [control_socket(self.config.control.socket)], None),
        ):
            await listener.start(bound, tls)
        stack.callback(functools.partial(self.config.control.socket.unlink, missing_ok=True))
        if (dns := self.config.serves_dns) is not None:
            retry, give_up = dns.notify.retry.total_seconds(), dns.notify.give_up.total_seconds()
            self._dns = DnsServer(
                self.served_zones,
                self.zones.difference,
                self.zones.secondaries.saw,
                usable=self.zones.usable,
                retry=retry,
                give_up=give_up,
                stations=self.metrics,
            )
            await self._dns.start(sockets["dns"], sockets["datagrams"])
            self.metrics.registry.register(DnsCollector(self._dns))
            stack.push_async_callback(self._dns.stop)
            self.zones.announce = self._dns.announce
            for view in self.served_zones.views().values():
                if view is not None:  # who missed the last one while we were away hears of it now
                    self._dns.announce(view)

    async def _render(self, list_id: ListId) -> None:
        """Makes what nobody waits for, once a version is live."""
        view = self.catalogue.get(list_id)
        if view is not None and view.live is not None:
            await self.renderings.prepare(view.live.sha256)

    def _damaged(self, digest: Sha256) -> None:
        """A file that somebody asked for is damaged: it is made again."""
        if digest not in self._repairing:
            task = self._repairing[digest] = asyncio.ensure_future(self.pipeline.repair([digest]))
            task.add_done_callback(lambda _: self._repairing.pop(digest, None))

    def _running(self) -> Config:
        return self.config

    def _roles(self, user: str) -> frozenset[str]:
        return frozenset(self.config.control.operators.get(user, ()))

    def _admit(self, known: Iterable[Subscriber]) -> None:
        """Who may have which zones, from now on."""
        self.served_zones.admit(plans.peer(who) for who in known if who.revoked is None)
        if self._dns is not None:
            self._dns.entitled()

    def _handle_signals(self) -> None:
        running = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(name, self.stopping.set)
        running.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(self.reload()))

    async def _settle_and_schedule(self, warming: asyncio.Future[None]) -> None:
        """What a crash left between two stations is made good; whatever fails of it, what is served stays served."""

        async def warm() -> None:
            await warming

        keep = self.housekeeping
        await loop.in_turn(warm, keep.scrub, keep.sweep, keep.advance_zones, self.reconciling.reconcile, keep.alarms)
        await asyncio.to_thread(upkeep.reserve, self.store)
        await keep.schedule()
        self.scheduler.start()

    async def _until_stopped(self, settling: asyncio.Future[None]) -> None:
        """Waits for the end, or for an error that nobody else hears of."""
        while not self.stopping.is_set():
            if settling.done() and settling.exception() is not None:
                raise settling.exception()  # type: ignore[misc]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5.0):
                    await self.stopping.wait()

    # -- reload ----------------------------------------------------------------------------------------------------

    async def reload(self) -> None:
        """One reload after the other. Never raises: nobody would hear of it."""
        async with self._reloading:
            try:
                await self._reload()
            except Exception as error:
                log.error("the reload did not come to its end: %s", told(error), exc_info=without_text(error))

    async def _reload(self) -> None:
        """SIGHUP: all of the new configuration, or, with every error in the log, none of it."""
        systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            new = await asyncio.to_thread(load, self.config.path)
            if changed := fixed_changes(self.config, new):
                raise StoreError(f"{', '.join(changed)} can only be changed by a restart")
            removed = self.config.sources.keys() - new.sources.keys()
            sources = await asyncio.to_thread(plans.source_plans, new)
            await self._take_plans(new, sources)
        except (BlocklistError, OSError) as error:
            problems = error.problems if isinstance(error, ConfigError) else [error]
            for problem in problems:
                log.error("reload refused, the running configuration stays: %s", problem)
        else:
            logs.configure(new.ops.log.level, new.ops.log.format)
            for source in removed:
                self.scheduler.drop(f"pull {source}")
            keep = self.housekeeping
            await loop.in_turn(self._serve_lists, keep.schedule, keep.advance_zones, keep.alarms)
            log.info("reloaded %s", new.path)
            await self.reconciling.reconcile()
        finally:
            systemd.notify("READY=1")

    # -- what is asked of us ---------------------------------------------------------------------------------------
    def _not_ready(self) -> list[str]:
        if self.stopping.is_set():
            return ["stopping"]
        found = missing(self.config, self.catalogue, self.publisher, self.served_zones, self.zones)
        return [*([] if self._ready else ["starting"]), *found]

    def _observe_request(self, request: web.BaseRequest, answer: web.StreamResponse, seconds: float) -> None:
        waited = "wait" in request.rel_url.query_string
        length = 0 if request.method == "HEAD" else answer.content_length or 0
        self.metrics.observe_request(answer.status, request.path, waited, seconds, length)
