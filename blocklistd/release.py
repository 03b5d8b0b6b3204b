"""From a Change to a released version: the second half of the way of the data (pipeline.py).

    Change → settle (compose → guard → version: one job) → sign → publish

Order of calls: `offer` after each pull, `approve` and `reject` by a person, `serve` and `reconcile` after a start or a
reload. Each list has a lock: its changes are settled one after another, and wait for no other list.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.errors import RefusedError, told, without_text
from blocklistd.jobs.runner import Jobs
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.model import Candidate, CandidateId, Change, ChangeKind, ListId, Outcome, SourceId, Version
from blocklistd.publish import Clock, Publisher
from blocklistd.receive import SourcePlan
from blocklistd.stations import Stations
from blocklistd.versions import candidates, mending
from blocklistd.versions.candidates import Decision
from blocklistd.versions.commit import ListPlan, Settled, Settlement, digests_of, job_settle
from blocklistd.versions.database import Database
from blocklistd.versions.lists import list_state
from blocklistd.versions.pulls import record_decision, source_state
from blocklistd.versions.situation import Situation
from blocklistd.versions.store import Store
from blocklistd.versions.verified import Verified
from blocklistd.zoning import ZonePublisher

log: Final = logging.getLogger(__name__)

Render = Callable[[ListId], Coroutine[Any, Any, None]]
"""Makes the renderings of a list's live version that nobody waits for."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a source, or one list of it, came out."""

    outcome: Outcome
    reason: str | None = None
    candidate: CandidateId | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """What an approval led to: `version` if it released one, `held` if the change comes to another delta by now."""

    candidate: CandidateId
    version: Version | None
    held: CandidateId | None


