"""What the daemon does by itself: pulls at their time, signatures renewed, retention, the sweep, and alarms."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from blocklistd.config import Config, Source
from blocklistd.config.values import written
from blocklistd.daemon import plans
from blocklistd.limits import CERTIFICATE_ALARM_DAYS, RESIGN_PARTS, SWEEP_MINUTES, SWEEP_SPARES, UPKEEP_MINUTES
from blocklistd.ops.scheduler import Scheduler
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.pull import Pipeline
from blocklistd.pipeline.repair import Repair
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.http.renderings import StoredRenderings
from blocklistd.store import upkeep
from blocklistd.store.database import Database
from blocklistd.store.pulls import SourceState, source_states
from blocklistd.store.store import Store
from blocklistd.store.verified import Verified
from blocklistd.times import rfc3339

log: Final = logging.getLogger(__name__)


class Housekeeping:
    """`config` is what runs now, and `certificate_until` is how long the feed's certificate is good, if it has one."""

    def __init__(
        self,
        config: Config,
        store: Store,
        database: Database,
        pipeline: Pipeline,
        verified: Verified,
        publisher: Publisher,
        zones: ZonePublisher,
        renderings: StoredRenderings,
        scheduler: Scheduler,
        clock: Callable[[], datetime],
        repair: Repair,
    ) -> None:
        self.config = config
        self.certificate_until: datetime | None = None
        self._store = store
        self._database = database
        self._pipeline = pipeline
        self._verified = verified
        self._publisher = publisher
        self._zones = zones
        self._renderings = renderings
        self._scheduler = scheduler
        self._clock = clock
        self._repair = repair

    async def schedule(self) -> None:
        now = self._clock()
        for source, state in await self._sources():
            work = functools.partial(self._pipeline.pull, source.id)
            self._scheduler.pull(f"pull {source.id}", plans.trigger(source), work, state.last_pull, now)
        shortest = min([self.config.keys.timestamp_expires, *(found.expires for found in self.config.lists.values())])
        # twice as often as something can be due, so that what is due is at most half a turn late
        period = min(shortest / (2 * RESIGN_PARTS), timedelta(hours=1))
        self._scheduler.every("sign", period, self._publisher.sign_again)
        self._scheduler.every("upkeep", timedelta(minutes=UPKEEP_MINUTES), self.upkeep)
        self._scheduler.every("sweep", timedelta(minutes=SWEEP_MINUTES), self.sweep)
        self._scheduler.every("scrub", timedelta(days=1), self.scrub)
        self._scheduler.every("alarms", timedelta(minutes=1), self.alarms)

    async def upkeep(self) -> None:
        """Retention and the sweep. A diff that is asked for in between is refused, never made of half a log."""
        now = self._clock()
        for name, wanted in self.config.lists.items():
            await self._database.writing(
                functools.partial(upkeep.retain, list_id=name, retention=wanted.retention, now=now)
            )
        await self._publisher.sign_again()  # from now on it is said which differences are left
        await asyncio.to_thread(self._renderings.trim)

    async def alarms(self) -> None:
        now = self._clock()
        if self._zones.behind:
            await self.advance_zones()
        alarm = self._publisher.trust.alarm(now)
        if alarm:
            log.warning("%s", alarm)
        if self.certificate_until is not None and self.certificate_until - now < timedelta(days=CERTIFICATE_ALARM_DAYS):
            log.warning("feed.tls.cert is good until %s only: renew it, then reload", rfc3339(self.certificate_until))
        for source, state in await self._sources():
            if state.last_pull is not None and state.is_overdue(source.max_age, now):
                last = f"the last was {rfc3339(state.last_accepted)}" if state.last_accepted else "there was none yet"
                log.warning(
                    "source %s: no accepted pull for max_age (%s): %s", source.id, written(source.max_age), last
                )

    async def _sources(self) -> list[tuple[Source, SourceState]]:
        """Each source of the configuration, and what the store has of it."""
        sources = self.config.sources
        states = await self._database.reading(functools.partial(source_states, names=sources))
        return [(sources[name], state) for name, state in states.items()]

    async def sweep(self) -> None:
        """Stops nobody: files that a job may be about to name are spared."""
        young = self._verified.sealing_for() + SWEEP_SPARES
        await asyncio.to_thread(upkeep.sweep, self._store, self._database, young)

    async def scrub(self) -> None:
        await self._pipeline.repair(await self._repair.scrub())

    async def advance_zones(self) -> None:
        await self._zones.advance()
