"""Prometheus metrics of the serving process. Labels are ids of the configuration, never anything of an entry."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from blocklistd.pipeline import Pull
from blocklistd.serve.catalogue import ListView

_PULL_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_REQUEST_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60)


class Metrics:
    """One registry a process; the figures of lists and sources are set when it is scraped."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.pulls = Counter("blocklistd_pulls", "Pulls by outcome", ["source", "outcome"], registry=registry)
        self.pull_seconds = Histogram(
            "blocklistd_pull_seconds",
            "Time of a pull to its outcome",
            ["source"],
            buckets=_PULL_BUCKETS,
            registry=registry,
        )
        self.rejected = Gauge(
            "blocklistd_source_rejected", "Records refused in the newest body", ["source"], registry=registry
        )
        self.accepted = Gauge(
            "blocklistd_source_accepted_timestamp_seconds", "When a pull last succeeded", ["source"], registry=registry
        )
        self.overdue = Gauge(
            "blocklistd_source_overdue", "1: no accepted pull for max_age", ["source"], registry=registry
        )
        self.version = Gauge("blocklistd_list_version", "The live version", ["list"], registry=registry)
        self.entries = Gauge("blocklistd_list_entries", "Entries of the live version", ["list"], registry=registry)
        self.published = Gauge(
            "blocklistd_list_published_timestamp_seconds", "When the live version was made", ["list"], registry=registry
        )
        self.expires = Gauge(
            "blocklistd_list_expires_timestamp_seconds", "When the list's targets expire", ["list"], registry=registry
        )
        self.zone_serial = Gauge("blocklistd_zone_serial", "The serial that is served", ["zone"], registry=registry)
        self.zone_records = Gauge("blocklistd_zone_records", "Rules without the apex", ["zone"], registry=registry)
        self.held = Gauge("blocklistd_candidates_held", "Candidates that wait for a reviewer", registry=registry)
        self.root_expires = Gauge(
            "blocklistd_root_expires_timestamp_seconds", "When root.json expires", registry=registry
        )
        self.requests = Counter(
            "blocklistd_feed_requests", "Answers of the feed by status", ["code"], registry=registry
        )
        self._by_status: dict[int, Counter] = {}
        self.request_seconds = Histogram(
            "blocklistd_feed_request_seconds",
            "Time of an answer, long polls apart",
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )

    def observe_request(self, status: int, seconds: float | None) -> None:
        """An answer of the feed; None for a long poll, which says nothing of the time that answers take."""
        answers = self._by_status.get(status)
        if answers is None:  # `labels` takes a lock and a look-up
            answers = self._by_status[status] = self.requests.labels(status)
        answers.inc()
        if seconds is not None:
            self.request_seconds.observe(seconds)

    def observe_pull(self, pull: Pull) -> None:
        self.pulls.labels(pull.source, pull.outcome.value).inc()
        self.pull_seconds.labels(pull.source).observe(pull.seconds)
        if pull.report is not None:
            self.rejected.labels(pull.source).set(pull.report.rejects)

    def set_list(self, view: ListView) -> None:
        self.version.labels(view.id).set(view.version)
        self.entries.labels(view.id).set(view.live.entries if view.live else 0)
        self.published.labels(view.id).set(view.live.time.timestamp() if view.live else 0)
        self.expires.labels(view.id).set(view.expires.timestamp())

    def set_source(self, source: str, last_accepted: datetime | None, overdue: bool) -> None:
        self.accepted.labels(source).set(last_accepted.timestamp() if last_accepted else 0)
        self.overdue.labels(source).set(int(overdue))

    def text(self) -> bytes:
        return generate_latest(self.registry)
