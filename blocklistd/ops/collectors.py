"""Collectors of the metrics that show state: each reads it at a scrape. ops/metrics.py has those that count events.

`collect` runs in the thread that makes the text of a scrape (Metrics.text), so it may read the database. It copies a
collection that the event loop may change by one call, before it iterates. ops/metric_table.py has the names and labels.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from blocklistd.config import Config
from blocklistd.errors import StoreError
from blocklistd.events import Event
from blocklistd.jobs.runner import Jobs
from blocklistd.model import ListId, SourceId
from blocklistd.ops.metric_table import MetricName
from blocklistd.pipeline.due_counts import DueCount
from blocklistd.pipeline.nodes import NodeCounts
from blocklistd.pipeline.secondaries import Secondaries
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.dns.zones import Zones
from blocklistd.serve.http.listener import Listener
from blocklistd.serve.http.live_lists import LiveLists
from blocklistd.signing.trust import Trust
from blocklistd.store.candidates import count_held
from blocklistd.store.database import Database
from blocklistd.store.metadata import SignedRole
from blocklistd.store.pulls import SourceState, source_states
from blocklistd.store.withheld import of_lists
from blocklistd.telemetry import ALARMS, ActiveAlarms
from blocklistd.times import Clock

log: Final = logging.getLogger(__name__)

T = TypeVar("T")
Configured = Callable[[], Config]
"""The configuration in force."""


@dataclass(eq=False)
class ListCollector(Collector):
    """The served lists, and the lifetime of their signatures. `signed`: the newest signed roles of each list."""

    live_lists: LiveLists
    signed: Mapping[ListId, Mapping[str, SignedRole]]
    trust: Callable[[], Trust]
    clock: Clock

    def collect(self) -> Iterator[Metric]:
        yield from _gauges(
            [(view.id, view) for view in self.live_lists],
            (MetricName.LIST_VERSION, lambda view: view.version),
            (MetricName.LIST_ENTRIES, lambda view: view.live.entries if view.live else 0),
            (
                MetricName.LIST_PUBLISHED_TIMESTAMP_SECONDS,
                lambda view: _unix(view.live.time if view.live else None),
            ),
            (MetricName.LIST_EXPIRES_TIMESTAMP_SECONDS, lambda view: _unix(view.expires)),
        )
        now = self.clock()
        yield from _gauges(
            [(name, list(roles.values())) for name, roles in dict(self.signed).items()],
            (
                MetricName.LIST_SIGNATURE_EXPIRES_TIMESTAMP_SECONDS,
                lambda roles: min(role.expires for role in roles).timestamp(),
            ),
            (
                MetricName.LIST_SIGNATURE_REMAINING_RATIO,
                lambda roles: min((role.expires - now) / (role.expires - role.signed) for role in roles),
            ),
        )
        yield _gauge(MetricName.ROOT_EXPIRES_TIMESTAMP_SECONDS, _unix(self.trust().expires))


@dataclass(eq=False)
class DueCollector(Collector):
    """The entries that are due in each list with a lifetime. `counts` returns the newest counts."""

    counts: Callable[[], Mapping[ListId, DueCount]]

    def collect(self) -> Iterator[Metric]:
        yield from _gauges(self.counts().items(), (MetricName.LIST_ENTRIES_DUE, lambda found: found.total))


@dataclass(eq=False)
class NodeCollector(Collector):
    """The nodes of subscribers. `counts` returns those of the last check."""

    counts: Callable[[], Mapping[str, NodeCounts]]

    def collect(self) -> Iterator[Metric]:
        yield from _gauges(
            self.counts().items(),
            (MetricName.SUBSCRIBER_NODES, lambda found: found.nodes),
            (MetricName.SUBSCRIBER_NODES_LATE, lambda found: found.late),
            (MetricName.SUBSCRIBER_NODES_SILENT, lambda found: found.silent),
            (MetricName.SUBSCRIBER_PROBES_FAILED, lambda found: found.failed_probes),
            (MetricName.SUBSCRIBER_LAG_SECONDS, lambda found: found.lag),
        )


@dataclass(eq=False)
class ZoneCollector(Collector):
    """The served zones. A zone that never had a serial has no series but `behind`."""

    served: Zones
    zones: ZonePublisher
    configured: Configured

    def collect(self) -> Iterator[Metric]:
        yield from _gauges(
            [(view.plan.name, view) for view in dict(self.served.views()).values() if view is not None],
            (MetricName.ZONE_SERIAL, lambda view: view.serial % 2**32),
            (MetricName.ZONE_RECORDS, lambda view: view.records),
        )
        yield from _gauges(
            [(zone.name, zone.name in self.zones.behind) for zone in self.configured().served_zones],
            (MetricName.ZONE_BEHIND, int),
        )


class Stored(NamedTuple):
    """One reading of the database.

    `held`: the number of held candidates. `lag`: by zone, the seconds that the secondary with the oldest serial is
    behind. `withheld`: by list and rule, the number of withheld entries.
    """

    held: int
    states: dict[SourceId, SourceState]
    lag: dict[str, float]
    withheld: dict[ListId, dict[str, int]]


NEVER_READ: Final = Stored(0, {}, {}, {})


@dataclass(eq=False)
class StoredCollector(Collector):
    """The sources, candidates, withheld entries and secondaries, from the database.

    While the database can't be read, `last` is used and an error is logged; a source still becomes overdue in time.
    """

    database: Database
    secondaries: Secondaries
    clock: Clock
    configured: Configured
    last: Stored = NEVER_READ

    def _read(self, config: Config) -> Stored:
        zones = [zone.name for zone in config.served_zones]
        with self.database.read() as connection:
            lag = self.secondaries.furthest(connection, zones)
            states = source_states(connection, config.sources)
            return Stored(count_held(connection), states, lag, of_lists(connection, config.active_sources))

    def collect(self) -> Iterator[Metric]:
        config, now = self.configured(), self.clock()
        try:
            self.last = self._read(config)
        except StoreError as error:
            Event.METRICS_STALE.log(log, reason=error)
        held, states, lag, withheld = self.last
        yield _gauge(MetricName.CANDIDATES_HELD, held)
        yield from _gauges(
            [(source.id, (source, states[source.id])) for source in config.sources.values() if source.id in states],
            (MetricName.SOURCE_LAST_ACCEPTED_TIMESTAMP_SECONDS, lambda found: _unix(found[1].last_accepted)),
            (MetricName.SOURCE_OVERDUE, lambda found: int(found[1].is_overdue(found[0].max_age, now))),
            (MetricName.SOURCE_FROZEN, lambda found: int(found[1].is_frozen(found[0].max_unchanged, now))),
        )
        family = MetricName.LIST_ENTRIES_WITHHELD.gauge_family()
        for name, counts in withheld.items():
            for rule, count in counts.items():
                family.add_metric([name, rule], count)
        yield family
        yield from _gauges(lag.items(), (MetricName.ZONE_SECONDARY_LAG_SECONDS, float))


@dataclass(eq=False)
class ServingCollector(Collector):
    """The process: jobs, connections of the feed, readiness, and the disk of the state_dir."""

    jobs: Jobs
    feed: Listener
    live_lists: LiveLists
    not_ready: Callable[[], list[str]]
    state_dir: Path

    def collect(self) -> Iterator[Metric]:
        running, disk = self.jobs.running, shutil.disk_usage(self.state_dir)
        yield _gauge(MetricName.JOBS_RUNNING, running)
        yield _gauge(MetricName.JOBS_QUEUED, max(0, self.jobs.unfinished - running))
        yield _gauge(MetricName.FEED_CONNECTIONS, self.feed.connections)
        yield _gauge(MetricName.FEED_LONG_POLLS, self.live_lists.waiting)
        yield _gauge(MetricName.FEED_EVENT_STREAMS, self.live_lists.watching)
        yield _gauge(MetricName.READY, not self.not_ready())
        yield _gauge(MetricName.STATE_DIR_FREE_BYTES, disk.free)
        yield _gauge(MetricName.STATE_DIR_SIZE_BYTES, disk.total)


@dataclass(eq=False)
class AlarmCollector(Collector):
    """The number of active alarms by kind, and the expiry of certificates by the configuration key that names them."""

    alarms: ActiveAlarms
    certificates: Callable[[], Mapping[str, datetime]]

    def collect(self) -> Iterator[Metric]:
        yield from _gauges(self.certificates().items(), (MetricName.CERTIFICATE_EXPIRES_TIMESTAMP_SECONDS, _unix))
        kinds = [(kind, len(self.alarms.subjects(kind))) for kind in ALARMS]
        yield from _gauges(kinds, (MetricName.ALARMS_ACTIVE, float))


def _gauge(metric: MetricName, value: float) -> Metric:
    family = metric.gauge_family()
    family.add_metric([], value)
    return family


def _gauges(found: Iterable[tuple[str, T]], *gauges: tuple[MetricName, Callable[[T], float]]) -> Iterator[Metric]:
    """Gauges with one label. `found`: the label's value and the state of each series."""
    subjects = list(found)
    for metric, value in gauges:
        family = metric.gauge_family()
        for subject, state in subjects:
            family.add_metric([subject], value(state))
        yield family


def _unix(time: datetime | None) -> float:
    """Seconds since the epoch; 0 for None."""
    return time.timestamp() if time else 0
