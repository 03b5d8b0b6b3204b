"""What happens by itself goes on happening, whatever is done to the clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo

import apscheduler.schedulers.base
import apscheduler.triggers.interval
import pytest

from blocklistd.ops.scheduler import Scheduler, cron_of, interval_of


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
    scheduler.every("sign", timedelta(seconds=0.3), work)
    now = Clock.now(UTC)
    scheduler.pull("pull a", interval_of(timedelta(minutes=30)), work, now, now)
    scheduler.pull("pull b", cron_of("0 * * * *"), work, now, now)
    scheduler.start()
    watching = asyncio.ensure_future(scheduler.watch(lambda: Clock.now(UTC), 0.05))
    await asyncio.sleep(0)
    Clock.shift = timedelta()
    async with asyncio.timeout(10):
        await ran.wait()
    assert all(job.next_run_time < datetime.now(UTC) + timedelta(hours=2) for job in scheduler._scheduler.get_jobs())
    watching.cancel()
    scheduler.stop()
