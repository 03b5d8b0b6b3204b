"""Bring lists up to date without a pull: after a start, a reload, an approval or a repair.

For each list, in this order and under its lock each time (release.py): end the entries that end by themselves,
judge the held candidates again, commit a changed policy, end entries by its terms, offer the newest entries of each
source. A held candidate stays held until a person decides.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Coroutine
from datetime import date
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.change import ChangeKind, Policy
from blocklistd.errors import redacted_if_unexpected, safe_message
from blocklistd.events import Event
from blocklistd.model import AUTO, Act, CandidateId, ListId, Outcome, SourceId
from blocklistd.pipeline.list_context import ListContext, ReleaseResult
from blocklistd.pipeline.policies import RejectedPolicy, rejected_policy
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.store import candidates
from blocklistd.store.database import Database
from blocklistd.store.lists import policies
from blocklistd.store.pulls import end_wait, source_state, waiting_sources

log: Final = logging.getLogger(__name__)


class Reconciler:
    """Commits changes again from what is in the store. Never releases a held candidate."""

    def __init__(self, releaser: Releaser, database: Database) -> None:
        self._releaser = releaser
        self._database = database
        self._rejected: dict[ListId, date] = {}
        """The day on which an expiry of a list was last found to be one that was rejected: it is tried once a day."""
        self._refused: dict[ListId, tuple[Policy, CandidateId]] = {}
        """The configured policy that gave the delta of a rejected candidate, and that candidate."""

    async def reconcile(self, act: Act | None = None) -> None:
        """Brings all lists up to date, after a start or a reload. An error of one list is logged, not raised. `act`:
        the command; None: no person gave one."""
        await asyncio.gather(*(self.reconcile_list(name, act) for name in list(self._releaser.lists)))

    async def reconcile_list(self, list_id: ListId, act: Act | None) -> None:
        """Brings one list up to date. Errors are logged, not raised."""
        await self._log_result(list_id, None, self.expire(list_id))
        await self._log_result(list_id, None, self._reconcile(list_id, act))
        await self._log_result(list_id, None, self.expire(list_id))  # by the terms of a new policy
        await self.offer_sources(list_id, act)

    async def apply_policy(self, list_id: ListId) -> None:
        """Commits a changed policy of one list, or its first version if it has none. Errors are logged, not raised."""
        await self._log_result(list_id, None, self._reconcile(list_id))
        await self.offer_sources(list_id)

    async def _reconcile(self, list_id: ListId, act: Act | None = None) -> None:
        await self.judge_again(list_id)
        async with self._releaser.locked(list_id):
            plan = self._releaser.lists.get(list_id)
            if plan is None or (result := await self._releaser.commit_policy(plan, act)) is None:
                return
            if result.outcome is Outcome.FAILED and result.candidate is not None:
                self._refused[list_id] = plan.policy, result.candidate
            if result.outcome is not Outcome.UNCHANGED:
                Event.POLICY_APPLIED.log(log, list=list_id, outcome=result.outcome.value, reason=result.reason or None)

    def rejected_policies(self, connection: Connection) -> dict[ListId, RejectedPolicy]:
        """The configured policies that are not in force, as a reviewer rejected them; by list."""
        found = {}
        for name in policies(connection):
            if (plan := self._releaser.lists.get(name)) is None:
                continue
            policy, refused = self._refused.get(name, (None, None))
            context = self._releaser.context(connection, plan)
            rejected = rejected_policy(connection, context, refused if policy == plan.policy else None)
            if rejected is not None:
                found[name] = rejected
        return found

    async def expire(self, list_id: ListId) -> None:
        """Ends the entries of a list that end by themselves, in a version of its own. `max_removed` may hold it, and
        the guards of additions if it adds entries.

        Does nothing if no expiry is due (ListState.expiry_due), or while the clock is wrong. Raises BlocklistError
        where the job or publishing fails.
        """
        resources = self._releaser.resources
        async with self._releaser.locked(list_id):
            context = await self._read(list_id)
            now = resources.clock()
            if context is None or not context.state.expiry_is_due(now) or self._rejected.get(list_id) == now.date():
                return
            if resources.alarms.subjects("clock"):
                return
            plan, live = context.plan, context.state.live
            assert live is not None
            await self._releaser.repair_snapshots(plan)
            change = context.expiry_change(now)
            committed = await self._releaser.run_commit(plan, context, change)
            if committed.rejected is not None:
                self._rejected[list_id] = now.date()
                return
            if committed.candidate is not None:
                await self._releaser.hold(committed.candidate, None)
                return
            if context.state.held_expiry is not None:  # by a clock that was ahead
                await self._database.writing(
                    lambda connection: candidates.supersede(connection, list_id, change.kind, change.cause, now)
                )
            entries = live.entries + committed.added - committed.removed
            if committed.made and entries < plan.min_entries:
                Event.LIST_BELOW_MINIMUM.log(log, list=list_id, entries=entries, minimum=plan.min_entries)
            await self._releaser.publish_committed(plan, committed, AUTO.user)

    async def judge_again(self, list_id: ListId) -> None:
        """Composes the held changes of a list's sources again, and updates their reasons by today's guards.

        Releases nothing. Raises BlocklistError where a job fails.
        """
        async with self._releaser.locked(list_id):
            context = await self._read(list_id)
            if context is None:
                return
            for case in context.held:
                change = case.candidate.change
                if change.kind == ChangeKind.SOURCE and change.cause in context.plan.sources:
                    again = context.on_live_version(change)
                    await self._releaser.commit(context.plan, context, again, keep_held=True)

    async def _read(self, list_id: ListId) -> ListContext | None:
        """Reads the context of a list, None if the list is not configured. Called under the lock: a reload may have
        changed the plan while the caller waited for it."""
        plan = self._releaser.lists.get(list_id)
        if plan is None:
            return None
        return await self._database.reading(lambda connection: self._releaser.context(connection, plan))

    async def _offer_current(self, list_id: ListId, source: SourcePlan, act: Act | None) -> ReleaseResult:
        """Offers the newest entries of a source to a list, unless the source is in quarantine, or the entries were read
        with other settings than today's."""
        state = await self._database.reading(
            functools.partial(source_state, source=source.id, settings=source.settings)
        )
        if source.quarantine or state.report is None or not state.current:
            return ReleaseResult(Outcome.UNCHANGED)
        return await self._releaser.offer(list_id, source.id, act)

    async def _log_result(
        self, list_id: ListId, source: SourceId | None, work: Coroutine[Any, Any, ReleaseResult | None]
    ) -> None:
        """Runs the work and logs its result. An error is logged, not raised: the other lists and sources go on."""
        try:
            result = await work
        except Exception as error:
            trace = redacted_if_unexpected(error)
            Event.RECONCILE_FAILED.log(log, list=list_id, source=source, reason=safe_message(error), exc_info=trace)
            return
        if result is not None and result.outcome is not Outcome.UNCHANGED:
            Event.OFFER_ENDED.log(
                log, list=list_id, source=source, outcome=result.outcome.value, reason=result.reason or None
            )

    async def offer_sources(self, list_id: ListId, act: Act | None = None) -> None:
        """Offers the newest entries of each of its sources to a list. Errors are logged, not raised. `act`: the command
        that brings them; None: no person does.

        Needed after an approval: a source's newest entries may differ from those of the released delta.
        """
        for source in [source for source in self._releaser.sources.values() if list_id in source.lists]:
            await self._log_result(list_id, source.id, self._offer_current(list_id, source, act))
        await self.end_waits(list_id)

    async def end_waits(self, list_id: ListId) -> None:
        """Says how the pulls of sources have ended that waited for the first pulls of others. Errors are logged."""
        await self._log_result(list_id, None, self._end_waits(list_id))

    async def _end_waits(self, list_id: ListId) -> None:
        def ended(connection: Connection) -> dict[SourceId, ReleaseResult]:
            waiting, plan = waiting_sources(connection, list_id), self._releaser.lists.get(list_id)
            if not waiting or plan is None:
                return {}
            context = self._releaser.context(connection, plan)
            found = {source: context.end_of_wait(source) for source in waiting}
            return {source: result for source, result in found.items() if result.reason != waiting[source]}

        def record(connection: Connection) -> None:
            for source, result in ended(connection).items():
                end_wait(connection, source, result.outcome, result.reason, result.candidate)

        if await self._database.reading(ended):
            await self._database.writing(record)
