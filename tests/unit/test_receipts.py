"""Nodes: who is late, silent, or failed a probe, and how long a version took to be live."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from blocklistd.model import SubscriberId
from blocklistd.receipts import (
    CLOCK_SLACK,
    LISTENED,
    SILENT_AFTER,
    Bounds,
    Copied,
    JudgedNode,
    Node,
    NodePlace,
    Published,
    Receipt,
    Reported,
    is_late,
    judge,
    spread,
    times_to_live,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
EDGE = NodePlace(SubscriberId("isp"), Copied.LIST, "national", "edge-1")
SECONDARY = NodePlace(SubscriberId("isp"), Copied.ZONE, "rpz.blocklist.example", "192.0.2.1")
NODE = Node.of(Receipt(3, "applied", None, NOW), NOW)


def judged(
    place: NodePlace, node: Node, lacking: datetime | None, now: datetime, objective: float | None = 6
) -> JudgedNode:
    hours = None if objective is None else objective * HOUR
    return judge(place, node, lacking, Bounds(hours, NOW - 100 * HOUR), now)


def test_a_node_is_late_once_a_version_that_it_lacks_is_older_than_the_objective() -> None:
    assert not judged(EDGE, NODE, None, NOW + 100 * HOUR).late, "it has the newest version"
    assert not judged(EDGE, NODE, NOW, NOW + 6 * HOUR).late
    found = judged(EDGE, NODE, NOW, NOW + 6.01 * HOUR)
    assert (found.late, found.lag, found.is_good) == (True, 21636.0, False)
    assert not judged(EDGE, NODE, NOW, NOW + 100 * HOUR, objective=None).late, "without an objective, no node is late"


def test_a_node_that_has_the_newest_version_has_nothing_to_say_and_is_not_silent() -> None:
    assert not judged(EDGE, NODE, None, NOW + 1000 * HOUR).silent
    lacking = NOW + 500 * HOUR
    assert not judged(EDGE, NODE, lacking, lacking + SILENT_AFTER).silent
    assert judged(EDGE, NODE, lacking, lacking + SILENT_AFTER + HOUR).silent
    reports = replace(NODE, seen=lacking + 2 * HOUR)  # that it failed
    assert not judged(EDGE, reports, lacking, lacking + SILENT_AFTER + HOUR).silent


def test_a_secondary_polls_and_is_silent_if_it_does_not() -> None:
    assert not judged(SECONDARY, NODE, None, NOW + SILENT_AFTER).silent
    assert judged(SECONDARY, NODE, None, NOW + SILENT_AFTER + HOUR).silent


def test_no_node_is_silent_until_the_publisher_has_listened_for_a_while() -> None:
    now = NOW + SILENT_AFTER + HOUR
    assert not judge(SECONDARY, NODE, None, Bounds(None, now - LISTENED), now).silent
    assert judge(SECONDARY, NODE, None, Bounds(None, now - 2 * LISTENED), now).silent


def test_a_failed_version_is_not_live_and_a_partial_one_is() -> None:
    node = NODE.with_receipt(Receipt(4, "failed", "the disk is full", NOW + HOUR), NOW + HOUR)
    assert (node.version, node.newest.version, node.lacks_after) == (3, 4, 3)
    node = node.with_receipt(Receipt(4, "partial", None, NOW + 2 * HOUR), NOW + 2 * HOUR)
    assert (node.version, node.newest.state, node.lacks_after) == (4, "partial", 4)
    never = Node.of(Receipt(7, "failed", None, NOW), NOW)
    assert (never.version, never.lacks_after) == (None, 6), "it lacks the version that it reported"


def test_the_last_probe_counts_and_a_receipt_without_one_does_not_hide_it() -> None:
    node = NODE.with_receipt(Receipt(4, "applied", None, NOW, "resolves"), NOW)
    node = node.with_receipt(Receipt(5, "applied", None, NOW), NOW)
    assert judged(EDGE, node, None, NOW).failed_probe
    node = node.with_receipt(Receipt(5, "applied", None, NOW + HOUR, "blocked"), NOW + HOUR)
    assert judged(EDGE, node, None, NOW).is_good


def test_a_time_is_not_believed_before_the_version_was_published_or_after_its_receipt_has_arrived() -> None:
    def arrived(claimed: datetime) -> tuple[datetime, str | None]:
        found = Receipt(3, "applied", None, claimed).arrived(NOW - 2 * HOUR, NOW)
        return found.applied_at, found.clock

    second = timedelta(seconds=1)
    assert arrived(NOW + timedelta(days=36500)) == (NOW, "ahead")
    assert arrived(NOW + second) == (NOW, None)
    assert arrived(NOW - HOUR) == (NOW - HOUR, None)
    assert arrived(NOW - 2 * HOUR - second) == (NOW - 2 * HOUR, None)
    assert arrived(NOW - 2 * HOUR - CLOCK_SLACK - second) == (NOW, "behind"), "not live at once"


def test_a_version_is_live_since_the_first_receipt_that_says_so() -> None:
    reported = Reported.of(Receipt(3, "failed", None, NOW))
    assert reported.live is None
    reported = reported.with_receipt(Receipt(3, "applied", None, NOW + HOUR))
    reported = reported.with_receipt(Receipt(3, "applied", None, NOW + 2 * HOUR, "blocked"))
    assert (reported.live, reported.newest.probe) == (NOW + HOUR, "blocked")


def test_a_later_version_makes_the_earlier_ones_live() -> None:
    versions = [Published(number, NOW + number * HOUR) for number in range(1, 6)]
    live = {1: NOW + 1.5 * HOUR, 4: NOW + 5 * HOUR, 5: None}
    assert times_to_live(versions, live, NOW) == {1: 1800.0, 2: 10800.0, 3: 7200.0, 4: 3600.0, 5: None}
    later = times_to_live(versions, live, NOW + 3.5 * HOUR)
    assert later == {1: 1800.0, 4: 3600.0, 5: None}, "nothing is said of versions before the node was known"
    early = times_to_live([Published(1, NOW)], {1: NOW - HOUR}, NOW)
    assert early == {1: 0.0}, "a clock that is behind"


@pytest.mark.parametrize(("seconds", "late"), [(0.0, False), (21600.0, False), (21601.0, True), (None, True)])
def test_a_version_that_took_longer_than_the_objective_is_late(seconds: float | None, late: bool) -> None:
    assert is_late(seconds, NOW, 6 * HOUR, NOW + 7 * HOUR) is late
    assert not is_late(seconds, NOW, None, NOW + 7 * HOUR)


def test_the_spread_of_times() -> None:
    assert spread([3.0, None, 1.0, 2.0, 10.0]) == (1.0, 2.5, 10.0)
    assert spread([None]) == spread([]) == (None, None, None)
