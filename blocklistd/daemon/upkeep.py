"""Recurring work on the state that changes no list: signatures, retention, the sweep, zones that are behind."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from blocklistd.config import Config
from blocklistd.daemon import plans
from blocklistd.errors import StoreError
from blocklistd.events import Event
from blocklistd.limits import SHORT_SPARES, SWEEP_SPARES
from blocklistd.ops.duties import Duties
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.http.renderings import StoredRenderings
from blocklistd.store import evidence, upkeep

log: Final = logging.getLogger(__name__)


class Upkeep:
    """`config` answers the running configuration."""

    def __init__(
        self,
        resources: Resources,
        publisher: Publisher,
        zones: ZonePublisher,
        renderings: StoredRenderings,
        duties: Duties,
        serve_missing: Callable[[], Awaitable[None]],
        catch_up_subscribers: Callable[[], Awaitable[None]],
        config: Callable[[], Config],
    ) -> None:
        self._resources = resources
        self._publisher = publisher
        self._zones = zones
        self._renderings = renderings
        self._duties = duties
        self._serve_missing = serve_missing
        self._catch_up_subscribers = catch_up_subscribers
        self._config = config
        self._sweeping = asyncio.Lock()

    async def sign(self) -> None:
        """Renews the signatures that are due."""
        await self._publisher.sign_again()

    async def retain(self) -> None:
        """Drops deltas, diffs and evidence past their retention. A diff that is requested meanwhile is refused: it is
        never made from a part of its deltas."""
        now = self._resources.clock()
        for name, wanted in self._config().lists.items():
            prune = functools.partial(upkeep.retain, list_id=name, retention=wanted.retention, now=now)
            await self._duties.do(f"retain {name}", functools.partial(self._resources.database.writing, prune))
        await self._publisher.sign_again()  # publishes the new `oldest_diff`
        await asyncio.to_thread(self._renderings.trim)
        bounds = {name: plans.evidence_bound(found) for name, found in self._config().sources.items()}
        await asyncio.to_thread(evidence.expire, self._resources.store, bounds, now)

    async def sweep(self, spares: float = SWEEP_SPARES) -> None:
        """Removes the sealed files that no row names. Files are kept that are younger than the oldest work under way,
        plus `spares` seconds: a job may be about to name them."""
        async with self._sweeping:
            young = self._resources.verified.sealing_for() + spares
            await asyncio.to_thread(upkeep.sweep, self._resources.store, self._resources.database, young)

    async def sweep_where_short(self) -> None:
        """Sweeps at once where the disk is short, for the end of a pull. Raises no StoreError: it is logged."""
        if self._sweeping.locked():
            return
        try:
            if await asyncio.to_thread(upkeep.is_short, self._resources.store):
                await self.sweep(SHORT_SPARES)
        except StoreError as error:
            Event.SWEEP_FAILED.log(log, reason=error)

    async def check_database(self) -> None:
        """Has SQLite check all of the database, and raises or ends the alarm. What is served does not depend on it: it
        is in memory and in files."""
        found = await asyncio.to_thread(self._resources.database.damage)
        text = f"the database is damaged ({found}): what is served is right; restore a backup of the state_dir"
        self._resources.alarms.set_alarm("database", text=text if found else None)

    async def catch_up(self) -> None:
        """Tries again what failed: to record a revocation, to serve a list, to bring a zone to its list's version, and
        other duties. Sweeps where the disk is short."""
        await self._duties.do("record revocations", self._catch_up_subscribers)
        await self._duties.do("serve lists", self._serve_missing)
        await self.sweep_where_short()
        if self._zones.behind:
            await self._duties.do("zones", self._zones.advance)
        await self._duties.again()
