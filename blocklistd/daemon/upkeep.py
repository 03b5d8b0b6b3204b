"""Recurring work that changes no list: signatures, retention, the sweep, and another try of failed work.

housekeeping.py schedules the methods. A sealed file is deleted only by a sweep: when no row names it any more and the
file is older than the oldest work under way.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from blocklistd.config import Config
from blocklistd.daemon import plans
from blocklistd.errors import StoreError
from blocklistd.events import Event
from blocklistd.limits import SHORT_DISK_MIN_AGE, SWEEP_MIN_AGE
from blocklistd.model import ListId
from blocklistd.ops.retried_tasks import RetriedTasks
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.http.renderings import StoredRenderings
from blocklistd.store import disk, evidence, kept_entries, upkeep

log: Final = logging.getLogger(__name__)


class Upkeep:
    """The recurring work. `config` returns the running configuration."""

    def __init__(
        self,
        resources: Resources,
        publisher: Publisher,
        zones: ZonePublisher,
        renderings: StoredRenderings,
        tasks: RetriedTasks,
        serve_missing_lists: Callable[[], Awaitable[None]],
        catch_up_subscribers: Callable[[], Awaitable[None]],
        config: Callable[[], Config],
    ) -> None:
        self._resources = resources
        self._publisher = publisher
        self._zones = zones
        self._renderings = renderings
        self._tasks = tasks
        self._serve_missing_lists = serve_missing_lists
        self._catch_up_subscribers = catch_up_subscribers
        self._config = config
        self._sweeping = asyncio.Lock()

    async def sign(self) -> None:
        """Renews the signatures that are due. Raises BlocklistError."""
        failed = await self._publisher.sign_again()
        if failed is not None:
            raise failed

    async def retain(self) -> None:
        """Deletes deltas, diffs and evidence past their retention, and kept entries that no source asserts any more. A
        request for a diff whose deltas are deleted meanwhile gets an error: a diff is never made from a part of its
        deltas.
        """
        now = self._resources.clock()
        for name, settings in self._config().lists.items():
            prune = functools.partial(upkeep.retain, list_id=name, retention=settings.retention, now=now)
            await self._tasks.do(f"retain {name}", functools.partial(self._resources.database.writing, prune))
            await self._tasks.do(f"kept entries of {name}", functools.partial(self._forget_kept, name))
        await self._publisher.sign_again()  # the signed metadata contain the new `oldest_diff`
        await asyncio.to_thread(self._renderings.trim)
        bounds = {name: plans.evidence_bound(found) for name, found in self._config().sources.items()}
        await asyncio.to_thread(evidence.expire, self._resources.store, bounds, now)

    async def _forget_kept(self, list_id: ListId) -> None:
        database, files = self._resources.database, self._resources.store.sealed
        found = await database.reading(functools.partial(kept_entries.unasserted, files, list_id=list_id))
        if found:
            await database.writing(functools.partial(kept_entries.forget, list_id=list_id, entries=found))

    async def sweep(self, spares: float = SWEEP_MIN_AGE) -> None:
        """Deletes the sealed files that no row names. Files younger than the oldest work under way plus `spares`
        seconds are kept: a job may be about to name them. Raises StoreError.
        """
        async with self._sweeping:
            verified = self._resources.verified
            young = verified.sealing_for() + spares
            store, database = self._resources.store, self._resources.database
            await asyncio.to_thread(upkeep.sweep, store, database, young, lambda: verified.kept)

    @asynccontextmanager
    async def without_sweep(self) -> AsyncIterator[None]:
        """A context in which no sweep runs: it waits for the one that does."""
        async with self._sweeping:
            yield

    async def sweep_where_short(self) -> None:
        """Sweeps at once if the disk is short, at the end of each pull. Logs a StoreError, does not raise it."""
        if self._sweeping.locked():
            return
        try:
            if await asyncio.to_thread(upkeep.is_short, self._resources.store):
                await self.sweep(SHORT_DISK_MIN_AGE)
        except StoreError as error:
            Event.SWEEP_FAILED.log(log, reason=error)

    async def sample_disk(self) -> None:
        """Records the free space of the disk, from which the dashboard makes its forecast. Raises StoreError."""
        store, database = self._resources.store, self._resources.database
        if database.read_only or database.halted is not None:
            return
        found = await asyncio.to_thread(shutil.disk_usage, store.state_dir)
        now = self._resources.clock()
        await database.writing(lambda connection: disk.record(connection, now, found.free, found.total))

    async def check_database(self) -> None:
        """Runs SQLite's integrity check, and raises or clears the alarm. Lists and zones are served from memory and
        files, so a damaged database does not affect them.
        """
        found = await asyncio.to_thread(self._resources.database.damage)
        text = f"the database is damaged ({found}): the served versions are correct: restore a backup of the state_dir"
        self._resources.alarms.set_alarm("database", text=text if found else None)

    async def catch_up(self) -> None:
        """Tries failed work again: recording a revocation, serving a list, bringing a zone to its list's version, and
        other tasks. Sweeps if the disk is short.
        """
        await self._tasks.do("record revocations", self._catch_up_subscribers)
        await self._tasks.do("serve lists", self._serve_missing_lists)
        await self.sweep_where_short()
        if self._zones.behind:
            await self._tasks.do("zones", self._zones.advance)
        await self._tasks.again()
