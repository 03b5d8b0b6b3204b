"""The registry of the process, and the counters and histograms that the telemetry of the work moves.

State is read at a scrape instead (ops/collectors.py). Order of calls: `configure` at a start and at each reload, with
the ids of the configuration; then any method of Telemetry. A series of an id begins at 0 when the id is first
configured, and disappears when the id is removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from blocklistd.jobs.runner import CAUSES
from blocklistd.model import Outcome
from blocklistd.ops.metric_table import MetricName
from blocklistd.ops.process import Process
from blocklistd.pipeline.pull import Pull
from blocklistd.receipts import Taken
from blocklistd.telemetry import Telemetry

AMOUNTS: Final = {
    "fetched_bytes": MetricName.SOURCE_FETCHED_BYTES,
    "records": MetricName.SOURCE_RECORDS,
    "added": MetricName.LIST_ENTRIES_ADDED,
    "removed": MetricName.LIST_ENTRIES_REMOVED,
    "changed": MetricName.LIST_ENTRIES_CHANGED,
}
"""The counter of each amount that `Telemetry.record_amount` reports. Its one label is `source` or `list`."""

STAGES: Final = {
    "source": ("fetch", "intake", "store_entries", "store_body"),
    "list": ("commit", "sign"),
    "zone": ("zone",),
}
"""The stages by the kind of their subject. The stage `database` has the subjects `wait` and `write`."""


# `_created` would be one more line for each counter; process_start_time_seconds has the time
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics(Telemetry):
    """The registry, and the metrics that count events."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        Process(registry=registry)
        self.pulls = MetricName.PULLS.counter(registry)
        self.pull_seconds = MetricName.PULL_SECONDS.histogram(registry)
        self.pull_to_live_seconds = MetricName.PULL_TO_LIVE_SECONDS.histogram(registry)
        self.rejected_records = MetricName.SOURCE_REJECTED_RECORDS.gauge(registry)
        self._amounts = {what: metric.counter(registry) for what, metric in AMOUNTS.items()}
        self.guard_trips = MetricName.GUARD_TRIPS.counter(registry)
        self.receipts = MetricName.RECEIPTS.counter(registry)
        for taken in Taken:
            self.receipts.labels(taken.value)
        self.requests = MetricName.FEED_REQUESTS.counter(registry)
        self.request_seconds = MetricName.FEED_REQUEST_SECONDS.histogram(registry)
        self._responses: dict[tuple[int, str], tuple[Counter, Histogram]] = {}
        self.sent_bytes = MetricName.FEED_SENT_BYTES.counter(registry)
        self.transfer_seconds = MetricName.DNS_TRANSFER_SECONDS.histogram(registry)
        self.stage_seconds = MetricName.STAGE_SECONDS.histogram(registry)
        self.stage_failures = MetricName.STAGE_FAILURES.counter(registry)
        self.job_seconds = MetricName.JOB_SECONDS.histogram(registry)
        self.job_memory = MetricName.JOB_PEAK_MEMORY_BYTES.gauge(registry)
        self.job_failures = MetricName.JOB_FAILURES.counter(registry)
        for cause in CAUSES:  # a series that appears with 1 has not risen, for Prometheus
            self.job_failures.labels(cause)
        self.alarm_deliveries = MetricName.ALARM_DELIVERIES.counter(registry)
        self.alarms_undelivered = MetricName.ALARMS_UNDELIVERED.gauge(registry)
        self.loop_lag = MetricName.EVENT_LOOP_LAG_SECONDS.histogram(registry)
        MetricName.EVENT_LOOP_LAG_MAX_SECONDS.gauge(registry).set_function(self._take_largest_lag)
        self._largest_lag = 0.0
        self._scraping = asyncio.Lock()
        self._known: dict[str, set[str]] = {"source": set(), "list": set(), "zone": set()}

    def configure(self, sources: Iterable[str], lists: Iterable[str], zones: Iterable[str]) -> None:
        """Sets the ids of the configuration: new ones get counters at 0, removed ones lose their series."""
        for kind, ids in (("source", set(sources)), ("list", set(lists)), ("zone", set(zones))):
            for removed in self._known[kind] - ids:
                self._remove(kind, removed)
            for added in ids - self._known[kind]:
                self._add(kind, added)
            self._known[kind] = ids
        for what in ("wait", "write"):
            self.stage_failures.labels("database", what)

    def configure_alarms(self, ways: Iterable[str]) -> None:
        """Sets the ways by which alarms are sent: their counters are at 0, others lose their series."""
        self.alarms_undelivered.clear()
        self.alarm_deliveries.clear()
        for way in ways:
            self.alarms_undelivered.labels(way)
            for outcome in ("delivered", "failed"):
                self.alarm_deliveries.labels(way, outcome)

    def _add(self, kind: str, name: str) -> None:
        for stage in STAGES[kind]:
            self.stage_failures.labels(stage, name)
        for metric in self._amounts_of(kind):
            metric.labels(name)
        if kind == "source":
            for outcome in Outcome:
                self.pulls.labels(name, outcome.value)

    def _remove(self, kind: str, name: str) -> None:
        labelled: dict[str, tuple[MetricWrapperBase, ...]] = {
            "source": (self.rejected_records, self.pulls, self.pull_seconds),
            "list": (self.pull_to_live_seconds, self.guard_trips),
            "zone": (),
        }
        for metric in (*labelled[kind], *self._amounts_of(kind)):
            metric.remove_by_labels({kind: name})
        for stage in STAGES[kind]:
            for metric in (self.stage_seconds, self.stage_failures):
                metric.remove_by_labels({"stage": stage, "subject": name})

    def _amounts_of(self, kind: str) -> list[Counter]:
        return [self._amounts[what] for what, metric in AMOUNTS.items() if metric.labels == (kind,)]

    # -- telemetry -------------------------------------------------------------------------------------------------

    def record_stage(self, stage: str, subject: str, seconds: float, *, failed: bool) -> None:
        self.stage_seconds.labels(stage, subject).observe(seconds)
        if failed:
            self.stage_failures.labels(stage, subject).inc()

    def record_amount(self, what: str, subject: str, count: int) -> None:
        self._amounts[what].labels(subject).inc(count)

    def record_guard(self, list_id: str, guard: str) -> None:
        self.guard_trips.labels(list_id, guard).inc()

    def record_job(self, job: str, seconds: float, peak: int) -> None:
        self.job_seconds.labels(job).observe(seconds)
        self.job_memory.labels(job).set(peak)

    def record_job_failure(self, cause: str) -> None:
        self.job_failures.labels(cause).inc()

    def record_release_time(self, list_id: str, seconds: float) -> None:
        self.pull_to_live_seconds.labels(list_id).observe(seconds)

    def record_transfer(self, kind: str, seconds: float) -> None:
        self.transfer_seconds.labels(kind).observe(seconds)

    def record_receipt(self, outcome: str) -> None:
        self.receipts.labels(outcome).inc()

    def record_loop_lag(self, seconds: float) -> None:
        """The event loop was so many seconds late (ops.loop.measure_lag)."""
        self.loop_lag.observe(seconds)
        self._largest_lag = max(self._largest_lag, seconds)

    def _take_largest_lag(self) -> float:
        lag, self._largest_lag = self._largest_lag, 0.0
        return lag

    # -- requests and pulls ----------------------------------------------------------------------------------------

    def record_request(self, status: int, resource: str, seconds: float | None, length: int) -> None:
        """The feed has sent a response of `length` bytes. `seconds`: None if it waited for a change."""
        found = self._responses.get((status, resource))
        if found is None:  # `labels` takes a lock and a look-up
            found = self.requests.labels(status, resource), self.request_seconds.labels(resource)
            self._responses[status, resource] = found
        responses, times = found
        responses.inc()
        if seconds is not None:
            times.observe(seconds)
        if length:
            self.sent_bytes.inc(length)

    def record_pull(self, pull: Pull) -> None:
        """A pull has ended."""
        self.pulls.labels(pull.source, pull.outcome.value).inc()
        self.pull_seconds.labels(pull.source).observe(pull.seconds)
        if pull.report is not None:
            self.rejected_records.labels(pull.source).set(pull.report.rejects)

    async def text(self) -> bytes:
        """The text format of a scrape. Made in a thread, one at a time: 100 sources and lists are 10,000 lines."""
        async with self._scraping:
            return await asyncio.to_thread(generate_latest, self.registry)
