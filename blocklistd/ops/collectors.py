"""State as Prometheus wants it, read when it is scraped: what an event counts is in ops/metrics.py.

`collect` runs in the thread that makes the text of a scrape, so a collector may ask the database. What the event loop
changes meanwhile is copied by one call before it is gone through. Names and labels: docs/operator.md.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from blocklistd.config import Config
from blocklistd.errors import StoreError
from blocklistd.jobs.runner import Jobs
from blocklistd.model import ListId, SourceId
from blocklistd.pipeline.secondaries import Secondaries
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.dns.zones import Zones
from blocklistd.serve.http.catalogue import Catalogue
from blocklistd.serve.http.listener import Listener
from blocklistd.signing.keys import Trust
from blocklistd.store.candidates import count_held
from blocklistd.store.database import Database
from blocklistd.store.metadata import SignedRole
from blocklistd.store.pulls import SourceState, source_states

log: Final = logging.getLogger(__name__)

Clock = Callable[[], datetime]
Configured = Callable[[], Config]
"""The configuration in force."""


class ListCollector(Collector):
    """The lists as they are served, and the life of their signatures. `signed`: the publisher's newest roles."""

    def __init__(
        self, catalogue: Catalogue, signed: Mapping[ListId, Mapping[str, SignedRole]], trust: Trust, clock: Clock
    ) -> None:
        self._catalogue = catalogue
        self._signed = signed
        self._trust = trust
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        now = self._clock()
        views = list(self._catalogue)
        lives = [(name, list(roles.values())) for name, roles in dict(self._signed).items()]
        yield _gauges(
            "blocklistd_list_version", "The live version", "list", ((view.id, view.version) for view in views)
        )
        yield _gauges(
            "blocklistd_list_entries",
            "Entries of the live version",
            "list",
            ((view.id, view.live.entries if view.live else 0) for view in views),
        )
        yield _gauges(
            "blocklistd_list_published_timestamp_seconds",
            "When the live version was made",
            "list",
            ((view.id, view.live.time.timestamp() if view.live else 0) for view in views),
        )
        yield _gauges(
            "blocklistd_list_expires_timestamp_seconds",
            "When the list's targets expire",
            "list",
            ((view.id, view.expires.timestamp()) for view in views),
        )
        yield _gauges(
            "blocklistd_list_signatures_expire_timestamp_seconds",
            "When the first of the list's signatures expires",
            "list",
            ((name, min(role.expires for role in roles).timestamp()) for name, roles in lives),
        )
        yield _gauges(
            "blocklistd_list_signatures_left_ratio",
            "The share of its life that the list's oldest signature has left",
            "list",
            (
                (name, min((role.expires - now) / (role.expires - role.signed) for role in roles))
                for name, roles in lives
            ),
        )
        yield GaugeMetricFamily(
            "blocklistd_root_expires_timestamp_seconds", "When root.json expires", self._trust.expires.timestamp()
        )


class ZoneCollector(Collector):
    """The zones as they are served. A zone that never had a serial can be behind as well."""

    def __init__(self, served: Zones, zones: ZonePublisher, configured: Configured) -> None:
        self._served = served
        self._zones = zones
        self._configured = configured

    def collect(self) -> Iterator[Metric]:
        views = [view for view in dict(self._served.views()).values() if view is not None]
        names = [zone.name for zone in self._configured().zones.values()]
        yield _gauges(
            "blocklistd_zone_serial",
            "The serial that is served",
            "zone",
            ((view.plan.name, view.serial % 2**32) for view in views),
        )
        yield _gauges(
            "blocklistd_zone_records",
            "Rules without the apex",
            "zone",
            ((view.plan.name, view.records) for view in views),
        )
        yield _gauges(
            "blocklistd_zone_behind",
            "1: the zone could not be brought to its list's version",
            "zone",
            ((name, name in self._zones.behind) for name in names),
        )


class Stored(NamedTuple):
    """One reading of the database. `lag`: seconds, by zone."""

    held: int
    states: dict[SourceId, SourceState]
    lag: dict[str, float]


class StoredCollector(Collector):
    """What the database knows of the sources, the candidates and the secondaries.

    While it can't be read, the last reading stands and the log says so: a source becomes overdue all the same.
    """

    def __init__(self, database: Database, secondaries: Secondaries, clock: Clock, configured: Configured) -> None:
        self._database = database
        self._secondaries = secondaries
        self._clock = clock
        self._configured = configured
        self._last = Stored(0, {}, {})

    def _read(self, config: Config) -> Stored:
        zones = [zone.name for zone in config.zones.values()]
        with self._database.read() as connection:
            lag = self._secondaries.furthest(connection, zones)
            return Stored(count_held(connection), source_states(connection, config.sources), lag)

    def collect(self) -> Iterator[Metric]:
        config, now = self._configured(), self._clock()
        try:
            self._last = self._read(config)
        except StoreError as error:
            log.error("the metrics of the database are old: %s", error)
        last, sources = self._last, config.sources
        states = [(name, state) for name, state in last.states.items() if name in sources]
        yield GaugeMetricFamily("blocklistd_candidates_held", "Candidates that wait for a reviewer", last.held)
        yield _gauges(
            "blocklistd_source_accepted_timestamp_seconds",
            "When a pull last succeeded",
            "source",
            ((name, state.last_accepted.timestamp() if state.last_accepted else 0) for name, state in states),
        )
        yield _gauges(
            "blocklistd_source_overdue",
            "1: no accepted pull for max_age",
            "source",
            ((name, state.is_overdue(sources[name].max_age, now)) for name, state in states),
        )
        yield _gauges(
            "blocklistd_zone_secondary_lag_seconds",
            "How long the secondary that is furthest behind has lacked a serial",
            "zone",
            last.lag.items(),
        )


class ServingCollector(Collector):
    """The process: its jobs, its subscribers, whether it is ready, and the room that it has."""

    def __init__(
        self, jobs: Jobs, feed: Listener, catalogue: Catalogue, not_ready: Callable[[], list[str]], state_dir: Path
    ) -> None:
        self._jobs = jobs
        self._feed = feed
        self._catalogue = catalogue
        self._not_ready = not_ready
        self._state_dir = state_dir

    def collect(self) -> Iterator[Metric]:
        running, disk = self._jobs.running, shutil.disk_usage(self._state_dir)
        yield GaugeMetricFamily("blocklistd_jobs_running", "Jobs that have a process", running)
        yield GaugeMetricFamily("blocklistd_jobs_waiting", "Jobs that wait for one", max(0, self._jobs.asked - running))
        yield GaugeMetricFamily("blocklistd_feed_connections", "Open connections", self._feed.connections)
        yield GaugeMetricFamily("blocklistd_feed_waiting", "Long polls under way", self._catalogue.waiting)
        yield GaugeMetricFamily("blocklistd_ready", "1: /readyz says so", not self._not_ready())
        yield GaugeMetricFamily("blocklistd_state_free_bytes", "What is free where the state_dir is", disk.free)
        yield GaugeMetricFamily("blocklistd_state_size_bytes", "The size of the file system where it is", disk.total)


def _gauges(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
    """A value for each id."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for subject, value in values:
        family.add_metric([subject], value)
    return family
