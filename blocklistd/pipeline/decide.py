"""Approve and reject held candidates. An approval releases exactly the delta that the reviewer was shown.

Approving and rejecting hold the list's lock. A rejection is one transaction. So is an approval after which others are
missing (approvals.py); it composes nothing. The last approval is one commit (commit.py), which ends as:

- released: the decision, the version and a line of the audit are written in one transaction;
- held: composed on the live version, the change gave another delta. The approval is recorded, and the new candidate
  takes the place of the approved one;
- refused (RefusedError): the change now gives a delta that was rejected before. The candidate is superseded.

An approval with exceptions (exceptions.py) is of the candidate's delta without these entries. The change is first
judged again without the approval: if it gives another delta by now, that is held instead.

If the job fails, nothing is recorded and the candidate stays held.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from sqlalchemy import Connection

from blocklistd.change import Candidate, ChangeKind
from blocklistd.errors import RefusedError
from blocklistd.events import Event
from blocklistd.model import Act, CandidateId, Outcome, Version
from blocklistd.pipeline import approvals
from blocklistd.pipeline.exceptions import exceptions
from blocklistd.pipeline.list_context import ListContext
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.store import audit, candidates
from blocklistd.store.candidates import Case, Decision
from blocklistd.store.database import Database
from blocklistd.store.pulls import record_decision
from blocklistd.times import Clock

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Approval:
    """Outcome of an approval. `version`: the new version, None if nothing is released. `held`: the new candidate, if
    the change gave another delta on the live version. `missing`: how many approvals by other users are missing.
    `excepted`: ids of the entries that are withheld from now on."""

    candidate: CandidateId
    version: Version | None
    held: CandidateId | None
    missing: int = 0
    excepted: tuple[str, ...] = ()


class _Approvable(NamedTuple):
    """A held candidate, with the plan and the context of its list."""

    case: Case
    plan: ListPlan
    context: ListContext


class Decisions:
    """Approves and rejects held candidates. A decision holds for the candidate's delta only."""

    def __init__(self, releaser: Releaser, reconciler: Reconciler, database: Database, clock: Clock) -> None:
        self._releaser = releaser
        self._reconciler = reconciler
        self._database = database
        self._clock = clock

    async def approve(self, candidate: CandidateId, act: Act, excepted: Sequence[str] = ()) -> Approval:
        """Approves the delta of a held candidate, and releases it, and no other delta, once no approval is missing.
        `act`: the command and who gave it. `excepted`: ids of entries that it would add or change, and which are
        withheld instead, until `entry restore`.

        If the live version is no longer the candidate's base, the change is composed again. If that gives another
        delta, nothing is released, and `Approval.held` is the new candidate.

        Raises RefusedError where the candidate is unknown or not held, where the configuration no longer allows it,
        where the user may not approve it, and where the change now gives a rejected delta; other kinds of
        BlocklistError where the job or publishing fails.
        """
        found = await self._database.reading(lambda connection: candidates.case(connection, candidate))
        await self._reconciler.expire(found.candidate.list)  # the approval is judged on entries that have not ended
        async with self._releaser.locked(found.candidate.list):

            def read(connection: Connection) -> _Approvable:
                case = candidates.held_case(connection, candidate)
                plan = self._plan_of(case.candidate)
                return _Approvable(case, plan, self._releaser.context(connection, plan))

            case, plan, context = await self._database.reading(read)
            held, frozen = case.candidate, context.state.frozen
            if frozen is not None and frozen.holds(held.change.kind):
                raise RefusedError(f"candidate {held.id} is not approved: {frozen.sentence(plan.id)}")
            if held.change.kind == ChangeKind.POLICY and context.state.basis is not None:
                raise RefusedError(
                    f"candidate {held.id} is not approved: list {plan.id} has the content of an earlier version: a "
                    f"policy is released once a source's entries are live again; see `blocklistd candidate list`"
                )
            if held.change.kind == ChangeKind.EXPIRY and self._releaser.resources.alarms.subjects("clock"):
                raise RefusedError("the clock is wrong: put it right, then approve: until then nothing ends")
            approvals.refuse_who_brought_it(case, plan.release, act)
            decision = Decision.of(act, self._clock(), approve=True, excepted=excepted)
            approvals.refuse_other_exceptions(case, plan.release, decision)
            places = await asyncio.to_thread(exceptions, self._releaser.resources.store.sealed, held, decision.excepted)
            missing = approvals.missing(case, plan.release, act)
            if missing:
                await self._database.writing(functools.partial(self._record_one_of_two, held, act, decision, missing))
                Event.CANDIDATE_APPROVED.log(log, candidate=held.id, user=act.user, missing=missing)
                return Approval(held.id, None, None, missing)
            await self._releaser.repair_snapshots(plan)
            change = context.on_live_version(held.change)
            if places:
                again = await self._releaser.commit(plan, context, change, keep_held=True)
                if again.outcome is Outcome.HELD and again.candidate and again.candidate != held.id:
                    instead = again.candidate
                    await self._database.writing(lambda connection: self._audit(connection, held, act, instead))
                    return Approval(held.id, None, instead)
                case, plan, context = await self._database.reading(read)
                held, change = case.candidate, replace(context.on_live_version(held.change), places=places)
            committed = await self._releaser.run_commit(plan, context, change, approved=held, act=act)
            if places and (committed.rejected or committed.candidate):
                raise RefusedError(
                    f"candidate {held.id}: nothing was released: without these entries it is a difference that was "
                    f"rejected, or the list has changed meanwhile: run `blocklistd candidate show {held.id}`"
                )
            if committed.rejected is not None:
                why = (
                    f"nothing is released: on version {context.state.version} the change gives the delta of "
                    f"candidate {committed.rejected}, which was rejected. Candidate {held.id} is no longer held"
                )
                await self._database.writing(
                    functools.partial(self._record_refusal, held, act, committed.rejected, why)
                )
                raise RefusedError(why)
            if committed.candidate is not None:
                also = functools.partial(self._record_approval, held, act, committed.candidate.id)
                await self._releaser.hold(committed.candidate, None, also)
                return Approval(held.id, None, committed.candidate.id)
            outcome = Outcome.PUBLISHED if committed.made else Outcome.UNCHANGED
            await self._database.writing(lambda connection: record_decision(connection, held, outcome, None))
            if context.state.basis is not None:
                next_changes = self._reconciler.apply_policy(plan.id)  # it waited for a source's entries
            else:
                next_changes = self._reconciler.offer_sources(plan.id, _brought_by(held))
            self._releaser.in_background(next_changes)  # waits for the lock
            await self._releaser.publish_committed(plan, committed, act.user)
        return Approval(held.id, committed.made, None, excepted=decision.excepted)

    def _record_one_of_two(
        self, held: Candidate, act: Act, decision: Decision, missing: int, connection: Connection
    ) -> None:
        """Records an approval after which others are missing."""
        candidates.decide(connection, held.id, decision)
        detail = {"released": False, "list": held.list, "delta": held.delta, "missing": missing}
        if decision.excepted:
            detail["excepted"] = list(decision.excepted)
        audit.append(connection, act, held.id, now=decision.time, detail=detail)

    def _record_refusal(
        self, held: Candidate, act: Act, rejected: CandidateId, why: str, connection: Connection
    ) -> None:
        """Records an approval whose change now gives a rejected delta: no candidate of this cause is held any more."""
        now, change = self._clock(), held.change
        candidates.supersede(connection, held.list, change.kind, change.cause, now)
        record_decision(connection, held, Outcome.FAILED, why)
        self._audit(connection, held, act, rejected)

    def _record_approval(self, held: Candidate, act: Act, instead: CandidateId, connection: Connection) -> None:
        """Records an approval whose change gave another delta. The same transaction holds the candidate `instead`."""
        candidates.decide(connection, held.id, Decision.of(act, self._clock(), approve=True))
        self._audit(connection, held, act, instead)

    def _audit(self, connection: Connection, held: Candidate, act: Act, instead: CandidateId) -> None:
        detail = {"released": False, "list": held.list, "instead": instead}
        audit.append(connection, act, held.id, now=self._clock(), detail=detail)

    async def reject(self, candidate: CandidateId, act: Act, why: str) -> None:
        """Rejects a held candidate: its delta is never released. `why`: the reviewer's reason, for the audit.

        Raises RefusedError where the candidate is unknown or not held.
        """
        found = await self._database.reading(lambda connection: candidates.case(connection, candidate))
        async with self._releaser.locks[found.candidate.list]:
            now = self._clock()

            def record(connection: Connection) -> None:
                case = candidates.decide(connection, candidate, Decision.of(act, now, approve=False), why)
                record_decision(connection, case.candidate, Outcome.FAILED, f"candidate {candidate} was rejected")
                audit.append(connection, act, candidate, now=now, detail={"list": case.candidate.list, "why": why})

            await self._database.writing(record)
        Event.CANDIDATE_REJECTED.log(log, candidate=candidate, user=act.user)

    def _plan_of(self, candidate: Candidate) -> ListPlan:
        """The plan of the candidate's list. Raises RefusedError if the configuration no longer allows the change."""
        plan, change = self._releaser.lists.get(candidate.list), candidate.change
        if plan is None or (change.kind == ChangeKind.SOURCE and change.cause not in plan.sources):
            what = f"source {change.cause}" if change.cause else "changes, as it is not configured"
            raise RefusedError(f"list {candidate.list} no longer takes {what}: reject the candidate")
        if change.kind == ChangeKind.POLICY and change.policy != plan.policy:
            raise RefusedError(f"the configuration of list {plan.id} has changed since: reject the candidate")
        return plan


def _brought_by(approved: Candidate) -> Act | None:
    """The command that brings what sources offer after an approval: with a policy that takes more sources, its own."""
    change = approved.change
    return Act("reload", change.actor, change.actor_uid) if change.kind == ChangeKind.POLICY else None
