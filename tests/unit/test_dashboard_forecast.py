"""The forecast of the day on which the disk is full."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.dashboard.forecast import FAR_DAYS, MIN_DAYS, FillsWhen, forecast
from blocklistd.store.disk import DiskSample

FIRST = date(2026, 11, 1)
SIZE = 10_000


def samples(*free: int, size: int = SIZE, first: date = FIRST) -> list[DiskSample]:
    return [DiskSample(first + timedelta(days=number), value, size) for number, value in enumerate(free)]


@pytest.mark.parametrize("days", range(MIN_DAYS + 1))
def test_few_samples_make_no_forecast(days: int) -> None:
    assert forecast(samples(*range(9000, 9000 - 100 * days, -100))).outlook is FillsWhen.YOUNG


def test_a_disk_that_loses_as_much_each_day_is_full_on_that_day() -> None:
    found = forecast(samples(1400, 1300, 1200, 1100, 1000))
    assert (found.outlook, found.lost, found.days) == (FillsWhen.FULL, 100, 4)
    assert found.full == FIRST + timedelta(days=4 + 10)


def test_one_jump_does_not_change_it() -> None:
    copy = [2000 - 10 * day - (900 if day == 9 else 0) for day in range(20)]
    found = forecast(samples(*copy))
    assert found.lost == 10
    assert found.full == FIRST + timedelta(days=19 + 181)


@pytest.mark.parametrize("free", [[500] * 8, [500, 510, 520, 530, 540]])
def test_free_space_that_does_not_shrink(free: list[int]) -> None:
    assert forecast(samples(*free)).outlook is FillsWhen.STEADY


def test_a_far_day_is_not_named() -> None:
    found = forecast(samples(9999, 9998, 9997, 9996))
    assert (found.outlook, found.full) == (FillsWhen.FAR, None)


def test_it_begins_again_with_another_size() -> None:
    old = samples(500, 400, 300, 200, size=1000)
    new = samples(9000, 8900, size=SIZE, first=FIRST + timedelta(days=4))
    assert forecast([*old, *new]).outlook is FillsWhen.YOUNG
    more = samples(9000, 8900, 8800, 8700, size=SIZE, first=FIRST + timedelta(days=4))
    assert forecast([*old, *more]).lost == 100


@given(st.lists(st.integers(0, SIZE), max_size=40))
def test_any_samples_have_a_forecast_that_is_not_in_the_past(free: list[int]) -> None:
    found = forecast(samples(*free))
    if found.outlook is FillsWhen.FULL:
        assert found.full is not None
        last = FIRST + timedelta(days=len(free) - 1)
        assert last <= found.full <= last + timedelta(days=FAR_DAYS)
        assert found.lost > 0
    else:
        assert found.full is None
