"""The metrics that collectors read at a scrape."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from blocklistd.change import VersionInfo
from blocklistd.model import ListId, Outcome, SourceId, Version
from blocklistd.ops.collectors import (
    AlarmCollector,
    DueCollector,
    ListCollector,
    NodeCollector,
    ServingCollector,
    StoredCollector,
    ZoneCollector,
)
from blocklistd.ops.dns_metrics import DnsCollector
from blocklistd.ops.metrics import Metrics
from blocklistd.pipeline.due_counts import DueCount
from blocklistd.pipeline.nodes import NodeCounts
from blocklistd.pipeline.secondaries import Secondaries
from blocklistd.serve.dns.server import DnsServer
from blocklistd.serve.dns.zones import Zones
from blocklistd.serve.http.live_lists import Document, ListView, LiveLists
from blocklistd.store.metadata import SignedRole
from blocklistd.store.pulls import record_pull
from blocklistd.telemetry import ActiveAlarms
from tests.unit.configuring import VALID, read
from tests.versions_of import LIST, NOW, Versions

DAY = timedelta(days=1)
ZONES = """\
dns:
  listen: ["127.0.0.1:0"]
zones:
  rpz.example:
    list: national
    soa: {mname: ns.example, rname: hostmaster.example}
    ns: [ns.example]
"""


class State:
    """Everything that a scrape reads, most of it simulated."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "state"
        self.versions = Versions(self.state_dir)
        self.live_lists = LiveLists()
        self.signed: dict[ListId, dict[str, SignedRole]] = {}
        self.zones = Zones()
        self.missing: list[str] = []
        self.alarms = ActiveAlarms()
        self.config = read(folder, VALID + ZONES)
        self.registry = Metrics().registry

        self.now = NOW

        def clock() -> datetime:
            return self.now

        async def nothing(*_: object) -> None:
            return None

        trust: Any = SimpleNamespace(expires=NOW + 365 * DAY)
        jobs: Any = SimpleNamespace(running=2, unfinished=5)
        feed: Any = SimpleNamespace(connections=7)
        publisher: Any = SimpleNamespace(behind={"rpz.example"})
        for collector in (
            ListCollector(self.live_lists, self.signed, lambda: trust, clock),
            ZoneCollector(self.zones, publisher, lambda: self.config),
            DueCollector(lambda: {LIST: DueCount(3, NOW)}),
            NodeCollector(lambda: {"isp": NodeCounts(3, 1, 0, 1, 60.0)}),
            StoredCollector(self.versions.database, Secondaries(self.zones, clock), clock, lambda: self.config),
            ServingCollector(jobs, feed, self.live_lists, lambda: self.missing, self.state_dir),
            AlarmCollector(self.alarms, lambda: {"feed.tls.cert": NOW + DAY}),
            DnsCollector(
                DnsServer(self.zones, nothing, lambda *_: None, lambda *_: None, usable=nothing, retry=1, give_up=1)
            ),
        ):
            self.registry.register(collector)

    def pulled(self, name: SourceId, outcome: Outcome, age: timedelta) -> None:
        times: Any = {"began": NOW - age, "ended": NOW - age, "report": None, "validators": None, "settings": ""}
        with self.versions.database.write() as connection:
            record_pull(connection, name, outcome=outcome, reason=None, candidate=None, **times)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"blocklistd_{name}", labels)


def scraped(folder: Path) -> CollectorRegistry:
    """Everything that is scraped, of a daemon that has just started."""
    return State(folder).registry


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path)


def view(version: VersionInfo | None) -> ListView:
    return ListView(LIST, "", version, Version(0), Document.of(b""), {}, {}, NOW + 14 * DAY)


def test_lists_and_their_signatures(state: State) -> None:
    state.live_lists.publish(view(None))
    assert (state("list_version", list=LIST), state("list_entries", list=LIST)) == (0, 0)
    assert state("list_published_timestamp_seconds", list=LIST) == 0
    state.versions.publish(state.versions.seal(["a.example", "b.example"]))
    state.live_lists.publish(view(state.versions.state.live))
    role = SignedRole("targets", 1, NOW - DAY, NOW + 3 * DAY, Version(1), b"")
    state.signed[LIST] = {"targets": role, "timestamp": replace(role, role="timestamp", expires=NOW + DAY)}
    assert (state("list_version", list=LIST), state("list_entries", list=LIST)) == (1, 2)
    assert state("list_published_timestamp_seconds", list=LIST) == NOW.timestamp()
    assert state("list_expires_timestamp_seconds", list=LIST) == (NOW + 14 * DAY).timestamp()
    assert state("list_signature_expires_timestamp_seconds", list=LIST) == (NOW + DAY).timestamp()
    assert state("list_signature_remaining_ratio", list=LIST) == 0.5
    assert state("root_expires_timestamp_seconds") == (NOW + 365 * DAY).timestamp()
    state.live_lists.withdraw(LIST)
    assert state("list_version", list=LIST) is None


