"""Finds damaged sealed files, at a start and while the daemon runs, and makes them again from intact ones.

Damage is found in three ways: `suspects` compares stat fingerprints at each pull; the feed and the zones compare them
at each request and transfer; a scrub reads every named file at a start and once a day.

| damaged file | is made again from |
|---|---|
| a snapshot | another snapshot and the deltas between them, or the accepted entries of the sources |
| a delta | the snapshots before and after it; else it is dropped, and diffs begin after it |
| a file of a candidate | the change of the candidate, composed again |
| a file of a zone | the snapshot of its list |
| a file of a source's last body | the hotline: the next pull reads the body completely |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection

from blocklistd.errors import BlocklistError, safe_message
from blocklistd.events import Event
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.model import Sha256, SourceId
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.store import candidates, upkeep
from blocklistd.store.lists import files_of_versions

log: Final = logging.getLogger(__name__)


class Repair:
    """Makes damaged files again. One repair runs at a time."""

    def __init__(self, resources: Resources, releaser: Releaser, reconciler: Reconciler, zones: ZonePublisher) -> None:
        self._store = resources.store
        self._database = resources.database
        self._jobs = resources.jobs
        self._verified = resources.verified
        self._releaser = releaser
        self._reconciler = reconciler
        self._zones = zones
        self._lock = asyncio.Lock()

    async def suspects(self) -> list[Sha256]:
        """Return the verified files that were written, replaced or removed since. Costs one stat a file."""
        return await asyncio.to_thread(self._verified.suspects)

    async def scrub(self) -> list[Sha256]:
        """Read every sealed file that the database names. Returns the damaged ones."""
        answer = await self._jobs.run(upkeep.scrub, self._store, limits=COMMIT)
        self._verified.learn(answer["verified"])
        return [Sha256(digest) for digest in answer["damaged"]]

    async def repair(self, suspects: Iterable[Sha256]) -> list[SourceId]:
        """Make again those of the suspects that the database names and that are damaged. Returns the sources with a
        damaged file: their next pull reads the body completely."""
        async with self._lock:
            with self._verified.sealing():  # the sweep spares the files that the jobs seal
                damaged = await asyncio.to_thread(self._damaged, set(suspects))
                return await self._repair(damaged) if damaged else []

    def _damaged(self, suspects: set[Sha256]) -> list[Sha256]:
        with self._database.read() as connection:
            named = upkeep.named_files(connection, self._store.sealed)
        self._verified.forget(suspects - named)
        return sorted(digest for digest in suspects if digest in named and not self._verified.check(digest))

    async def _repair(self, damaged: list[Sha256]) -> list[SourceId]:
        for digest in damaged:
            Event.FILE_DAMAGED.log(log, file=digest)
        files = self._store.sealed
        sources = await self._database.writing(lambda connection: upkeep.reread_sources(connection, files, damaged))
        for source in sources:
            Event.SOURCE_FILE_DAMAGED.log(log, source=source)
        for plan in list(self._releaser.lists.values()):
            try:
                await self._repair_list(plan, damaged)
            except BlocklistError as error:
                Event.LIST_NOT_REPAIRED.log(log, list=plan.id, reason=safe_message(error))
        await self._zones.repair(damaged)
        return sources

    async def _repair_list(self, plan: ListPlan, damaged: list[Sha256]) -> None:
        def read(connection: Connection) -> tuple[set[Sha256], bool]:
            return files_of_versions(connection, plan.id), candidates.is_file_of_held_candidate(
                connection, plan.id, damaged
            )

        of_versions, of_candidate = await self._database.reading(read)
        await self._releaser.publish_live(plan, of_versions.intersection(damaged))
        if of_candidate:
            await self._reconciler.judge_again(plan.id)
