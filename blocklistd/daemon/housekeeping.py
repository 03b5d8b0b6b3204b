"""Schedules the daemon's recurring work: pulls, signatures, retention, the sweep, the scrub, and alarms."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta

from blocklistd.config import Config
from blocklistd.daemon import plans
from blocklistd.daemon.alarms import Alarms
from blocklistd.daemon.upkeep import Upkeep
from blocklistd.limits import RESIGN_PARTS, SWEEP_MINUTES, UPKEEP_MINUTES
from blocklistd.model import Outcome
from blocklistd.ops.duties import Duties
from blocklistd.ops.scheduler import Scheduler
from blocklistd.pipeline.pull import Pipeline
from blocklistd.pipeline.resources import Resources
from blocklistd.store.pulls import source_states
from blocklistd.times import utc_now


class Housekeeping:
    """Schedules the work. `config` answers the running configuration. A start and each reload call `schedule`."""

    def __init__(
        self,
        resources: Resources,
        scheduler: Scheduler,
        pipeline: Pipeline,
        upkeep: Upkeep,
        alarms: Alarms,
        duties: Duties,
        config: Callable[[], Config],
    ) -> None:
        self._resources = resources
        self._scheduler = scheduler
        self._pipeline = pipeline
        self._upkeep = upkeep
        self._alarms = alarms
        self._duties = duties
        self._config = config
        self._is_start = True

    async def schedule(self) -> None:
        """Schedules everything. What needs nothing from the database comes first, so that a damaged one does not keep
        signatures from being renewed."""
        config = self._config()
        shortest = min([config.keys.timestamp_expires, *(found.expires for found in config.lists.values())])
        # twice as often as something can be due, so that what is due is at most half a turn late
        period = min(shortest / (2 * RESIGN_PARTS), timedelta(hours=1))
        for name, every, work in (
            ("sign", period, self._upkeep.sign),
            ("retain", timedelta(minutes=UPKEEP_MINUTES), self._upkeep.retain),
            ("sweep", timedelta(minutes=SWEEP_MINUTES), self._upkeep.sweep),
            ("scrub", timedelta(days=1), self._pipeline.scrub),
            ("check database", timedelta(days=1), self._upkeep.check_database),
            ("catch up", timedelta(minutes=1), self._upkeep.catch_up),
            ("alarms", timedelta(minutes=1), self._raise_alarms),
        ):
            self._scheduler.every(name, every, self._duties.duty(name, work))
        await self._duties.do("schedule pulls", self._schedule_pulls)

    async def _raise_alarms(self) -> None:
        await self._alarms.raise_alarms()
        if self._alarms.due is not None:  # by the checked clock, which may differ from the scheduler's
            wait = max(self._alarms.due - self._resources.clock(), timedelta(seconds=1)) + timedelta(milliseconds=1)
            self._scheduler.once("alarms due", utc_now() + wait, self.look_for_alarms)

    async def look_for_alarms(self) -> None:
        """Raises and ends alarms: every minute, after each pull, and when a source becomes overdue or frozen. Never
        raises an error."""
        await self._duties.do("alarms", self._raise_alarms)

    async def _schedule_pulls(self) -> None:
        """Schedules the pulls. At a start, a source whose last pull failed is pulled at once: the cause may have been
        removed with the restart."""
        config, now = self._config(), utc_now()  # the scheduler's own clock, right or wrong
        states = await self._resources.database.reading(functools.partial(source_states, names=config.sources))
        for name, state in states.items():
            work = functools.partial(self._pipeline.pull, name)
            last = None if self._is_start and state.outcome is Outcome.FAILED else state.last_pull
            self._scheduler.pull(f"pull {name}", plans.trigger(config.sources[name]), work, last, now)
        self._is_start = False
