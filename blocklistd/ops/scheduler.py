"""The schedule of the daemon's recurring tasks, by APScheduler.

A task is known by its name: scheduling a name again replaces its task. No task runs twice at the same time. One run
makes up for all missed runs. Order of calls: schedule tasks, `start`, `watch` in an asyncio task of its own, `stop`.
Tasks may be scheduled at any time. Nothing is stored: after a restart the daemon schedules all tasks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from blocklistd.errors import safe_message
from blocklistd.events import Event
from blocklistd.limits import PULL_JITTER, PULL_JITTER_MAX
from blocklistd.times import passed

Work = Callable[[], Awaitable[object]]
log: Final = logging.getLogger(__name__)
CLOCK_LOOK: Final = 10.0  # seconds between two readings of the clock
CLOCK_STEP: Final = 5.0  # seconds: a larger difference to the monotonic clock means that the clock was set


def interval_of(every: timedelta) -> IntervalTrigger:
    """A trigger with this period, and jitter: a share of the period, so that publishers do not pull in step."""
    seconds = every.total_seconds()
    return IntervalTrigger(seconds=seconds, jitter=min(seconds * PULL_JITTER, PULL_JITTER_MAX), timezone=UTC)


def cron_of(line: str) -> CronTrigger:
    """A trigger for a five-field cron line in UTC, with jitter. Raises ValueError."""
    trigger = CronTrigger.from_crontab(line, timezone=UTC)
    trigger.jitter = PULL_JITTER_MAX
    return trigger


class Scheduler:
    """Runs tasks at their times."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        self._scheduler.add_listener(_failed, EVENT_JOB_ERROR)

    def start(self) -> None:
        """Starts running tasks."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stops the schedule. Does not wait for running tasks."""
        if self._scheduler.running:  # a stop may come before the start
            self._scheduler.shutdown(wait=False)

    async def watch(
        self, clock: Callable[[], datetime], interval: float = CLOCK_LOOK, stepped: Work | None = None
    ) -> None:
        """Watches the clock until cancelled. If it was set, calls `stepped`; if it was set back, also computes due
        times again.

        APScheduler waits for times of the wall clock: after a step back, each task would wait for the old time to
        return. `interval` is in seconds.
        """
        last, began = clock(), passed()
        while True:
            await asyncio.sleep(interval)
            now, ended = clock(), passed()
            off = (now - last).total_seconds() - (ended - began)
            if now < last:
                Event.CLOCK_SET_BACK.log(log, seconds=(last - now).total_seconds())
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=job.trigger.get_next_fire_time(now, now))
            if abs(off) > CLOCK_STEP and stepped is not None:
                await stepped()
            last, began = now, ended

    def schedule_pull(self, name: str, trigger: BaseTrigger, work: Work, last: datetime | None, now: datetime) -> None:
        """Schedules a task that last ran at `last`, before a restart: at once if it is overdue, else at its next time.

        `last` is None if it never ran.
        """
        due = trigger.get_next_fire_time(min(last, now), now) if last else now
        # not before now: APScheduler would iterate over every missed run
        self._scheduler.add_job(work, trigger, id=name, next_run_time=max(due, now), replace_existing=True)

    def next_run(self, name: str) -> datetime | None:
        """The next time of a task, or None if it is not scheduled."""
        job = self._scheduler.get_job(name)
        return None if job is None else getattr(job, "next_run_time", None)  # not there before the scheduler starts

    def run_every(self, name: str, period: timedelta, work: Work) -> None:
        """Schedules a task with this period. A task that has the period already keeps its next time: otherwise frequent
        reloads would postpone it forever."""
        known = self._scheduler.get_job(name)
        if known is not None and known.trigger.interval == period:
            return
        trigger = IntervalTrigger(seconds=period.total_seconds(), timezone=UTC)
        self._scheduler.add_job(work, trigger, id=name, replace_existing=True)

    def run_once(self, name: str, when: datetime, work: Work) -> None:
        """Schedules one run at `when`, or at once if that has passed."""
        self._scheduler.add_job(work, DateTrigger(when, UTC), id=name, replace_existing=True)

    def drop(self, name: str) -> None:
        """Removes a task. Does nothing if there is none."""
        if self._scheduler.get_job(name):
            self._scheduler.remove_job(name)


def _failed(event: JobExecutionEvent) -> None:
    """Logs that a task failed. ops/logs.py suppresses APScheduler's record: its traceback may contain an entry."""
    if not isinstance(event.exception, asyncio.CancelledError):  # cancelled by a stop
        Event.TASK_FAILED.log(log, task=event.job_id, reason=safe_message(event.exception))
