"""State as Prometheus wants it, read when it is scraped: what events count is in ops/metrics.py.

`collect` runs in the thread that makes the text of a scrape, so a collector may ask the database. What the event loop
changes meanwhile is copied by one call before it is gone through. docs/operator.md has the names and labels.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

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
from blocklistd.store.withheld import of_lists
from blocklistd.telemetry import ALARMS, Standing
from blocklistd.times import Clock

log: Final = logging.getLogger(__name__)

T = TypeVar("T")
Configured = Callable[[], Config]
"""The configuration in force."""


@dataclass(eq=False)
class ListCollector(Collector):
    """The lists as they are served, and the life of their signatures: `signed` is what the publisher keeps."""

    catalogue: Catalogue
    signed: Mapping[ListId, Mapping[str, SignedRole]]
    trust: Trust
    clock: Clock

    def collect(self) -> Iterator[Metric]:
        yield from _gauges(
            "list",
            [(view.id, view) for view in self.catalogue],
            ("version", "The live version", lambda view: view.version),
            ("entries", "Entries of the live version", lambda view: view.live.entries if view.live else 0),
            (
                "published_timestamp_seconds",
                "When the live version was made",
                lambda view: _unix(view.live.time if view.live else None),
            ),
            ("expires_timestamp_seconds", "When the list's targets expire", lambda view: _unix(view.expires)),
        )
        now = self.clock()
        yield from _gauges(
            "list",
            [(name, list(roles.values())) for name, roles in dict(self.signed).items()],
            (
                "signatures_expire_timestamp_seconds",
                "When the first of the list's signatures expires",
                lambda roles: min(role.expires for role in roles).timestamp(),
            ),
            (
                "signatures_left_ratio",
                "The share of its life that the list's oldest signature has left",
                lambda roles: min((role.expires - now) / (role.expires - role.signed) for role in roles),
            ),
        )
        expires = _unix(self.trust.expires)
        yield GaugeMetricFamily("blocklistd_root_expires_timestamp_seconds", "When root.json expires", expires)


@dataclass(eq=False)
class ZoneCollector(Collector):
    """The zones as they are served. A zone that never had a serial can be behind as well."""

    served: Zones
    zones: ZonePublisher
    configured: Configured

    def collect(self) -> Iterator[Metric]:
        yield from _gauges(
            "zone",
            [(view.plan.name, view) for view in dict(self.served.views()).values() if view is not None],
            ("serial", "The serial that is served", lambda view: view.serial % 2**32),
            ("records", "Rules without the apex", lambda view: view.records),
        )
        yield from _gauges(
            "zone",
            [(zone.name, zone.name in self.zones.behind) for zone in self.configured().zones.values()],
            ("behind", "1: the zone could not be brought to its list's version", int),
        )


class Stored(NamedTuple):
    """One reading of the database. `lag`: seconds, by zone."""

    held: int
    states: dict[SourceId, SourceState]
    lag: dict[str, float]
    withheld: dict[ListId, dict[str, int]]


NEVER_READ: Final = Stored(0, {}, {}, {})


@dataclass(eq=False)
class StoredCollector(Collector):
    """What the database knows of the sources, the candidates and the secondaries.

    While it can't be read, the last reading stands and the log says so: a source becomes overdue all the same.
    """

    database: Database
    secondaries: Secondaries
    clock: Clock
    configured: Configured
    last: Stored = NEVER_READ

    def _read(self, config: Config) -> Stored:
        zones = [zone.name for zone in config.zones.values()]
        with self.database.read() as connection:
            lag = self.secondaries.furthest(connection, zones)
            states = source_states(connection, config.sources)
            return Stored(count_held(connection), states, lag, of_lists(connection, config.taken))

    def collect(self) -> Iterator[Metric]:
        config, now = self.configured(), self.clock()
        try:
            self.last = self._read(config)
        except StoreError as error:
            log.error("the metrics of the database are old: %s", error)
        held, states, lag, withheld = self.last
        yield GaugeMetricFamily("blocklistd_candidates_held", "Candidates that wait for a reviewer", held)
        yield from _gauges(
            "source",
            [(source.id, (source, states[source.id])) for source in config.sources.values() if source.id in states],
            ("accepted_timestamp_seconds", "When a pull last succeeded", lambda found: _unix(found[1].last_accepted)),
            (
                "overdue",
                "1: what it says is older than max_age",
                lambda found: int(found[1].is_overdue(found[0].max_age, now)),
            ),
            (
                "frozen",
                "1: it has said the same for longer than max_unchanged",
                lambda found: int(found[1].is_frozen(found[0].max_unchanged, now)),
            ),
        )
        left_out = "Entries of its sources that the list leaves out, by rule"
        family = GaugeMetricFamily("blocklistd_list_withheld", left_out, labels=["list", "rule"])
        for name, counts in withheld.items():
            for rule, count in counts.items():
                family.add_metric([name, rule], count)
        yield family
        furthest = "How long the secondary that is furthest behind has lacked a serial"
        yield from _gauges("zone", lag.items(), ("secondary_lag_seconds", furthest, float))


@dataclass(eq=False)
class ServingCollector(Collector):
    """The process: its jobs, its subscribers, whether it is ready, and the room that it has."""

    jobs: Jobs
    feed: Listener
    catalogue: Catalogue
    not_ready: Callable[[], list[str]]
    state_dir: Path

    def collect(self) -> Iterator[Metric]:
        running, disk = self.jobs.running, shutil.disk_usage(self.state_dir)
        for name, text, value in (
            ("jobs_running", "Jobs that have a process", running),
            ("jobs_waiting", "Jobs that wait for one", max(0, self.jobs.asked - running)),
            ("feed_connections", "Open connections", self.feed.connections),
            ("feed_waiting", "Long polls under way", self.catalogue.waiting),
            ("ready", "1: /readyz says so", not self.not_ready()),
            ("state_free_bytes", "What is free where the state_dir is", disk.free),
            ("state_size_bytes", "The size of the file system where it is", disk.total),
        ):
            yield GaugeMetricFamily(f"blocklistd_{name}", text, value)


@dataclass(eq=False)
class AlarmCollector(Collector):
    """The number of standing alarms by kind; and when certificates expire, by the key that names them."""

    alarms: Standing
    certificates: Callable[[], Mapping[str, datetime]]

    def collect(self) -> Iterator[Metric]:
        ends = "When the certificate that this key of the configuration names expires"
        yield from _gauges("certificate", self.certificates().items(), ("expires_timestamp_seconds", ends, _unix))
        kinds = [(kind, len(self.alarms.subjects(kind))) for kind in ALARMS]
        yield from _gauges("alarm", kinds, ("standing", "Alarms of this kind that stand: `status` says which", float))


def _gauges(
    label: str, found: Iterable[tuple[str, T]], *gauges: tuple[str, str, Callable[[T], float]]
) -> Iterator[Metric]:
    """The gauges (name behind `blocklistd_<label>_`, help, value) of everything that was found, by its id."""
    subjects = list(found)
    for name, text, value in gauges:
        family = GaugeMetricFamily(f"blocklistd_{label}_{name}", text, labels=[label])
        for subject, state in subjects:
            family.add_metric([subject], value(state))
        yield family


def _unix(time: datetime | None) -> float:
    """Seconds since the epoch; 0 where it never was."""
    return time.timestamp() if time else 0
