"""What a person decides on a held candidate: approval releases the delta that was shown, and no other."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from blocklistd.errors import RefusedError
from blocklistd.events import Event
from blocklistd.model import Act, Candidate, CandidateId, ChangeKind, Outcome, Version
from blocklistd.pipeline.reconcile import Reconciling
from blocklistd.pipeline.release import Releases
from blocklistd.pipeline.settle import ListPlan
from blocklistd.pipeline.situation import Situation
from blocklistd.store import audit, candidates
from blocklistd.store.candidates import Decision
from blocklistd.store.database import Database
from blocklistd.store.pulls import record_decision
from blocklistd.times import Clock

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Approval:
    """Outcome of an approval. `version`: the new version, or None. `held`: the new candidate, if
    composing the change again gave another delta."""

    candidate: CandidateId
    version: Version | None
    held: CandidateId | None


class Decisions:
    """Approves and rejects; each is bound to the delta of the candidate."""

    def __init__(self, releases: Releases, reconciling: Reconciling, database: Database, clock: Clock) -> None:
        self._releases = releases
        self._reconciling = reconciling
        self._database = database
        self._clock = clock

    async def approve(self, candidate: CandidateId, act: Act) -> Approval:
        """Releases the delta of a held candidate that a reviewer approves, and no other delta. Raises RefusedError.

        If the live version is no longer the candidate's base, the change is composed again. If that gives another
        delta, nothing is released, and `Approval.held` is the new candidate.
        """
        found = await self._database.reading(lambda connection: candidates.case(connection, candidate))
        async with self._releases.settling(found.candidate.list):

            def look(connection: Connection) -> tuple[Candidate, ListPlan, Situation]:
                case = candidates.held_case(connection, candidate).candidate
                plan = self._plan_of(case)
                return case, plan, self._releases.situation(connection, plan)

            case, plan, situation = await self._database.reading(look)
            await self._releases.mend(plan)
            change = situation.asked_again(case.change)
            settled = await self._releases.run(plan, situation, change, approved=case, act=act)
            if settled.rejected is not None:
                why = (
                    f"nothing is released: on version {situation.state.version} the change comes to the delta of "
                    f"candidate {settled.rejected}, which was rejected"
                )
                await self._database.writing(functools.partial(self._record_refusal, case, act, settled.rejected, why))
                raise RefusedError(why)
            if settled.candidate is not None:
                also = functools.partial(self._record_approval, case, act, settled.candidate.id)
                await self._releases.hold(settled.candidate, None, also)
                return Approval(case.id, None, settled.candidate.id)
            outcome = Outcome.PUBLISHED if settled.made else Outcome.UNCHANGED
            await self._database.writing(lambda connection: record_decision(connection, case, outcome, None))
            self._releases.in_background(self._reconciling.offer_all(plan.id))  # waits for the lock
            await self._releases.publish_made(plan, settled, act.user)
        return Approval(case.id, settled.made, None)

    def _record_refusal(
        self, case: Candidate, act: Act, rejected: CandidateId, why: str, connection: Connection
    ) -> None:
        """An approval came to a delta that was rejected: nothing of this cause is held any more."""
        now, change = self._clock(), case.change
        candidates.supersede(connection, case.list, change.kind, change.cause, now)
        record_decision(connection, case, Outcome.FAILED, why)
        self._audit(connection, case, act, rejected)

    def _record_approval(self, case: Candidate, act: Act, instead: CandidateId, connection: Connection) -> None:
        """An approval came to another delta, which is held in the same transaction."""
        candidates.decide(connection, case.id, Decision.of(act, self._clock(), approve=True))
        self._audit(connection, case, act, instead)

    def _audit(self, connection: Connection, case: Candidate, act: Act, instead: CandidateId) -> None:
        detail = {"released": False, "list": case.list, "instead": instead}
        audit.append(connection, act, case.id, now=self._clock(), detail=detail)

    async def reject(self, candidate: CandidateId, act: Act, why: str) -> None:
        """Rejects a held candidate: its delta is never published. Raises RefusedError."""
        found = await self._database.reading(lambda connection: candidates.case(connection, candidate))
        async with self._releases.locks[found.candidate.list]:
            now = self._clock()

            def record(connection: Connection) -> None:
                case = candidates.decide(connection, candidate, Decision.of(act, now, approve=False), why)
                record_decision(connection, case.candidate, Outcome.FAILED, f"candidate {candidate} was rejected")
                audit.append(connection, act, candidate, now=now, detail={"list": case.candidate.list, "why": why})

            await self._database.writing(record)
        Event.CANDIDATE_REJECTED.log(log, candidate=candidate, user=act.user)

    def _plan_of(self, candidate: Candidate) -> ListPlan:
        plan, change = self._releases.lists.get(candidate.list), candidate.change
        if plan is None or (change.kind == ChangeKind.SOURCE and change.cause not in plan.sources):
            what = f"source {change.cause}" if change.cause else "changes: it is not configured"
            raise RefusedError(f"list {candidate.list} no longer takes {what}: reject the candidate")
        if change.kind == ChangeKind.POLICY and change.policy != plan.policy:
            raise RefusedError(f"the configuration of list {plan.id} has changed since: reject the candidate")
        return plan
