"""Scheduled tasks run at their times, also after the clock was set."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, tzinfo

import apscheduler.schedulers.base
import apscheduler.triggers.interval
import pytest
from apscheduler.events import EVENT_JOB_ERROR
from apscheduler.triggers.base import BaseTrigger

from blocklistd.ops import logs
from blocklistd.ops.scheduler import Scheduler, cron_of, interval_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock(datetime):
    """The system's, and what it was set by."""

    shift = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.shift


async def test_a_clock_that_is_set_back_keeps_nothing_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (apscheduler.schedulers.base, apscheduler.triggers.interval):
        monkeypatch.setattr(module, "datetime", Clock)
    monkeypatch.setattr(Clock, "shift", timedelta(days=365))
    ran = asyncio.Event()

    async def work() -> None:
        ran.set()

    scheduler = Scheduler()
    scheduler.run_every("sign", timedelta(seconds=0.3), work)
    now = Clock.now(UTC)
    scheduler.schedule_pull("pull a", interval_of(timedelta(minutes=30)), work, now, now)
    scheduler.schedule_pull("pull b", cron_of("0 * * * *"), work, now, now)
    scheduler.start()
    heard = asyncio.Event()

    async def stepped() -> None:
        heard.set()

    watching = asyncio.ensure_future(scheduler.watch(lambda: Clock.now(UTC), 0.05, stepped))
    await asyncio.sleep(0)
    Clock.shift = timedelta()
    async with asyncio.timeout(10):
        await ran.wait()
        await heard.wait()  # what has to do with signatures is looked at at once
    assert all(job.next_run_time < datetime.now(UTC) + timedelta(hours=2) for job in scheduler._scheduler.get_jobs())
    watching.cancel()
    scheduler.stop()


async def nothing() -> None:
    """Work."""


def due(trigger: BaseTrigger, last: datetime | None) -> timedelta:
    """When a source that was last pulled at `last` is pulled next, from NOW."""
    scheduler = Scheduler()
    scheduler.schedule_pull("pull a", trigger, nothing, last, NOW)
    (job,) = scheduler._scheduler.get_jobs()
    due: datetime = job.next_run_time
    return due - NOW


@pytest.mark.parametrize("trigger", [interval_of(timedelta(minutes=30)), cron_of("0 * * * *")], ids=["every", "cron"])
def test_a_task_that_never_ran_or_was_missed_runs_at_once(trigger: BaseTrigger) -> None:
    assert due(trigger, None) == timedelta()
    assert due(trigger, NOW - timedelta(hours=3)) == timedelta()
    assert due(trigger, NOW - timedelta(days=3650)) == timedelta()


def test_a_task_that_is_not_due_waits_for_its_time_and_the_jitter() -> None:
    jitter = timedelta(seconds=60)
    half_an_hour = interval_of(timedelta(minutes=30))
    assert timedelta(minutes=20) <= due(half_an_hour, NOW - timedelta(minutes=10)) <= timedelta(minutes=20) + jitter
    assert timedelta(hours=1) <= due(cron_of("0 * * * *"), NOW) <= timedelta(hours=1) + jitter
    assert timedelta(minutes=1) <= due(interval_of(timedelta(minutes=1)), NOW) <= timedelta(minutes=1.1)


@pytest.mark.parametrize(
    "trigger", [interval_of(timedelta(minutes=30)), cron_of("*/30 * * * *")], ids=["every", "cron"]
)
def test_a_last_pull_in_the_future_delays_by_one_turn_at_most(trigger: BaseTrigger) -> None:
    assert timedelta() < due(trigger, NOW + timedelta(days=365)) <= timedelta(minutes=31)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Libraries have the daemon's log levels."""
    for name, level in logs.LIBRARIES.items():
        caplog.set_level(level, name)
    caplog.handler.setLevel(logging.NOTSET)
    return caplog


async def until_it_ended(work: Callable[[], Awaitable[None]], began: asyncio.Event | None = None) -> None:
    """Runs the work once; stops the scheduler when it began, or when it ended."""
    ended = asyncio.Event()
    scheduler = Scheduler()
    scheduler.schedule_pull("pull a", interval_of(timedelta(minutes=30)), work, None, datetime.now(UTC))
    scheduler._scheduler.add_listener(lambda _: ended.set(), EVENT_JOB_ERROR)
    scheduler.start()
    async with asyncio.timeout(10):
        if began:
            await began.wait()
            scheduler.stop()
        await ended.wait()
    scheduler.stop()


async def test_a_failed_task_is_logged_without_its_error_s_text(quiet: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise ValueError("https://listed.example/")

    await until_it_ended(work)
    assert "scheduled task failed: pull a: ValueError" in quiet.text
    assert "listed" not in quiet.text


async def test_a_task_that_a_stop_cancels_has_not_failed(quiet: pytest.LogCaptureFixture) -> None:
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    await until_it_ended(work, began)
    assert quiet.text == ""


async def test_a_reload_postpones_no_task() -> None:
    scheduler = Scheduler()
    scheduler.start()
    scheduler.run_every("scrub", timedelta(days=1), nothing)
    due = scheduler._scheduler.get_job("scrub").next_run_time
    scheduler.run_every("scrub", timedelta(days=1), nothing)
    assert scheduler._scheduler.get_job("scrub").next_run_time == due
    scheduler.run_every("scrub", timedelta(hours=1), nothing)
    assert scheduler._scheduler.get_job("scrub").next_run_time < due, "another period counts from now on"
    scheduler.stop()
