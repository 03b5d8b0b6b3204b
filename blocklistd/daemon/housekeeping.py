"""When the daemon does what by itself: pulls, signatures, retention, the sweep, the scrub, and alarms."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta

from blocklistd.config import Config
from blocklistd.daemon import plans
from blocklistd.daemon.alarms import Alarms
from blocklistd.daemon.upkeep import Upkeep
from blocklistd.limits import RESIGN_PARTS, SWEEP_MINUTES, UPKEEP_MINUTES
from blocklistd.ops.scheduler import Scheduler
from blocklistd.pipeline.pull import Pipeline
from blocklistd.pipeline.resources import Resources
from blocklistd.store.pulls import source_states


class Housekeeping:
    """`config` is what runs now: a reload calls `schedule` again."""

    def __init__(
        self,
        resources: Resources,
        scheduler: Scheduler,
        pipeline: Pipeline,
        upkeep: Upkeep,
        alarms: Alarms,
        config: Callable[[], Config],
    ) -> None:
        self._resources = resources
        self._scheduler = scheduler
        self._pipeline = pipeline
        self._upkeep = upkeep
        self._alarms = alarms
        self._config = config

    async def schedule(self) -> None:
        config, now = self._config(), self._resources.clock()
        states = await self._resources.database.reading(functools.partial(source_states, names=config.sources))
        for name, state in states.items():
            work = functools.partial(self._pipeline.pull, name)
            self._scheduler.pull(f"pull {name}", plans.trigger(config.sources[name]), work, state.last_pull, now)
        shortest = min([config.keys.timestamp_expires, *(found.expires for found in config.lists.values())])
        # twice as often as something can be due, so that what is due is at most half a turn late
        period = min(shortest / (2 * RESIGN_PARTS), timedelta(hours=1))
        self._scheduler.every("sign", period, self._upkeep.sign)
        self._scheduler.every("retain", timedelta(minutes=UPKEEP_MINUTES), self._upkeep.retain)
        self._scheduler.every("sweep", timedelta(minutes=SWEEP_MINUTES), self._upkeep.sweep)
        self._scheduler.every("scrub", timedelta(days=1), self._pipeline.scrub)
        self._scheduler.every("catch up", timedelta(minutes=1), self._upkeep.catch_up)
        self._scheduler.every("alarms", timedelta(minutes=1), self._alarms.raise_alarms)
