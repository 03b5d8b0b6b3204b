"""What keeps the state good without a change of a list: signatures, retention, the sweep, zones that fell behind."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

from blocklistd.config import Config
from blocklistd.limits import SWEEP_SPARES
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.http.renderings import StoredRenderings
from blocklistd.store import upkeep


class Upkeep:
    """`config` is what runs now."""

    def __init__(
        self,
        resources: Resources,
        publisher: Publisher,
        zones: ZonePublisher,
        renderings: StoredRenderings,
        catch_up_subscribers: Callable[[], Awaitable[None]],
        config: Callable[[], Config],
    ) -> None:
        self._resources = resources
        self._publisher = publisher
        self._zones = zones
        self._renderings = renderings
        self._catch_up_subscribers = catch_up_subscribers
        self._config = config

    async def sign(self) -> None:
        """Renews the signatures that are due."""
        await self._publisher.sign_again()

    async def retain(self) -> None:
        """Drops the deltas and diffs that are older than the retention. A diff that is asked for in between is refused,
        never made of half a log."""
        now = self._resources.clock()
        for name, wanted in self._config().lists.items():
            await self._resources.database.writing(
                functools.partial(upkeep.retain, list_id=name, retention=wanted.retention, now=now)
            )
        await self._publisher.sign_again()  # from now on it is said which differences are left
        await asyncio.to_thread(self._renderings.trim)

    async def sweep(self) -> None:
        """Removes the sealed files that nothing names. Stops nobody: files that a job may be about to name are
        spared."""
        young = self._resources.verified.sealing_for() + SWEEP_SPARES
        await asyncio.to_thread(upkeep.sweep, self._resources.store, self._resources.database, young)

    async def catch_up(self) -> None:
        """Tries again what failed: to write a revocation, to bring a zone to its list's version."""
        await self._catch_up_subscribers()
        if self._zones.behind:
            await self._zones.advance()
