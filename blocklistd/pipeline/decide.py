"""Approve and reject held candidates. An approval releases exactly the delta that the reviewer was shown.

Approving and rejecting hold the list's lock. A rejection is one transaction. An approval is one commit (commit.py),
which ends as:

- released: the decision, the version and a line of the audit are written in one transaction;
- held: composed on the live version, the change gave another delta. The approval is recorded, and the new candidate
  takes the place of the approved one;
- refused (RefusedError): the change now gives a delta that was rejected before. The candidate is superseded.

If the job fails, nothing is recorded and the candidate stays held.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Connection

from blocklistd.errors import RefusedError
from blocklistd.events import Event
from blocklistd.model import Act, Candidate, CandidateId, ChangeKind, Outcome, Version
from blocklistd.pipeline.commit import ListPlan
from blocklistd.pipeline.list_context import ListContext
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.store import audit, candidates
from blocklistd.store.candidates import Decision
from blocklistd.store.database import Database
from blocklistd.store.pulls import record_decision
from blocklistd.times import Clock

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Approval:
    """Outcome of an approval. `version`: the new version, None if nothing is released. `held`: the new candidate, if
    the change gave another delta on the live version."""

    candidate: CandidateId
    version: Version | None
    held: CandidateId | None


class _Approvable(NamedTuple):
    """A held candidate, with the plan and the context of its list."""

    candidate: Candidate
    plan: ListPlan
    context: ListContext


class Decisions:
    """Approves and rejects held candidates. A decision holds for the candidate's delta only."""

    def __init__(self, releaser: Releaser, reconciler: Reconciler, database: Database, clock: Clock) -> None:
        self._releaser = releaser
        self._reconciler = reconciler
        self._database = database
        self._clock = clock

    async def approve(self, candidate: CandidateId, act: Act) -> Approval:
        """Releases the delta of a held candidate, and no other delta. `act`: the command and who gave it.

        If the live version is no longer the candidate's base, the change is composed again. If that gives another
        delta, nothing is released, and `Approval.held` is the new candidate.

        Raises RefusedError where the candidate is unknown or not held, where the configuration no longer allows it, and
        where the change now gives a rejected delta; other kinds of BlocklistError where the job or publishing fails.
        """
        found = await self._database.reading(lambda connection: candidates.case(connection, candidate))
        async with self._releaser.locked(found.candidate.list):

            def read(connection: Connection) -> _Approvable:
                held = candidates.held_case(connection, candidate).candidate
                plan = self._plan_of(held)
                return _Approvable(held, plan, self._releaser.context(connection, plan))

            held, plan, context = await self._database.reading(read)
            await self._releaser.repair_snapshots(plan)
            change = context.on_live_version(held.change)
            committed = await self._releaser.run_commit(plan, context, change, approved=held, act=act)
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
            self._releaser.in_background(self._reconciler.offer_sources(plan.id))  # waits for the lock
            await self._releaser.publish_committed(plan, committed, act.user)
        return Approval(held.id, committed.made, None)

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
