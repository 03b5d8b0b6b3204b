"""Freeze a list, resume it, and roll it back to an earlier version: `list freeze`, `list resume`, `list rollback`.

Each takes the list's lock. While a list is frozen, only corrections and rollbacks change it (Freeze.holds): pulls end
as held without a candidate, changes of the policy and expiries wait, and a held candidate of these can't be approved.
`resume` then commits the policy and offers what the sources have, under the guards.

A rollback makes a version with the content of an earlier one, under the rules of today, and freezes the list in the
same transaction. If the guards or the release rule hold what it adds, it is divided: a version without the additions,
at once, and a candidate with the complete rollback on top of that version. A user who rolls back or resumes a list does
not release a changed policy by it: only the names of guard files apply until a source's entries are live again, and
then the rest is a change of its own.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from blocklistd.change import Candidate, Change, ChangeKind, Freeze
from blocklistd.errors import RefusedError
from blocklistd.events import Event
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.model import Act, CandidateId, ListId, Sha256, Version
from blocklistd.pipeline.earlier import make_snapshot
from blocklistd.pipeline.list_context import ListContext
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.resources import Resources
from blocklistd.store import audit, candidates, freezing
from blocklistd.store.lists import oldest_diff, version_rows
from blocklistd.store.pulls import record_resumed

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RolledBack:
    """Outcome of a rollback. `version`: the new version; None if it altered no entry at once. `held`: the candidate
    with the entries that it adds; None if they are released, or if it adds none."""

    version: Version | None
    added: int
    removed: int
    changed: int
    held: Candidate | None


class Freezing:
    """Freezes, resumes and rolls back lists."""

    def __init__(self, resources: Resources, releaser: Releaser, reconciler: Reconciler) -> None:
        self._database = resources.database
        self._store = resources.store
        self._jobs = resources.jobs
        self._verified = resources.verified
        self._clock = resources.clock
        self._releaser = releaser
        self._reconciler = reconciler

    async def freeze(self, list_id: ListId, why: str, act: Act) -> None:
        """Freezes a list. Raises RefusedError for an unknown list, and for one that is frozen; StoreError."""
        async with self._releaser.locked(list_id):
            context = await self._context(list_id)
            if context.state.frozen is not None:
                raise RefusedError(f"nothing was changed: {context.state.frozen.sentence(list_id)}")

            def record(connection: Connection) -> None:
                now = self._clock()
                freezing.freeze(connection, list_id, freezing.freeze_of(act, why, now))
                audit.append(connection, act, list_id, now=now, detail={"why": why})

            await self._database.writing(record)
        Event.LIST_FROZEN.log(log, list=list_id, user=act.user)

    async def resume(self, list_id: ListId, act: Act) -> list[CandidateId]:
        """Ends the freeze of a list, commits its policy, and offers what its sources have. Returns the candidates of
        the list that are held then. Errors of these changes are logged, not raised.

        Raises RefusedError for an unknown list, and for one that is not frozen; StoreError.
        """
        async with self._releaser.locked(list_id):
            context = await self._context(list_id)
            if context.state.frozen is None:
                raise RefusedError(f"list {list_id} is not frozen: nothing was changed; see `blocklistd status`")
            frozen = context.state.frozen.sentence(list_id)

            def record(connection: Connection) -> None:
                now = self._clock()
                freezing.resume(connection, list_id)
                record_resumed(connection, list_id, frozen)
                candidates.supersede_kind(connection, list_id, ChangeKind.ROLLBACK, now)
                audit.append(connection, act, list_id, now=now, detail={})

            await self._database.writing(record)
        Event.LIST_RESUMED.log(log, list=list_id, user=act.user)
        await self._reconciler.reconcile_list(list_id, act)
        held = await self._database.reading(functools.partial(candidates.held, list_id=list_id))
        return [case.candidate.id for case in held]

    async def roll_back(self, list_id: ListId, target: Version, why: str, act: Act) -> RolledBack:
        """Brings back the content of the version `target`, in a new version, and freezes the list. `why`: may be empty.

        Raises RefusedError for an unknown list, for a version that is not lower than the live one, and for one whose
        content is not kept; BlocklistError where a job or publishing fails.
        """
        async with self._releaser.locked(list_id):
            context = await self._context(list_id)
            await self._releaser.repair_snapshots(context.plan)
            basis = await self._snapshot(context, target)
            change = _rollback(context, target, basis, act)
            reason = f"rolled back to version {target}" + (f": {why}" if why else "")
            freeze = freezing.freeze_of(act, reason, self._clock())
            commit = functools.partial(
                self._releaser.run_commit,
                *(context.plan, context, change),
                act=act,
                freeze=freeze,
            )
            committed = await commit()
            held = committed.candidate
            if held is not None:
                committed = await commit(complete=held.snapshot)
            await self._releaser.publish_committed(context.plan, committed, act.user)
            Event.LIST_FROZEN.log(log, list=list_id, user=act.user)
            if held is not None:
                held = await self._hold_additions(context.plan.id, target, basis, freeze, act)
            made = committed.made
            return RolledBack(made, committed.added, committed.removed, committed.changed, held)

    async def _hold_additions(
        self, list_id: ListId, target: Version, basis: Sha256, freeze: Freeze, act: Act
    ) -> Candidate | None:
        """Holds the complete rollback on the version without its additions; None if nothing is held on that one."""
        context = await self._context(list_id)
        change = _rollback(context, target, basis, act)
        committed = await self._releaser.run_commit(context.plan, context, change, act=act, freeze=freeze)
        if committed.candidate is None:
            await self._releaser.publish_committed(context.plan, committed, act.user)
            return None
        await self._releaser.hold(committed.candidate, None)
        return committed.candidate

    async def _snapshot(self, context: ListContext, target: Version) -> Sha256:
        """The intact snapshot of an earlier version, made again from the live one where it is not kept."""
        name, live = context.plan.id, context.state.version
        if not live:
            raise RefusedError(f"list {name} has no version yet: there is nothing to roll back")
        if target >= live:
            what = "is live already" if target == live else f"does not exist: the live version is {live}"
            raise RefusedError(f"list {name}: version {target} {what}: expected a version lower than {live}")
        answer = await self._jobs.run(
            make_snapshot, self._store, name, target, self._verified.fingerprints, limits=COMMIT
        )
        self._verified.learn(answer["verified"])
        if answer["snapshot"] is not None:
            return Sha256(answer["snapshot"])

        def oldest(connection: Connection) -> tuple[set[Version], Version]:
            return {row.version for row in version_rows(connection, name)}, oldest_diff(connection, name)

        numbers, first = await self._database.reading(oldest)
        if target not in numbers:
            near = max((number for number in numbers if number < target), default=min(numbers))
            raise RefusedError(f"list {name} has no version {target}, as numbers were skipped: expected {near}, say")
        raise RefusedError(
            f"list {name}: the content of version {target} is not kept any more: expected a version from {first} to "
            f"{live - 1}"
        )

    async def _context(self, list_id: ListId) -> ListContext:
        """The context of a list, read under its lock. Raises RefusedError if the list is not configured."""
        plan = self._releaser.plan_of(list_id)
        return await self._database.reading(lambda connection: self._releaser.context(connection, plan))


def _rollback(context: ListContext, target: Version, basis: Sha256, act: Act) -> Change:
    """The change to the content of an earlier version, under the policy in force with the configured names."""
    change = context.same_entries(ChangeKind.ROLLBACK)
    policy = change.policy.with_names_of(context.plan.policy)
    return replace(change, policy=policy, cause=str(target), basis=basis).by(act)
