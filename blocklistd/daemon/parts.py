"""Constructs the parts of a daemon. Nothing here listens or runs by itself: app.py starts the parts in order.

Order of calls: the constructor; then either `start` (→ serving) or `halt` (→ halted).

| state | call | next state |
|---|---|---|
| serving | `configure` (by a reload) | serving; the old configuration stays if the certificate can't be loaded |
| serving | `resume` (`start-above`) | serving, under the new numbers |
| halted | `resume` (`start-above`) | serving |

Serving: `halted` is None and `resumed` is set. Halted: `halted` is the reason, clients get 503 and SERVFAIL, the
database refuses writes, the control socket works.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from blocklistd.config import CheckedConfig, Config, DnsSettings
from blocklistd.daemon import plans, zonemd
from blocklistd.daemon.alarm_checks import AlarmChecks
from blocklistd.daemon.alarm_delivery import AlarmDelivery
from blocklistd.daemon.guard_names import GuardNames, NamesReading
from blocklistd.daemon.housekeeping import Housekeeping
from blocklistd.daemon.name_server import admit, catalog_publisher, end_notifies, name_server, prepare_certificate
from blocklistd.daemon.node_checks import NodeChecks
from blocklistd.daemon.operating import operations_of
from blocklistd.daemon.public_tree import PublicTree
from blocklistd.daemon.readiness import Readiness, readiness
from blocklistd.daemon.reloading import Reloading
from blocklistd.daemon.upkeep import Upkeep
from blocklistd.errors import safe_message
from blocklistd.events import Event
from blocklistd.model import ListId, Sha256, SourceId
from blocklistd.ops.metrics import Metrics
from blocklistd.ops.retried_tasks import RetriedTasks
from blocklistd.ops.scheduler import Scheduler
from blocklistd.pipeline.corrections import Corrections
from blocklistd.pipeline.counting import Counting
from blocklistd.pipeline.due import DueEntries
from blocklistd.pipeline.due_counts import DueCounts
from blocklistd.pipeline.nodes import Nodes
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.pull import Pipeline, Pull
from blocklistd.pipeline.receipts import ReceiptBook
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.repair import Repair
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.pipeline.source_receipts import SourceReceipts
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.connections import Connections
from blocklistd.serve.dns.zones import Zones, ZoneView
from blocklistd.serve.http.access import Access
from blocklistd.serve.http.certificate import ServedCertificate
from blocklistd.serve.http.live_lists import LiveLists
from blocklistd.serve.http.renderings import StoredRenderings
from blocklistd.signing.online import open_online
from blocklistd.signing.trust import Trust
from blocklistd.store.lists import ensure_list
from blocklistd.store.subscribers import Subscriber
from blocklistd.times import CheckedClock

log: Final = logging.getLogger(__name__)


class Parts:
    """The parts of one daemon. `config` is the running configuration, `checked` the configuration of the start.
    `checked_clock` is the clock of `resources`, `trust` holds the signing keys, `certificate` is the feed's."""

    def __init__(
        self,
        checked: CheckedConfig,
        resources: Resources,
        checked_clock: CheckedClock,
        metrics: Metrics,
        trust: Trust,
        certificate: ServedCertificate,
    ) -> None:
        store, database, clock = resources.store, resources.database, resources.clock
        config = self.config = checked.config
        self.resources = resources
        self.metrics = metrics
        self.certificate = certificate
        self.live_lists = LiveLists()
        self.feed_connections, self.dns_connections = Connections(config.feed.connections), Connections()
        self.access = Access(self.feed_connections, clock)
        self.served_zones = Zones()
        self.scheduler = Scheduler()
        self.tasks = RetriedTasks(resources.alarms)
        self.delivery = AlarmDelivery(resources, metrics)
        self._repairing: dict[Sha256, asyncio.Future[None]] = {}
        self.halted: str | None = None
        """The reason why the daemon is halted; None if it is not."""
        self.resumed = asyncio.Event()
        """Set once the daemon serves: after a start, or after `resume` of a halted daemon."""
        # parts that publish a list
        self.renderings = StoredRenderings(store, database, resources.jobs, resources.verified, self.repair_file)
        self.publisher = Publisher(
            database, self.live_lists, trust, clock, metrics, resources.high_water, checked_clock.latest
        )
        self.zones = ZonePublisher(resources, self.served_zones, self._announce)
        self.dns = name_server(
            config.serves_dns, resources, self.zones, self.served_zones, self.dns_connections, metrics
        )
        self.receipts = ReceiptBook(resources, lambda: self.housekeeping.check_nodes_soon())
        self.nodes = Nodes(resources, self.zones, self.receipts.forget_names)
        self.source_receipts = SourceReceipts(resources, self.nodes, lambda: self.releases.sources)
        self.node_checks = NodeChecks(resources, self.nodes)
        self.catalogs = catalog_publisher(resources, self.served_zones, self.configured, self._announce)
        # parts that change a list
        self.counting = Counting(resources)
        self.releases = Releaser(resources, self.publisher, self.zones, self._render)
        self.reconciler = Reconciler(self.releases, database)
        repair = Repair(resources, self.releases, self.reconciler, self.zones)
        self.pipeline = Pipeline(resources, self.releases, self.reconciler, repair, self._on_pull_ended)
        self.corrections = Corrections(resources, self.releases)
        self.reloading = Reloading(self, checked)
        self.guard_names = GuardNames(resources, self.configured, self.releases, self.reconciler)
        # operators' commands, and recurring work
        self.due_entries = DueEntries(resources, self.releases, self.reconciler)
        self.due_counts = DueCounts(resources, self.releases, self.due_entries)
        self.operations = operations_of(self, checked_clock)
        self.upkeep = Upkeep(
            *(resources, self.publisher, self.zones, self.renderings, self.tasks),
            *(self.serve_missing_lists, self.operations.subscribers.catch_up, self.configured),
        )
        self.alarms = AlarmChecks(
            *(resources, lambda: self.publisher.trust, checked_clock, self.configured),
            *(self.reconciler.rejected_policies, self.due_counts.counts),
        )
        self.public_tree = PublicTree(
            resources, self.live_lists, self.tasks, self.releases.in_background, self.repair_file
        )
        self.publisher.on_served = self.public_tree.request
        resources.claims.on_claim = self._check_alarms
        self.housekeeping = Housekeeping(
            *(resources, self.scheduler, self.pipeline, self.reconciler, self.corrections),
            *(self.upkeep, self.alarms, self.tasks, self.configured),
            check_names=self.guard_names.check,
            count_due=self.due_counts.refresh,
            check_nodes=self.node_checks.check,
            expire_receipts=self.nodes.expire,
            send_receipts=self.source_receipts.send,
        )

    def configured(self) -> Config:
        """The running configuration, for parts that outlive a reload."""
        return self.config

    # -- configure -------------------------------------------------------------------------------------------------

    async def configure(
        self,
        config: Config,
        sources: dict[SourceId, SourcePlan],
        names: NamesReading | None = None,
        *,
        starting: bool = False,
    ) -> None:
        """Gives each part its section of the configuration. `sources` is `plans.source_plans(config)`. `names`: those
        of the guards; None: those that are in force.

        Raises BlocklistError, and changes nothing, if the certificate can't be loaded. With `starting` it is loaded
        already (Application.run).
        """
        await asyncio.to_thread(self._ensure_lists, config.lists)
        if config.keys != self.config.keys:
            await self._reopen_online_key(config)
        if not starting:
            adopt_certificate = prepare_certificate(self.dns, config)
            self.certificate.load(config.feed.tls)  # the last step that may reject the configuration
            adopt_certificate()
        self.alarms.certificates = await asyncio.to_thread(plans.certificate_expiries, config)
        await self.delivery.configure(config.alarms)
        self.feed_connections.bounds = config.feed.connections
        self.dns_connections.bounds = (config.serves_dns or DnsSettings()).connections
        self.access.trusted_proxies = config.feed.trusted_proxies
        self.access.credentials.authorities = self.certificate.authorities
        self.access.end_lapsed()
        self.access.rates.limit = config.feed.rate_limit
        self.live_lists.configure(config.lists)
        if names is not None:
            self.guard_names.adopt(names)
        self.releases.configure(plans.list_plans(config, self.guard_names.names), sources)
        for name, settings in config.lists.items():
            self.publisher.configure(name, settings.expires, config.keys.timestamp_expires)
        for removed_list in self.config.lists.keys() - config.lists.keys():
            self.publisher.forget(removed_list)
        zones = plans.zone_plans(config).values()
        await self.zones.configure(zones)
        end_notifies(self.dns)
        self.metrics.configure(config.sources, config.lists, [zone.name for zone in zones])
        for source in sources.values():
            if not source.proves_origin:
                Event.SOURCE_NOT_PROVED.log(log, source=source.id, verify=source.proof)
        for removed in self.config.sources.keys() - config.sources.keys():
            self.scheduler.drop(f"pull {removed}")
        self.config = config
        await self.public_tree.configure(config)

    async def _reopen_online_key(self, config: Config) -> None:
        """Opens the online key where the new configuration has it. Raises SigningError."""
        signer = await asyncio.to_thread(open_online, config, self.publisher.trust.online.public_key)
        trust = self.publisher.trust
        if trust.online.public_key.keyid == signer.public_key.keyid:  # else another root was adopted meanwhile
            self.publisher.trust = replace(trust, online=signer)

    def _ensure_lists(self, lists: Mapping[ListId, object]) -> None:
        if self.resources.store.read_only:
            return  # the lists in the database are served
        now = self.resources.clock()
        with self.resources.database.write() as connection:
            for name in lists:
                ensure_list(connection, name, now)

    async def start(self) -> None:
        """Serves all lists and zones of the store, and admits the subscribers. Raises BlocklistError."""
        made = await asyncio.to_thread(functools.partial(plans.source_plans, self.config, starting=True))
        self.config = await zonemd.without_records(self.reloading.running, self.resources.database, self.alarms)
        await self.guard_names.begin(self.config)
        await self.configure(self.config, made, starting=True)
        await self.serve_lists()
        await self.operations.subscribers.admit_known()
        await self.update_catalogs()
        self.resumed.set()

    def halt(self, reason: str) -> None:
        """Halts the daemon at a start, because its state is damaged or not the newest. Clients get 503 and SERVFAIL; no
        version and no serial is made; the control socket works."""
        Event.DAEMON_HALTED.log(log, reason=reason)
        self.halted = self.access.halted = self.resources.database.halted = reason
        self.resources.alarms.raise_alarm("halted", "", reason)
        self.served_zones.halted = True

    async def resume(self) -> None:
        """After `start-above`: serves the lists and zones of the store under the new numbers, and ends the halt."""
        self.resources.claims.forget_all()
        self.alarms.check_clock()
        if self.halted is None:
            await self.serve_lists()
            await self.zones.advance()
            return
        await self.start()
        await self.zones.advance()  # before the halt ends: a zone without a serial would be refused
        self.halted = self.access.halted = None
        self.resources.alarms.clear("halted")
        self.served_zones.halted = False

    async def clock_stepped(self) -> None:
        """Called after the system clock was set. Checks the clock, then makes the signatures and expiries that are due
        by the new time."""
        self.alarms.check_clock()
        if self.halted is None:
            await self.tasks.do("sign", self.upkeep.sign)
            await self.housekeeping.expire()

    async def serve_lists(self) -> None:
        """Serves every list. A damaged snapshot is made again first."""
        for name in list(self.releases.lists):
            await self._serve(name)

    async def serve_missing_lists(self) -> None:
        """Tries again to serve each list whose newest version is not served."""
        for name in list(self.releases.lists):
            view, stored = self.live_lists.get(name), self.publisher.stored.get(name)
            if view is None or (stored is not None and stored > view.version):
                await self._serve(name)
                await self.zones.advance(name)

    async def _serve(self, name: ListId) -> None:
        try:
            await self.releases.publish_live(self.releases.lists[name])
        except Exception as error:  # whatever the error, the other lists must be served
            Event.LIST_NOT_SERVED.log(log, list=name, reason=safe_message(error))

    def readiness(self) -> Readiness:
        """The readiness of the daemon, active alarms included."""
        if self.halted is not None:
            others = [text for text in self.resources.alarms.texts() if text != self.halted]
            return Readiness([self.halted], others)
        found = readiness(self.config, self.live_lists, self.publisher, self.served_zones, self.zones)
        for served in (self.certificate, self.dns.certificate if self.dns is not None else None):
            if served is not None and served.unusable is not None:
                found.down.append(served.unusable)
        found.wrong.extend(self.resources.alarms.texts())
        return found

    def wrong(self) -> list[str]:
        """All lines of `readiness`, for `status`."""
        found = self.readiness()
        return [*found.down, *found.wrong]

    def roles(self, user: str) -> frozenset[str]:
        """The roles that `control.operators` gives to a user."""
        return frozenset(self.config.control.operators.get(user, ()))

    # -- calls between the parts -----------------------------------------------------------------------------------

    async def _render(self, list_id: ListId) -> None:
        """Prepares the renderings of a list's new live version, and counts it for the statistics."""
        view = self.live_lists.get(list_id)
        if view is not None and view.live is not None:
            await self.renderings.prepare(view.live.sha256)
        await self.tasks.do(f"count {list_id}", functools.partial(self.counting.count, list_id))

    def _on_pull_ended(self, pull: Pull) -> None:
        """Called after each pull: counts the pull and the due entries, sweeps if the disk is short, checks
        alarms, schedules the next expiry."""
        self.metrics.record_pull(pull)
        self.releases.in_background(self.upkeep.sweep_where_short())
        self.releases.in_background(self.housekeeping.count_due())
        self._check_alarms()
        self.releases.in_background(self.housekeeping.expire())
        self.releases.in_background(self.housekeeping.send_receipts())

    def _check_alarms(self) -> None:
        self.releases.in_background(self.housekeeping.check_alarms())

    def repair_file(self, digest: Sha256) -> None:
        """Repairs a sealed file that a request found damaged. Does nothing while that file is under repair."""
        if digest not in self._repairing:
            task = self._repairing[digest] = asyncio.ensure_future(self.pipeline.repair([digest]))
            task.add_done_callback(lambda _: self._repairing.pop(digest, None))

    def _announce(self, view: ZoneView, subscriber: str | None = None) -> None:
        """Sends NOTIFY for a zone's new serial (RFC 1996); of a catalog, for that of the subscriber."""
        if self.dns is not None and self.dns.listening:
            self.dns.notify.announce(view, subscriber)
        if subscriber is None and self.catalogs.lacks(view):
            self.releases.in_background(self.update_catalogs())

    async def update_catalogs(self) -> None:
        """Brings the subscribers' catalogs to their present zones. Never raises."""
        await self.tasks.do("catalogs", self.catalogs.update)
        end_notifies(self.dns)

    def admit_subscribers(self, known: Mapping[str, Subscriber]) -> None:
        """Replaces the subscribers that the feed and the name server admit; `known` is by the digest of the token."""
        self.certificate.registered = any(who.certificates for who in known.values() if who.revoked is None)
        self.access.replace(known)
        admit(self.dns, self.served_zones, self.dns_connections, known.values())
        self.releases.in_background(self.update_catalogs())
