"""What follows from a start, a reload or a decision: lists are brought to what their sources offer now."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Coroutine
from typing import Any, Final

from blocklistd.errors import told, without_text
from blocklistd.events import Event
from blocklistd.model import ChangeKind, ListId, Outcome, SourceId
from blocklistd.pipeline.receive import SourcePlan
from blocklistd.pipeline.release import Releases, Result
from blocklistd.pipeline.situation import Situation
from blocklistd.store.database import Database
from blocklistd.store.pulls import source_state

log: Final = logging.getLogger(__name__)


class Reconciling:
    """Settles again, without a pull, what the sources said last. Never releases a held candidate."""

    def __init__(self, releases: Releases, database: Database) -> None:
        self._releases = releases
        self._database = database

    async def reconcile(self) -> None:
        """After a start or a reload: judges held candidates again (they stay held), settles a changed policy as a
        change, and offers each source's newest entries to its lists."""
        await asyncio.gather(*(self._reconcile_and_offer(name) for name in list(self._releases.lists)))

    async def _reconcile_and_offer(self, list_id: ListId) -> None:
        await self._guarded(list_id, None, self._reconcile(list_id))
        await self.offer_all(list_id)

    async def _reconcile(self, list_id: ListId) -> None:
        await self.judge_again(list_id)
        async with self._releases.settling(list_id):
            situation = await self._read(list_id)
            if situation is not None and situation.state.live is not None:
                result = await self._releases.settle(situation.plan, situation, situation.policy_change())
                if result.outcome is not Outcome.UNCHANGED:
                    Event.POLICY_APPLIED.log(
                        log, list=list_id, outcome=result.outcome.value, reason=result.reason or None
                    )

    async def judge_again(self, list_id: ListId) -> None:
        """Composes the held changes of sources again and updates the reasons by today's guards. Releases nothing."""
        async with self._releases.settling(list_id):
            situation = await self._read(list_id)
            if situation is None:
                return
            for case in situation.cases:
                change = case.candidate.change
                if change.kind == ChangeKind.SOURCE and change.cause in situation.plan.sources:
                    again = situation.asked_again(change)
                    await self._releases.settle(situation.plan, situation, again, hold_all=True)

    async def _read(self, list_id: ListId) -> Situation | None:
        """The list under today's plan, which a reload may have changed while its lock was waited for. None for a list
        that is not configured."""
        plan = self._releases.lists.get(list_id)
        if plan is None:
            return None
        return await self._database.reading(lambda connection: self._releases.situation(connection, plan))

    async def _offer_current(self, list_id: ListId, source: SourcePlan) -> Result:
        """Offers the newest entries of a source, unless it is in quarantine or they were read with other settings than
        today's."""
        state = await self._database.reading(
            functools.partial(source_state, source=source.id, settings=source.settings)
        )
        if source.quarantine or state.report is None or not state.current:
            return Result(Outcome.UNCHANGED)
        return await self._releases.offer(list_id, source.id)

    async def _guarded(
        self, list_id: ListId, source: SourceId | None, work: Coroutine[Any, Any, Result | None]
    ) -> None:
        """Logs an error instead of raising it: the other lists and sources are still settled."""
        try:
            result = await work
        except Exception as error:
            Event.RECONCILE_FAILED.log(
                log, list=list_id, source=source, reason=told(error), exc_info=without_text(error)
            )
            return
        if result is not None and result.outcome is not Outcome.UNCHANGED:
            Event.OFFER_ENDED.log(
                log, list=list_id, source=source, outcome=result.outcome.value, reason=result.reason or None
            )

    async def offer_all(self, list_id: ListId) -> None:
        """Offers the newest entries of all sources to a list. After an approval, what they say beyond the released
        delta is another change."""
        for source in [source for source in self._releases.sources.values() if list_id in source.lists]:
            await self._guarded(list_id, source.id, self._offer_current(list_id, source))
