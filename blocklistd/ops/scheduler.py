"""What happens by itself, by APScheduler: pulls, signing again, retention, alarms."""

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

from blocklistd.errors import told
from blocklistd.events import Event
from blocklistd.limits import PULL_JITTER, PULL_JITTER_MAX
from blocklistd.times import passed

Work = Callable[[], Awaitable[object]]
log: Final = logging.getLogger(__name__)
CLOCK_LOOK: Final = 10.0  # seconds between two looks at the clock
CLOCK_STEP: Final = 5.0  # seconds: a larger difference means that the clock was set; a smaller one is its correction


def interval_of(every: timedelta) -> IntervalTrigger:
    """Every so often, with a share of it as jitter, so that many publishers do not ask a hotline in the same second."""
    seconds = every.total_seconds()
    return IntervalTrigger(seconds=seconds, jitter=min(seconds * PULL_JITTER, PULL_JITTER_MAX), timezone=UTC)


def cron_of(line: str) -> CronTrigger:
    """A five-field cron line, in UTC."""
    trigger = CronTrigger.from_crontab(line, timezone=UTC)
    trigger.jitter = PULL_JITTER_MAX
    return trigger


class Scheduler:
    """Work by name; a name scheduled again replaces what it was. Nothing runs twice at once, nothing piles up."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        self._scheduler.add_listener(_failed, EVENT_JOB_ERROR)

    def start(self) -> None:
        self._scheduler.start()

    def stop(self) -> None:
        if self._scheduler.running:  # a stop may come before the first start has settled
            self._scheduler.shutdown(wait=False)

    async def watch(
        self, clock: Callable[[], datetime], interval: float = CLOCK_LOOK, stepped: Work | None = None
    ) -> None:
        """Ends when it is cancelled. APScheduler waits for times of the wall clock: where that is set back, all work
        would wait until the old time comes again. `stepped` is called when the clock was set."""
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

    def pull(self, name: str, trigger: BaseTrigger, work: Work, last: datetime | None, now: datetime) -> None:
        """At once if it never ran or its time has passed while nobody was there, else when it is due after `last`."""
        due = trigger.get_next_fire_time(min(last, now), now) if last else now
        # not before now: APScheduler would go through every run that was missed, to make one of them
        self._scheduler.add_job(work, trigger, id=name, next_run_time=max(due, now), replace_existing=True)

    def due(self, name: str) -> datetime | None:
        """When the work of this name runs next; None where it is not scheduled."""
        job = self._scheduler.get_job(name)
        return None if job is None else getattr(job, "next_run_time", None)  # not there before the scheduler starts

    def every(self, name: str, period: timedelta, work: Work) -> None:
        """Work that has this period already keeps its next time: who reloads often would else put it off for ever."""
        known = self._scheduler.get_job(name)
        if known is not None and known.trigger.interval == period:
            return
        trigger = IntervalTrigger(seconds=period.total_seconds(), timezone=UTC)
        self._scheduler.add_job(work, trigger, id=name, replace_existing=True)

    def once(self, name: str, when: datetime, work: Work) -> None:
        """Runs the work at that time, or at once where it has passed. Replaces earlier work of this name."""
        self._scheduler.add_job(work, DateTrigger(when, UTC), id=name, replace_existing=True)

    def drop(self, name: str) -> None:
        if self._scheduler.get_job(name):
            self._scheduler.remove_job(name)


def _failed(event: JobExecutionEvent) -> None:
    """Logs that scheduled work failed. APScheduler's own report is not logged (ops/logs.py): its traceback holds what
    was worked on."""
    if not isinstance(event.exception, asyncio.CancelledError):  # a stop
        Event.TASK_FAILED.log(log, task=event.job_id, reason=told(event.exception))
