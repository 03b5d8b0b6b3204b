"""The facts of the dashboard that are computed: days without versions, and the times of nodes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from blocklistd.daemon.dashboard_facts import CourseReader, filled, times_of
from blocklistd.dashboard.facts import ALL_LISTS, DAYS, DayFacts, sum_of_days
from blocklistd.model import SubscriberId
from blocklistd.receipts import Copied, NodePlace, Receipt
from blocklistd.store import receipts
from blocklistd.store.figures import DayFigures
from blocklistd.store.receipts import ReceivedReceipt, TimeToLive
from blocklistd.store.schema_served import subscribers
from tests.versions_of import LIST, NOW, Versions

DAY = timedelta(days=1)


def test_a_day_without_a_version_has_the_entries_of_the_day_before() -> None:
    days = [date(2026, 11, day) for day in (1, 2, 3, 4)]
    rows = [DayFigures("2026-10-20", 9, 9, 50), DayFigures("2026-11-02", 5, 1, 54)]
    assert filled(rows, days) == [DayFacts(50, 0, 0), DayFacts(54, 5, 1), DayFacts(54, 0, 0), DayFacts(54, 0, 0)]
    assert filled(rows[1:], days)[0] == DayFacts(None, 0, 0)
    assert filled([], days) == [DayFacts(None, 0, 0)] * 4


def test_the_sum_of_lists_begins_with_the_first_that_has_figures() -> None:
    one, other = [DayFacts(None, 0, 0), DayFacts(5, 5, 0)], [DayFacts(7, 1, 2), DayFacts(8, 1, 0)]
    assert sum_of_days([one, other]) == [DayFacts(7, 1, 2), DayFacts(13, 6, 0)]
    assert sum_of_days([one[:1]]) == [DayFacts(None, 0, 0)]


def test_the_times_of_a_day() -> None:
    found = times_of([TimeToLive(LIST, float(second)) for second in (1, 2, 3, 4, 5, 6, 7, 8, 9, 100)])
    assert found[ALL_LISTS] == found[LIST] == (5.5, 9.0, 10)
    assert times_of([]) == {}
    assert times_of([TimeToLive(LIST, 3.0)])[ALL_LISTS] == (3.0, 3.0, 1)


def test_what_nodes_reported_is_found_on_its_day(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    versions.publish(versions.seal(["a.example"]))
    live = versions.state.live
    assert live is not None
    place = NodePlace(SubscriberId("isp"), Copied.LIST, LIST, "node")
    applied = live.time + timedelta(seconds=30)
    arrived = ReceivedReceipt(place, Receipt(live.version, "applied", None, applied), applied)
    failed = Receipt(live.version, "failed", "x", applied)
    lost = ReceivedReceipt(place._replace(node="other"), failed, applied)
    with versions.database.write() as connection:
        row = {"id": "isp", "token": "x", "created": live.time, "created_by": "root"}
        connection.execute(subscribers.insert().values(row))
        receipts.record(connection, [arrived, lost])
    reader = CourseReader()
    with versions.database.read() as connection:
        course = reader.read(connection, applied + DAY)
        again = reader.read(connection, applied + 40 * DAY)
    assert course.protect[ALL_LISTS][DAYS - 2] == course.protect[LIST][DAYS - 2] == (30.0, 30.0, 1)
    assert [one.reports for one in course.protect[ALL_LISTS]].count(0) == DAYS - 1
    assert course.today == (applied + DAY).astimezone(UTC).date()
    assert again.protect == {}
    versions.close()


def test_the_first_day_of_the_figures(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    with versions.database.read() as connection:
        course = CourseReader().read(connection, datetime.combine(NOW.date(), NOW.time(), UTC))
    assert (course.days, course.protect, course.guards) == ({}, {}, {})
    versions.close()