class Releases:
    """Settles the changes of all lists; `sources` and `lists` may be replaced whole by a reload."""

    def __init__(
        self,
        store: Store,
        database: Database,
        jobs: Jobs,
        publisher: Publisher,
        clock: Clock,
        zones: ZonePublisher,
        stations: Stations,
        verified: Verified,
        render: Render,
    ) -> None:
        self.sources: dict[SourceId, SourcePlan] = {}
        self.lists: dict[ListId, ListPlan] = {}
        self.verified = verified
        self.locks: defaultdict[ListId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._store = store
        self._database = database
        self._jobs = jobs
        self._publisher = publisher
        self._clock = clock
        self._zones = zones
        self._stations = stations
        self._render = render
        self._tasks: set[asyncio.Future[None]] = set()
        self._working: dict[object, float] = {}

    def busy_for(self) -> float:
        """Seconds since the oldest work that runs began, whose files may not be named yet; 0.0 if none runs."""
        return time.monotonic() - min(self._working.values()) if self._working else 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        key = object()
        self._working[key] = time.monotonic()
        try:
            yield
        finally:
            del self._working[key]

    # -- compose, guard, release -----------------------------------------------------------------------------------

    async def offer_to_all(self, plan: SourcePlan) -> Result:
        """Offers what the source says to each of its lists; the outcome that a person most needs to know wins."""
        if plan.quarantine:
            return Result(Outcome.UNCHANGED, "in quarantine: it contributes to no list")
        # a reload may have taken a list away since the pull began
        results = [await self.offer(name, plan.id) for name in plan.lists if name in self.lists]
        order = [Outcome.FAILED, Outcome.HELD, Outcome.PUBLISHED, Outcome.UNCHANGED]
        return min(results, key=lambda result: order.index(result.outcome), default=Result(Outcome.UNCHANGED))

    async def offer(self, list_id: ListId, source: SourceId) -> Result:
        """Composes what the source offers now into the list, unless it was accepted with just that."""
        async with self.locks[list_id]:
            plan = self.lists.get(list_id)
            if plan is None:
                return Result(Outcome.UNCHANGED)
            await self.mend(plan)
            situation = await self._database.reading(lambda connection: Situation.read(connection, plan))
            change = situation.offered(source)
            if change is None:
                return Result(Outcome.UNCHANGED, f"list {list_id} does not take this source yet")
            if situation.awaited(source):
                # else whoever answers first would be the first version, and all the others a jump that is held
                names = ", ".join(situation.awaited(source))
                return Result(Outcome.UNCHANGED, f"list {list_id} waits for the first pull of {names}")
            return await self._settle(plan, situation, change)

    async def _settle(self, plan: ListPlan, situation: Situation, change: Change, *, hold_all: bool = False) -> Result:
        """Brings the change to an end: unchanged, held, rejected before, or released and published. The caller has the
        list's lock. `hold_all`: only judge what is held."""
        state = situation.state
        if state.is_composed_from(change):
            await self._no_longer_held(plan.id, change)
            await self._publish(plan.id, state.version)  # where signing or a zone failed after the version was made
            return Result(Outcome.UNCHANGED)
        if (refused := situation.rejected(change)) is not None:
            return await self._refused(plan.id, change, refused)
        held = situation.held(change)
        same_body = held is not None and _body(held.change) == _body(change)
        if held is not None and same_body and not hold_all and held.comes_from(change, state.version):
            return Result(Outcome.HELD, _reasons(held), held.id)
        settled = await self._run(
            plan, situation, change, held=held if same_body or hold_all else None, hold_all=hold_all
        )
        if settled.rejected is not None:
            return await self._refused(plan.id, change, settled.rejected)
        if settled.candidate is not None:
            return await self._hold(settled.candidate, held)
        await self._no_longer_held(plan.id, change)
        outcome = Outcome.PUBLISHED if settled.made else Outcome.UNCHANGED
        if held is not None:
            await self._database.writing(lambda connection: record_decision(connection, held, outcome, None))
        return Result(outcome)

    async def _run(
        self,
        plan: ListPlan,
        situation: Situation,
        change: Change,
        *,
        held: Candidate | None = None,
        hold_all: bool = False,
        approved: Candidate | None = None,
        approved_by: str | None = None,
    ) -> Settled:
        """The job, and what follows from a new version: it is published."""
        read = digests_of(situation.state, change, [approved.delta if approved else None])
        wanted = Settlement(
            plan=plan,
            change=change,
            candidate=CandidateId(f"c-{secrets.token_hex(6)}"),
            now=self._clock(),
            fingerprints=self.verified.of(read),
            approved=approved,
            approved_by=approved_by,
            held=held,
            hold_all=hold_all,
        )
        with self.working():
            with self._stations.timed("settle", plan.id):
                answer = await self._jobs.run(job_settle, self._store, wanted, limits=COMMIT)
            settled = Settled.from_json(answer)
            self.verified.learn(settled.verified)
            if settled.made is not None:
                for figure in ("added", "removed", "changed"):
                    self._stations.handled(figure, plan.id, getattr(settled, figure))
                await self._publish(plan.id, settled.made)
                log.info("list %s: version %d is live, released by %s", plan.id, settled.made, approved_by or "auto")
        return settled

    async def _hold(self, candidate: Candidate, held: Candidate | None) -> Result:
        """Puts a candidate before a reviewer; one with the delta that is held already stays as it was decided on."""
        if held is not None and held.id == candidate.id:
            if held != candidate:
                await self._database.writing(lambda connection: candidates.renew(connection, candidate))
            return Result(Outcome.HELD, _reasons(candidate), candidate.id)
        await self._database.writing(lambda connection: candidates.hold(connection, candidate))
        for reason in candidate.reasons:
            self._stations.guarded(candidate.list, reason.guard)
        log.warning("list %s: candidate %s is held: %s", candidate.list, candidate.id, _reasons(candidate))
        return Result(Outcome.HELD, _reasons(candidate), candidate.id)

    async def _refused(self, list_id: ListId, change: Change, refused: CandidateId) -> Result:
        await self._no_longer_held(list_id, change)
        return Result(
            Outcome.FAILED,
            f"candidate {refused} with this content was rejected; list {list_id} keeps its last good version until "
            f"the source says something else",
            refused,
        )

    async def _no_longer_held(self, list_id: ListId, change: Change) -> None:
        now = self._clock()
        await self._database.writing(
            lambda connection: candidates.supersede(connection, list_id, change.kind, change.cause, now)
        )

    async def _publish(self, list_id: ListId, version: Version) -> None:
        """Signs and serves a version that is in the store, brings its zones to it, and has its renderings made."""
        if not self._publisher.serves(list_id, version):
            await self._publisher.publish(list_id)
            self._stations.live(list_id)
            self._in_background(self._render(list_id))
        await self._zones.advance(list_id, version)

    # -- decisions -------------------------------------------------------------------------------------------------

    async def approve(self, candidate: CandidateId, uid: int, user: str) -> Approval:
        """Releases the delta of a held candidate on a reviewer's word, and no other. Raises RefusedError.

        On another base the change is composed again; if that comes to another delta, nothing is released, and the
        answer names the new candidate.
        """
        found = await self._database.reading(lambda connection: candidates.case(connection, candidate))
        async with self.locks[found.candidate.list]:
            decision = Decision(uid, user, self._clock(), approve=True)

            def approved(connection: Connection) -> tuple[Candidate, ListPlan, Situation]:
                case = candidates.decide(connection, candidate, decision)
                plan = self._plan_of(case.candidate)  # what can't be released was not approved either
                return case.candidate, plan, Situation.read(connection, plan)

            case, plan, situation = await self._database.writing(approved)
            await self.mend(plan)
            change = situation.asked_again(case.change)
            settled = await self._run(plan, situation, change, approved=case, approved_by=user)
            if settled.candidate is not None:
                await self._hold(settled.candidate, None)
                return Approval(case.id, None, settled.candidate.id)
            outcome = Outcome.PUBLISHED if settled.made else Outcome.UNCHANGED
            await self._database.writing(lambda connection: record_decision(connection, case, outcome, None))
        self._in_background(self._offer_the_rest(plan))
        return Approval(case.id, settled.made, None)

    async def _offer_the_rest(self, plan: ListPlan) -> None:
        """What the sources say beyond the released delta is a change of its own."""
        for source in plan.sources:
            await self._guarded(f"source {source}", self.offer(plan.id, source))

    async def reject(self, candidate: CandidateId, uid: int, user: str, why: str) -> None:
        """The held delta is never published. Raises RefusedError."""
        found = await self._database.reading(lambda connection: candidates.case(connection, candidate))
        async with self.locks[found.candidate.list]:
            decision = Decision(uid, user, self._clock(), approve=False)

            def record(connection: Connection) -> None:
                case = candidates.decide(connection, candidate, decision, why)
                record_decision(connection, case.candidate, Outcome.FAILED, f"candidate {candidate} was rejected")

            await self._database.writing(record)
        log.warning("candidate %s was rejected by %s", candidate, user)

    def _plan_of(self, candidate: Candidate) -> ListPlan:
        plan, change = self.lists.get(candidate.list), candidate.change
        if plan is None or (change.kind == ChangeKind.SOURCE and change.cause not in plan.sources):
            what = f"source {change.cause}" if change.cause else "changes: it is not configured"
            raise RefusedError(f"list {candidate.list} no longer takes {what}: reject the candidate")
        if change.kind == ChangeKind.POLICY and change.policy != plan.policy:
            raise RefusedError(f"the configuration of list {plan.id} has changed since: reject the candidate")
        return plan

    # -- damage ----------------------------------------------------------------------------------------------------

    async def mend(self, plan: ListPlan) -> None:
        """Looks at the live snapshot; what is damaged is made again. The caller has the list's lock."""
        live = (await self._database.reading(lambda connection: list_state(connection, plan.id))).live
        if live is None or await asyncio.to_thread(self.verified.check, live.sha256):
            self._publisher.damaged.discard(plan.id)
            return
        if plan.id not in self._publisher.damaged:
            self._publisher.damaged.add(plan.id)
            log.error("list %s: the file of version %d is missing or damaged", plan.id, live.version)
        answer = await self._jobs.run(mending.rebuild, self._store, plan, live, limits=COMMIT)
        self.verified.learn(answer["verified"])
        if answer["rebuilt"]:
            log.warning("list %s: the file of version %d was made again", plan.id, live.version)
            self._publisher.damaged.discard(plan.id)
        else:
            log.error(
                "list %s: version %d can't be made again: the next pulls of its sources are read in full",
                plan.id,
                live.version,
            )

    async def serve(self, plan: ListPlan) -> None:
        """Serves the live version, after a start or a reload. Raises StoreError."""
        async with self.locks[plan.id]:
            await self.mend(plan)
            await self._publisher.publish(plan.id)
        self._in_background(self._render(plan.id))

    # -- start and reload ------------------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """After a start or a reload: a changed policy is a change; what is held is judged again, and stays held; what
        the sources say and no list has taken yet is offered."""
        for plan in list(self.lists.values()):
            await self._guarded(f"list {plan.id}", self._reconcile(plan))
        for source in list(self.sources.values()):
            if not source.quarantine:
                for name in source.lists:
                    await self._guarded(f"source {source.id}", self._offer_current(name, source))

    async def _reconcile(self, plan: ListPlan) -> None:
        async with self.locks[plan.id]:
            situation = await self._database.reading(lambda connection: Situation.read(connection, plan))
            for case in situation.cases:
                change = case.candidate.change
                wanted = change.kind == ChangeKind.SOURCE and change.cause in plan.sources
                if wanted:
                    again = situation.asked_again(change)
                    await self._settle(plan, situation, again, hold_all=True)
        async with self.locks[plan.id]:
            situation = await self._database.reading(lambda connection: Situation.read(connection, plan))
            if situation.state.live is not None:
                result = await self._settle(plan, situation, situation.policy_change())
                if result.outcome is not Outcome.UNCHANGED:
                    log.info("list %s: the changed policy is %s %s", plan.id, result.outcome, result.reason or "")

    async def _offer_current(self, list_id: ListId, source: SourcePlan) -> Result:
        """What was read with other settings says nothing."""
        state = await self._database.reading(
            functools.partial(source_state, source=source.id, settings=source.settings)
        )
        if state.report is None or not state.current:
            return Result(Outcome.UNCHANGED)
        return await self.offer(list_id, source.id)

    async def _guarded(self, what: str, work: Coroutine[Any, Any, Result | None]) -> None:
        """One list's or source's trouble keeps no other from being settled."""
        try:
            result = await work
        except Exception as error:
            log.error("%s could not be settled: %s", what, told(error), exc_info=without_text(error))
            return
        if result is not None and result.outcome is not Outcome.UNCHANGED:
            log.info("%s: %s %s", what, result.outcome, result.reason or "")

    async def offer_awaited(self, waiting: set[ListId]) -> None:
        """The first versions of lists that waited for a source are made: its pull has ended, well or badly."""
        for source in [source for source in self.sources.values() if waiting & set(source.lists)]:
            for name in sorted(waiting & set(source.lists)):
                await self._guarded(f"source {source.id}", self._offer_current(name, source))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _body(change: Change) -> tuple[int, int]:
    return change.records, change.rejected


def _reasons(candidate: Candidate) -> str:
    return "; ".join(map(str, candidate.reasons))
