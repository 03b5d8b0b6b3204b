"""A wrong clock is not believed; time then goes on from the last believed time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from blocklistd.store.schema import time_text
from blocklistd.times import MAX_AHEAD, TOLERANCE, CheckedClock, rfc3339

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize("year", [1, 970, 9999])
def test_the_text_of_a_time_is_parsed_again(year: int) -> None:
    time = datetime(year, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert rfc3339(time) == f"{year:04}-01-02T03:04:05Z"
    assert time_text(time) == f"{year:04}-01-02T03:04:05.000000Z"
    assert datetime.fromisoformat(rfc3339(time)) == datetime.fromisoformat(time_text(time)) == time


class Machine:
    """A machine at the time `now`, whose clock is wrong by `off`."""

    def __init__(self) -> None:
        self.now = NOW
        self.off = timedelta()
        self.clock = CheckedClock(lambda: self.now + self.off, lambda: (self.now - NOW).total_seconds())


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_right_clock_is_believed(machine: Machine) -> None:
    machine.clock.begin(NOW - 30 * DAY)
    for _ in range(3):
        assert machine.clock() == machine.clock.latest() == machine.now
        assert machine.clock.wrong is None
        machine.now += HOUR


@pytest.mark.parametrize("recorded", [None, NOW, NOW + TOLERANCE, NOW - MAX_AHEAD])
def test_a_clock_that_fits_the_recorded_time_is_believed(machine: Machine, recorded: datetime | None) -> None:
    machine.clock.begin(recorded)
    assert (machine.clock(), machine.clock.wrong) == (NOW, None)


def test_a_clock_behind_the_recorded_time_is_wrong(machine: Machine) -> None:
    recorded = NOW + 3 * DAY
    machine.clock.begin(recorded)
    assert "behind the newest recorded time, 2026-11-23T12:00:00Z" in (machine.clock.wrong or "")
    assert machine.clock() == machine.clock.latest() == recorded
    text = machine.clock.wrong
    machine.now += HOUR
    assert machine.clock() == recorded + HOUR, "time goes on"
    assert machine.clock.wrong == text, "the text stays the same"
    machine.off = 3 * DAY  # the clock is right again
    assert machine.clock() == machine.now + 3 * DAY
    assert machine.clock.wrong is None


@pytest.mark.parametrize("back", [2 * TOLERANCE, 30 * DAY])
def test_a_clock_that_is_set_back_is_wrong(machine: Machine, back: timedelta) -> None:
    machine.off = -back
    assert machine.clock() == machine.now
    assert machine.clock.wrong is not None
    machine.now += DAY
    assert machine.clock() == machine.now, "signatures have the right time"
    machine.off = timedelta()
    assert machine.clock() == machine.now
    assert machine.clock.wrong is None


@pytest.mark.parametrize("recorded", [None, NOW - DAY])
def test_a_clock_more_than_a_year_ahead_is_wrong(machine: Machine, recorded: datetime | None) -> None:
    machine.clock.begin(recorded)
    machine.off = MAX_AHEAD + DAY
    machine.now += HOUR
    assert machine.clock() == machine.now
    assert machine.clock.latest() == machine.now + machine.off, "the later one, so that signatures are valid by both"
    assert "more than a year ahead" in (machine.clock.wrong or "")
    machine.off = timedelta()
    assert machine.clock() == machine.clock.latest() == machine.now
    assert machine.clock.wrong is None


def test_an_operator_can_confirm_a_clock_more_than_a_year_ahead(machine: Machine) -> None:
    recorded = NOW - MAX_AHEAD - DAY
    machine.clock.begin(recorded)
    assert machine.clock() == recorded
    assert machine.clock.wrong is not None
    machine.clock.believe()
    assert machine.clock() == NOW
    assert machine.clock.wrong is None


def test_a_step_forward_can_be_taken_back(machine: Machine) -> None:
    machine.clock.begin(NOW)
    machine.off = 30 * DAY
    assert machine.clock() == NOW + 30 * DAY, "less than a year is believed"
    machine.now += 2 * HOUR
    machine.clock()
    machine.off = timedelta()
    assert machine.clock() == machine.now, "the clock is right again"
    assert machine.clock.wrong is None
    machine.off = -DAY
    assert machine.clock() == machine.now
    assert machine.clock.wrong is not None


def test_a_step_back_within_the_tolerance_is_believed(machine: Machine) -> None:
    machine.off = -SECOND
    assert machine.clock() == machine.now - SECOND
    assert machine.clock.wrong is None


def test_several_steps_forward_can_be_taken_back_one_by_one(machine: Machine) -> None:
    machine.clock.begin(NOW - DAY)
    for off in (10 * DAY, 10 * DAY + 2 * HOUR, 10 * DAY + 2 * HOUR + 50 * TOLERANCE):
        machine.now += HOUR
        machine.off = off
        assert (machine.clock(), machine.clock.wrong) == (machine.now + off, None)
    for off in (10 * DAY, timedelta()):
        machine.now += HOUR
        machine.off = off
        assert (machine.clock(), machine.clock.wrong) == (machine.now + off, None)
    machine.off = -2 * HOUR
    machine.clock()
    assert machine.clock.wrong is not None, "no remembered step leads there"
