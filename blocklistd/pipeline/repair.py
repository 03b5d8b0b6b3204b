"""Finds damaged sealed files while the daemon runs, and makes them again from intact ones.

The same code runs at a start and later. Damage is found in three ways: `suspects` compares stat fingerprints at each
pull; the feed and the zones compare them at each request and transfer; a scrub reads every named file at a start and
once a day. A snapshot is made again from another snapshot and the deltas between them, or from the accepted entries of
its sources; a delta from the snapshots before and after it; a candidate's files by composing it again; a zone's files
from its list. The files of a source's last body can only come from its hotline: the source is pulled again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection

from blocklistd.errors import BlocklistError, told
from blocklistd.events import Event
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.model import Sha256, SourceId
from blocklistd.pipeline.reconcile import Reconciling
from blocklistd.pipeline.release import Releases
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.settle import ListPlan
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.store import candidates, upkeep
from blocklistd.store.lists import files_of_versions

log: Final = logging.getLogger(__name__)


class Repair:
    """Makes damaged files again. One repair runs at a time."""

    def __init__(
        self, resources: Resources, releases: Releases, reconciling: Reconciling, zones: ZonePublisher
    ) -> None:
        self._store = resources.store
        self._database = resources.database
        self._jobs = resources.jobs
        self._verified = resources.verified
        self._releases = releases
        self._reconciling = reconciling
        self._zones = zones
        self._one = asyncio.Lock()

    async def suspects(self) -> list[Sha256]:
        """The verified files that have been written, replaced or removed since. Costs one stat a file."""
        return await asyncio.to_thread(self._verified.suspects)

    async def scrub(self) -> list[Sha256]:
        """Reads every file that a row names. Returns the damaged ones."""
        answer = await self._jobs.run(upkeep.scrub, self._store, limits=COMMIT)
        self._verified.learn(answer["verified"])
        return [Sha256(digest) for digest in answer["damaged"]]

    async def repair(self, suspects: Iterable[Sha256]) -> list[SourceId]:
        """Makes the suspects again that a row names and that are damaged. Returns the sources that have a damaged file:
        their next pull reads the whole body."""
        async with self._one:
            with self._verified.sealing():  # the sweep removes no file that the jobs seal
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
        anew = await self._database.writing(lambda connection: upkeep.read_sources_anew(connection, files, damaged))
        for source in anew:
            Event.SOURCE_FILE_DAMAGED.log(log, source=source)
        for plan in list(self._releases.lists.values()):
            try:
                await self._repair_list(plan, damaged)
            except BlocklistError as error:
                Event.LIST_NOT_REPAIRED.log(log, list=plan.id, reason=told(error))
        await self._zones.repair(damaged)
        return anew

    async def _repair_list(self, plan: ListPlan, damaged: list[Sha256]) -> None:
        def look(connection: Connection) -> tuple[set[Sha256], bool]:
            return files_of_versions(connection, plan.id), candidates.hangs_on(connection, plan.id, damaged)

        of_versions, of_candidate = await self._database.reading(look)
        await self._releases.serve(plan, of_versions.intersection(damaged))
        if of_candidate:
            await self._reconciling.judge_again(plan.id)
