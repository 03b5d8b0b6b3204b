"""The daily samples of the free disk space."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from blocklistd.limits import DISK_SAMPLES
from blocklistd.store import disk
from blocklistd.store.disk import DiskSample
from tests.versions_of import NOW, Versions


def test_the_newest_sample_of_each_day_is_kept_for_so_many_days(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    with versions.database.write() as connection:
        assert disk.samples(connection) == []
        disk.record(connection, NOW, 100, 1000)
        disk.record(connection, NOW + timedelta(hours=1), 90, 1000)
        assert disk.samples(connection) == [DiskSample(NOW.date(), 90, 1000)]
        for day in range(1, DISK_SAMPLES + 5):
            disk.record(connection, NOW + timedelta(days=day), day, 1000)
    with versions.database.read() as connection:
        found = disk.samples(connection)
    newest = NOW.date() + timedelta(days=DISK_SAMPLES + 4)
    assert [one.day for one in found] == [newest - timedelta(days=back) for back in range(DISK_SAMPLES - 1, -1, -1)]
    assert found[-1].free == DISK_SAMPLES + 4
    versions.close()


def test_a_clock_that_was_set_back_drops_the_days_that_are_yet_to_come(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    with versions.database.write() as connection:
        for day in (1, 2, 3):
            disk.record(connection, datetime(2026, 11, day, tzinfo=UTC), day, 9)
        disk.record(connection, datetime(2026, 11, 2, 8, tzinfo=UTC), 7, 9)
        assert [(one.day.day, one.free) for one in disk.samples(connection)] == [(1, 1), (2, 7)]
    versions.close()
