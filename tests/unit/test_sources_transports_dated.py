from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.sources.transports.dated import DroppedFile, date_of, newest


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("list_20261128.txt", ("2026", "11", "28", "00", "00", "00")),
        ("2026-11-28-list.csv", ("2026", "11", "28", "00", "00", "00")),
        ("list.2026.11.28.gz", ("2026", "11", "28", "00", "00", "00")),
        ("list_20261128T0930.txt", ("2026", "11", "28", "09", "30", "00")),
        ("list-20261128_093015.txt", ("2026", "11", "28", "09", "30", "15")),
        ("from_20260101_to_20261128.txt", ("2026", "11", "28", "00", "00", "00")),
    ],
)
def test_the_last_date_of_a_name_counts(name: str, date: tuple[str, ...]) -> None:
    assert date_of(name) == date


@pytest.mark.parametrize(
    "name", ["list.txt", "list_28112026.txt", "list_20122026.txt", "20261301.txt", "120261128.txt", "2026-1128.txt"]
)
def test_other_digits_are_no_date(name: str) -> None:
    assert date_of(name) is None


def test_of_dated_releases_the_last_date_is_the_list_whatever_was_copied_last() -> None:
    """A release that is copied again does not take the place of its successor."""
    files = [DroppedFile(3000, "list_20261127.txt"), DroppedFile(1000, "list_20261128.txt")]
    assert newest(files) == files[1]


def test_of_two_files_of_a_date_the_one_that_changed_last_is_the_list() -> None:
    files = [DroppedFile(3000, "list_20261128.txt"), DroppedFile(4000, "again_20261128.txt")]
    assert newest(files) == files[1]


def test_one_name_without_date_lets_the_times_decide() -> None:
    files = [DroppedFile(3000, "list.txt"), DroppedFile(1000, "list_20261128.txt")]
    assert newest(files) == files[0]
    assert newest([]) is None


@given(st.lists(st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)), min_size=1, max_size=8, unique=True))
def test_dates_of_names_sort_like_times(times: list[datetime]) -> None:
    start = datetime(1970, 1, 1)
    files = [
        DroppedFile((start - time) // timedelta(milliseconds=1), f"list_{time:%Y%m%dT%H%M%S}-{number}.txt")
        for number, time in enumerate(times)
    ]
    found = newest(files)
    assert found is not None
    assert found.name.startswith(f"list_{max(times):%Y%m%dT%H%M%S}")