def test_sources_as_the_database_has_them(state: State) -> None:
    def pulled(outcome: Outcome, age: timedelta) -> tuple[float | None, float | None]:
        state.pulled(name, outcome, age)
        return state("source_last_accepted_timestamp_seconds", source=name), state("source_overdue", source=name)

    name = SourceId("hotline-a")
    max_age = state.config.sources[name].max_age
    assert pulled(Outcome.FAILED, max_age) == (0, 0), "it has so long since its first pull"
    assert pulled(Outcome.FAILED, timedelta()) == (0, 0)
    state.now += timedelta(seconds=1)
    assert pulled(Outcome.FAILED, timedelta()) == (0, 1)
    state.now -= timedelta(seconds=1)
    assert pulled(Outcome.UNCHANGED, max_age + timedelta(seconds=1)) == ((NOW - max_age).timestamp() - 1, 1)
    assert pulled(Outcome.UNCHANGED, max_age) == ((NOW - max_age).timestamp(), 0)
    assert pulled(Outcome.FAILED, timedelta()) == ((NOW - max_age).timestamp(), 0)
    assert state("candidates_held") == 0
    state.config = replace(state.config, sources={})
    assert state("source_overdue", source=name) is None


def test_entries_that_a_list_withholds_by_rule(state: State) -> None:
    assert state("list_entries_withheld", list=LIST, rule="public_suffix") is None
    state.versions.publish(state.versions.seal(["test", "invalid", "ok.example"]))
    assert state("list_entries_withheld", list=LIST, rule="public_suffix") == 2


def test_entries_that_are_due(state: State) -> None:
    assert state("list_entries_due", list=LIST) == 3


def test_a_zone_that_never_had_a_serial_is_behind(state: State) -> None:
    assert state("zone_behind", zone="rpz.example") == 1
    assert state("zone_serial", zone="rpz.example") is None
    assert state("zone_secondary_lag_seconds", zone="rpz.example") == 0
    state.config = replace(state.config, zones={})
    assert state("zone_behind", zone="rpz.example") is None


def test_the_process(state: State) -> None:
    assert (state("jobs_running"), state("jobs_queued"), state("feed_connections")) == (2, 3, 7)
    assert (state("feed_long_polls"), state("ready")) == (0, 1)
    assert 0 < (state("state_dir_free_bytes") or 0) <= (state("state_dir_size_bytes") or 0)
    state.missing.append("list national has no version that can be served")
    assert state("ready") == 0


def test_active_alarms(state: State, caplog: pytest.LogCaptureFixture) -> None:
    assert state("alarms_active", alarm="source_overdue") == 0
    for name in ("one", "two"):
        state.alarms.raise_alarm("source_overdue", name, f"source {name} is overdue")
        state.alarms.raise_alarm("source_overdue", name, f"source {name} is overdue")
    assert state("alarms_active", alarm="source_overdue") == 2
    assert state.alarms.texts() == ["source one is overdue", "source two is overdue"]
    assert caplog.text.count("source one is overdue") == 1, "once until it is over"
    state.alarms.clear("source_overdue", "one")
    assert state("alarms_active", alarm="source_overdue") == 1


def test_a_source_becomes_overdue_while_the_database_can_not_be_read(
    state: State, caplog: pytest.LogCaptureFixture
) -> None:
    name = SourceId("hotline-a")
    state.pulled(name, Outcome.UNCHANGED, timedelta())
    assert state("source_overdue", source=name) == 0
    state.versions.close()
    state.versions.store.database.rename(state.state_dir / "elsewhere")
    state.versions.store.database.mkdir()
    state.now += state.config.sources[name].max_age + timedelta(seconds=1)
    assert state("source_overdue", source=name) == 1
    assert "the metrics from the database keep their last values" in caplog.text
