"""What an operator has to look after: a source that says nothing, a key or a certificate that ends soon."""

from __future__ import annotations

import asyncio
import functools
import logging
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from blocklistd.config import Config
from blocklistd.config.values import written
from blocklistd.limits import CERTIFICATE_ALARM_DAYS
from blocklistd.ops.metrics import Metrics
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.signing.keys import Trust
from blocklistd.store import candidates
from blocklistd.store.pulls import source_state
from blocklistd.times import rfc3339
from blocklistd.tls import ServedCertificate

log: Final = logging.getLogger(__name__)


class Alarms:
    """Says them in the log, each time that it looks. `config` is what runs now."""

    def __init__(
        self,
        resources: Resources,
        trust: Trust,
        certificate: ServedCertificate,
        zones: ZonePublisher,
        metrics: Metrics,
        config: Callable[[], Config],
    ) -> None:
        self._resources = resources
        self._trust = trust
        self._certificate = certificate
        self._zones = zones
        self._metrics = metrics
        self._config = config

    async def raise_alarms(self) -> None:
        now = self._resources.clock()
        await self._measure()
        alarm = self._trust.alarm(now)
        if alarm:
            log.warning("%s", alarm)
        until = self._certificate.good_until
        if until is not None and until - now < timedelta(days=CERTIFICATE_ALARM_DAYS):
            log.warning("feed.tls.cert is good until %s only: renew it, then reload", rfc3339(until))
        await self._sources(now)

    async def _sources(self, now: datetime) -> None:
        for name, source in self._config().sources.items():
            state = await self._resources.database.reading(functools.partial(source_state, source=name))
            overdue = state.last_accepted is None or now - state.last_accepted > source.max_age
            self._metrics.set_source(name, state.last_accepted, overdue)
            if overdue and state.last_pull is not None:
                last = f"the last was {rfc3339(state.last_accepted)}" if state.last_accepted else "there was none yet"
                log.warning("source %s: no accepted pull for max_age (%s): %s", name, written(source.max_age), last)

    async def _measure(self) -> None:
        reading = self._resources.database.reading
        self._metrics.held.set(await reading(candidates.count_held))
        zones = [zone.name for zone in self._config().zones.values()]
        furthest = self._zones.secondaries.furthest
        for zone, seconds in (await reading(lambda connection: furthest(connection, zones))).items():
            self._metrics.secondary_lag.labels(zone).set(seconds)
        disk = await asyncio.to_thread(shutil.disk_usage, self._resources.store.state_dir)
        self._metrics.set_state(disk.total, disk.free)
