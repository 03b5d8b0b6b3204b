"""Prometheus metrics of the serving process. Labels are ids of the configuration, never anything of an entry."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase

from blocklistd.jobs.runner import CAUSES
from blocklistd.model import Outcome
from blocklistd.ops.process import Process
from blocklistd.pipeline.pull import Pull
from blocklistd.telemetry import Stations

HANDLED: Final = {
    "fetched_bytes": ("blocklistd_fetched_bytes", "Bytes of bodies that arrived whole", "source"),
    "records": ("blocklistd_records", "Records in bodies that were read", "source"),
    "added": ("blocklistd_list_added", "Entries that came with versions", "list"),
    "removed": ("blocklistd_list_removed", "Entries that went with versions", "list"),
    "changed": ("blocklistd_list_changed", "Entries whose attributes changed with versions", "list"),
}
"""What `Stations.handled` counts: the metric, its help, what its subject is."""

STATIONS: Final = {"source": ("fetch", "intake", "seal", "keep"), "list": ("settle", "sign"), "zone": ("zone",)}
"""By what their subject is."""

_STATION_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_LAG_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_PULL_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_REQUEST_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60)


disable_created_metrics()  # type: ignore[no-untyped-call]  # a line for each counter, that says what process_start_time_seconds does


class Metrics(Stations):
    """One registry a process: what events count. What is state is collected when it is scraped (ops/collectors.py)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        Process(registry=registry)
        counter = functools.partial(Counter, registry=registry)
        gauge = functools.partial(Gauge, registry=registry)
        histogram = functools.partial(Histogram, registry=registry)
        self.pulls = counter("blocklistd_pulls", "Pulls by outcome", ["source", "outcome"])
        self.pull_seconds = histogram(
            "blocklistd_pull_seconds", "Time of a pull to its outcome", ["source"], buckets=_PULL_BUCKETS
        )
        self.rejected = gauge("blocklistd_source_rejected", "Records refused in the newest body", ["source"])
        self.requests = counter(
            "blocklistd_feed_requests", "Answers of the feed by status and by what was asked for", ["code", "resource"]
        )
        self._answers: dict[tuple[int, str], tuple[Counter, Histogram]] = {}
        self.request_seconds = histogram(
            "blocklistd_feed_request_seconds",
            "Time of an answer, long polls apart",
            ["resource"],
            buckets=_REQUEST_BUCKETS,
        )
        self.station_seconds = histogram(
            "blocklistd_station_seconds",
            "Time of each station: fetch, intake, seal, keep, settle, sign, zone, database",
            ["station", "subject"],
            buckets=_STATION_BUCKETS,
        )
        self.station_failures = counter(
            "blocklistd_station_failures", "Stations that ended in an error", ["station", "subject"]
        )
        self._handled = {what: counter(name, text, [label]) for what, (name, text, label) in HANDLED.items()}
        self.loop_lag = histogram("blocklistd_loop_lag_seconds", "How late the event loop was", buckets=_LAG_BUCKETS)
        self.loop_lag_max = gauge("blocklistd_loop_lag_max_seconds", "The latest that it was since the last scrape")
        self.loop_lag_max.set_function(self._take_latest)
        self._latest = 0.0
        self.sent_bytes = counter("blocklistd_feed_sent_bytes", "Bytes of the feed's answers")
        self.publish_seconds = histogram(
            "blocklistd_publish_seconds",
            "From the beginning of a pull until its version was served",
            ["list"],
            buckets=_PULL_BUCKETS,
        )
        self.held_by = counter("blocklistd_held", "Candidates that a guard holds, by guard", ["list", "guard"])
        self.job_seconds = histogram(
            "blocklistd_job_seconds",
            "Time of a job that answered, its queue included",
            ["job"],
            buckets=_STATION_BUCKETS,
        )
        self.job_memory = gauge(
            "blocklistd_job_peak_memory_bytes",
            "What the newest job had resident at most, shared pages included",
            ["job"],
        )
        self.job_deaths = counter("blocklistd_job_deaths", "Jobs that ended without an answer", ["cause"])
        for cause in CAUSES:  # a counter that appears at 1 has not risen, for Prometheus
            self.job_deaths.labels(cause)
        self.transfer_seconds = histogram(
            "blocklistd_dns_transfer_seconds",
            "Time of a transfer that was sent to its end",
            ["kind"],
            buckets=_STATION_BUCKETS,
        )
        self._scraping = asyncio.Lock()
        self._known: dict[str, set[str]] = {"source": set(), "list": set(), "zone": set()}

    def configure(self, sources: Iterable[str], lists: Iterable[str], zones: Iterable[str]) -> None:
        """What there is from now on: counters begin at 0, and what is no longer there raises no alarm."""
        for kind, ids in (("source", set(sources)), ("list", set(lists)), ("zone", set(zones))):
            for gone in self._known[kind] - ids:
                self._end(kind, gone)
            for new in ids - self._known[kind]:
                self._begin(kind, new)
            self._known[kind] = ids
        for what in ("wait", "write"):
            self.station_failures.labels("database", what)

    def _begin(self, kind: str, name: str) -> None:
        for station in STATIONS[kind]:
            self.station_failures.labels(station, name)
        for what, (_, _, label) in HANDLED.items():
            if label == kind:
                self._handled[what].labels(name)
        if kind == "source":
            for outcome in Outcome:
                self.pulls.labels(name, outcome.value)

    def _end(self, kind: str, name: str) -> None:
        for metric in (*self._about[kind], *(self._handled[what] for what in HANDLED if HANDLED[what][2] == kind)):
            metric.remove_by_labels({kind: name})
        for station in STATIONS[kind]:
            for metric in (self.station_seconds, self.station_failures):
                metric.remove_by_labels({"station": station, "subject": name})

    @property
    def _about(self) -> dict[str, tuple[MetricWrapperBase, ...]]:
        return {
            "source": (self.rejected, self.pulls, self.pull_seconds),
            "list": (self.publish_seconds, self.held_by),
            "zone": (),
        }

    # -- stations --------------------------------------------------------------------------------------------------

    def took(self, station: str, subject: str, seconds: float, *, failed: bool) -> None:
        self.station_seconds.labels(station, subject).observe(seconds)
        if failed:
            self.station_failures.labels(station, subject).inc()

    def handled(self, what: str, subject: str, count: int) -> None:
        self._handled[what].labels(subject).inc(count)

    def guarded(self, list_id: str, guard: str) -> None:
        self.held_by.labels(list_id, guard).inc()

    def worked(self, job: str, seconds: float, peak: int) -> None:
        self.job_seconds.labels(job).observe(seconds)
        self.job_memory.labels(job).set(peak)

    def died(self, cause: str) -> None:
        self.job_deaths.labels(cause).inc()

    def went_live(self, list_id: str, seconds: float) -> None:
        self.publish_seconds.labels(list_id).observe(seconds)

    def transferred(self, kind: str, seconds: float) -> None:
        self.transfer_seconds.labels(kind).observe(seconds)

    def late(self, seconds: float) -> None:
        """The event loop came so much later than it was asked to."""
        self.loop_lag.observe(seconds)
        self._latest = max(self._latest, seconds)

    def _take_latest(self) -> float:
        latest, self._latest = self._latest, 0.0
        return latest

    # -- what was asked of us --------------------------------------------------------------------------------------

    def observe_request(self, status: int, path: str, waited: bool, seconds: float, length: int) -> None:
        """An answer of the feed of so many bytes. The seconds of a long poll say nothing of the time that answers
        take."""
        resource = "wait" if waited else _resource(path)
        found = self._answers.get((status, resource))
        if found is None:  # `labels` takes a lock and a look-up
            found = self.requests.labels(status, resource), self.request_seconds.labels(resource)
            self._answers[status, resource] = found
        answers, times = found
        answers.inc()
        if not waited:
            times.observe(seconds)
        if length:
            self.sent_bytes.inc(length)

    def observe_pull(self, pull: Pull) -> None:
        self.pulls.labels(pull.source, pull.outcome.value).inc()
        self.pull_seconds.labels(pull.source).observe(pull.seconds)
        if pull.report is not None:
            self.rejected.labels(pull.source).set(pull.report.rejects)

    async def text(self) -> bytes:
        """For Prometheus; one at a time, and off the loop: a hundred sources and lists are 10,000 lines."""
        async with self._scraping:
            return await asyncio.to_thread(generate_latest, self.registry)


def _resource(path: str) -> str:
    """What kind of thing a path of the feed names (docs/feed.md); what it names is nobody's business."""
    parts = path.split("/", 5)
    if parts[1:3] != ["v1", "lists"]:
        return "other"
    match len(parts):
        case 3:
            return "lists"
        case 4:
            return "status"
        case 6 if parts[4] in ("metadata", "targets", "diffs"):
            return parts[4]
    return "other"
