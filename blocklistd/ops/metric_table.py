"""The metrics: the name, type, labels and meaning of each one that the package exports.

Names and labels never change. docs/metrics.md is made from this table. Label values are ids of the configuration and
words of the program, never anything of an entry.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

_WORK: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_PULL: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_REQUEST: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60)
_LAG: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


@unique
class MetricName(Enum):
    """Type, meaning, labels, and a histogram's buckets. The exported name is `blocklistd_` and the member's name in
    lower case; for a counter, `_total` follows."""

    # -- pulls and sources
    PULLS = "counter", "Pulls by outcome", "source", "outcome"
    PULL_SECONDS = "histogram", "Time from the start of a pull to its outcome", "source", _PULL
    PULL_TO_LIVE_SECONDS = "histogram", "Time from the start of a pull until its version is live", "list", _PULL
    SOURCE_FETCHED_BYTES = "counter", "Bytes of completely fetched bodies", "source"
    SOURCE_RECORDS = "counter", "Records that were read", "source"
    SOURCE_REJECTED_RECORDS = "gauge", "Records of the newest body that can't be read", "source"
    SOURCE_LAST_ACCEPTED_TIMESTAMP_SECONDS = "gauge", "Time of the last accepted pull; 0: none", "source"
    SOURCE_OVERDUE = "gauge", "1: the newest list of the source is older than max_age", "source"
    SOURCE_FROZEN = "gauge", "1: the list of the source has not changed for longer than max_unchanged", "source"

    # -- candidates and lists
    CANDIDATES_HELD = "gauge", "Candidates that wait for a reviewer"
    GUARD_TRIPS = (
        "counter",
        "Held candidates by guard; a candidate that several guards hold counts for each of them",
        "list",
        "guard",
    )
    LIST_VERSION = "gauge", "Number of the live version; 0: none", "list"
    LIST_ENTRIES = "gauge", "Entries of the live version", "list"
    LIST_ENTRIES_WITHHELD = "gauge", "Entries of its sources that the list withholds, by rule", "list", "rule"
    LIST_ENTRIES_DUE = "gauge", "Live entries whose lifetime has ended; of lists with a `lifetime`", "list"
    LIST_ENTRIES_ADDED = "counter", "Entries that new versions added", "list"
    LIST_ENTRIES_REMOVED = "counter", "Entries that new versions removed", "list"
    LIST_ENTRIES_CHANGED = "counter", "Entries of which new versions changed an attribute", "list"
    LIST_PUBLISHED_TIMESTAMP_SECONDS = "gauge", "Time at which the live version was made; 0: none", "list"
    LIST_EXPIRES_TIMESTAMP_SECONDS = "gauge", "Time at which the targets metadata of the list expire", "list"
    LIST_SIGNATURE_EXPIRES_TIMESTAMP_SECONDS = "gauge", "Time at which the first signature of the list expires", "list"
    LIST_SIGNATURE_REMAINING_RATIO = (
        "gauge",
        "Least share of its lifetime that a signature of the list has left; above 0.6 while signatures are renewed",
        "list",
    )
    ROOT_EXPIRES_TIMESTAMP_SECONDS = "gauge", "Time at which root.json expires"

    # -- zones and DNS
    ZONE_SERIAL = "gauge", "Serial that is served", "zone"
    ZONE_RECORDS = "gauge", "Rules of the zone, without the apex", "zone"
    ZONE_BEHIND = "gauge", "1: the zone could not be brought to its list's version", "zone"
    ZONE_SECONDARY_LAG_SECONDS = (
        "gauge",
        "Longest time for which a secondary has lacked a newer serial of the zone; of secondaries seen within a day",
        "zone",
    )
    DNS_RESPONSES = "counter", "DNS responses; a transfer that has begun is not counted", "transport", "type", "rcode"
    DNS_TRANSFERS = "counter", "Zone transfers that were sent completely, by type (AXFR, IXFR)", "type"
    DNS_TRANSFERS_IN_PROGRESS = "gauge", "Zone transfers in progress, by type", "type"
    DNS_TRANSFER_SECONDS = "histogram", "Time of a zone transfer that was sent completely", "type", _WORK
    DNS_TRANSFER_BYTES = "counter", "Bytes of zone transfers"
    DNS_NOTIFIES = "counter", "NOTIFY messages by state: sent, acknowledged, given_up", "state"

    # -- subscribers' nodes
    SUBSCRIBER_NODES = "gauge", "Nodes of the subscriber that are known, secondaries included", "subscriber"
    SUBSCRIBER_NODES_LATE = "gauge", "Nodes that lack a version older than the subscriber's objective", "subscriber"
    SUBSCRIBER_NODES_SILENT = "gauge", "Nodes that were not heard of for a day", "subscriber"
    SUBSCRIBER_PROBES_FAILED = "gauge", "Nodes whose own resolver did not block the last test entry", "subscriber"
    SUBSCRIBER_LAG_SECONDS = (
        "gauge",
        "Longest time for which a node of the subscriber has lacked a newer version; silent ones do not count",
        "subscriber",
    )
    RECEIPTS = (
        "counter",
        "Receipts by outcome: taken, repeated, never_published, too_many_nodes, names_entry, busy",
        "outcome",
    )

    # -- the feed
    FEED_REQUESTS = "counter", "Responses of the feed by status code and by kind of resource", "code", "resource"
    FEED_REQUEST_SECONDS = "histogram", "Time of a response, without long polls", "resource", _REQUEST
    FEED_SENT_BYTES = "counter", "Bytes of the feed's responses"
    FEED_CONNECTIONS = "gauge", "Open connections of the feed"
    FEED_LONG_POLLS = "gauge", "Long polls in progress"
    FEED_EVENT_STREAMS = "gauge", "Streams of events in progress"

    # -- the process
    READY = "gauge", "1: /readyz is 200"
    ALARM_DELIVERIES = "counter", "Alarms sent to people, by way and by outcome: delivered, failed", "way", "outcome"
    ALARMS_UNDELIVERED = "gauge", "Alarms that are not delivered yet, by way", "way"
    ALARMS_ACTIVE = "gauge", "Active alarms of each kind; `blocklistd status` shows them", "alarm"
    CERTIFICATE_EXPIRES_TIMESTAMP_SECONDS = (
        "gauge",
        "Time at which a certificate in use expires, by the configuration key that names it",
        "certificate",
    )
    STAGE_SECONDS = (
        "histogram",
        "Time of a stage: fetch, intake, store_entries, store_body (of a source), commit, sign (of a list), "
        "zone (of a zone), database (wait for another writer, write)",
        *("stage", "subject"),
        _WORK,
    )
    STAGE_FAILURES = "counter", "Runs of a stage that ended with an error", "stage", "subject"
    JOBS_RUNNING = "gauge", "Jobs that have a process"
    JOBS_QUEUED = "gauge", "Jobs that wait for a process"
    JOB_SECONDS = "histogram", "Time of a job with a result, its time in the queue included", "job", _WORK
    JOB_PEAK_MEMORY_BYTES = "gauge", "Peak resident memory of the newest job, shared pages included", "job"
    JOB_FAILURES = (
        "counter",
        "Jobs without a usable result, by cause; forbidden: a call against the sandbox; answer: a malformed result",
        "cause",
    )
    STATE_DIR_FREE_BYTES = "gauge", "Free space of the file system that holds the state_dir"
    STATE_DIR_SIZE_BYTES = "gauge", "Size of the file system that holds the state_dir"
    EVENT_LOOP_LAG_SECONDS = "histogram", "Lateness of the event loop", _LAG
    EVENT_LOOP_LAG_MAX_SECONDS = "gauge", "Largest lateness of the event loop since the last scrape"

    def __init__(self, kind: str, meaning: str, *more: str | tuple[float, ...]) -> None:
        self.kind = kind
        self.meaning = meaning
        self.labels = tuple(label for label in more if isinstance(label, str))
        self.buckets = next((part for part in more if isinstance(part, tuple)), ())

    @property
    def base(self) -> str:
        """The exported name without a counter's `_total`."""
        return f"blocklistd_{self.name.lower()}"

    @property
    def exported(self) -> str:
        """The exported name; for a histogram, `_bucket`, `_count` or `_sum` follows."""
        return f"{self.base}_total" if self.kind == "counter" else self.base

    @property
    def unit(self) -> str:
        """The unit that the name ends with; "" for a metric that counts."""
        if self.base.endswith("_timestamp_seconds"):
            return "Unix time in seconds"
        return next((unit for unit in ("seconds", "bytes", "ratio") if self.base.endswith(f"_{unit}")), "")

    def counter(self, registry: CollectorRegistry) -> Counter:
        """A new counter in the registry."""
        return Counter(self.base, self.meaning, self.labels, registry=registry)

    def gauge(self, registry: CollectorRegistry) -> Gauge:
        """A new gauge in the registry."""
        return Gauge(self.base, self.meaning, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        """A new histogram in the registry."""
        return Histogram(self.base, self.meaning, self.labels, registry=registry, buckets=self.buckets)

    def counter_family(self) -> CounterMetricFamily:
        """An empty family for a collector."""
        return CounterMetricFamily(self.base, self.meaning, labels=self.labels)

    def gauge_family(self) -> GaugeMetricFamily:
        """An empty family for a collector."""
        return GaugeMetricFamily(self.base, self.meaning, labels=self.labels)
