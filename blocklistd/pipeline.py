"""The way of the data, from a hotline to its subscribers. Read from top to bottom:

    pull → intake (verify → parse → canonicalise) → settle (compose → guard) → release (version → sign → publish)

`pull` runs all of it; an approval runs `release`; a start and a changed configuration run `settle` on what the sources
last said. Nothing skips a station, and a failure at any of them leaves what is live as it is.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from blocklistd.errors import BlocklistError, RefusedError, StoreError, told, without_text
from blocklistd.jobs.runner import Jobs
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.limits import MAX_CONCURRENT_PULLS
from blocklistd.model import (
    Candidate,
    CandidateId,
    IntakeReport,
    ListId,
    Outcome,
    SourceId,
    Validators,
    Version,
)
from blocklistd.publish import Clock, Publisher
from blocklistd.receive import Received, Reception, SourcePlan
from blocklistd.stations import Stations
from blocklistd.versions import candidates, commit
from blocklistd.versions.candidates import Decision
from blocklistd.versions.commit import Assertion, ListPlan, Settled
from blocklistd.versions.database import Database
from blocklistd.versions.lists import list_state
from blocklistd.versions.packing import recede
from blocklistd.versions.pulls import record_decision, record_pull, source_state
from blocklistd.versions.standing import standing
from blocklistd.versions.store import Store
from blocklistd.zoning import ZonePublisher

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """How a source, or one list of it, came out."""

    outcome: Outcome
    reason: str | None = None
    candidate: CandidateId | None = None


@dataclass(frozen=True, slots=True)
class Pull:
    """What `source pull` answers; `versions` are those of the source's lists after it, `seconds` what it took."""

    source: SourceId
    outcome: Outcome
    reason: str | None
    candidate: CandidateId | None
    versions: dict[ListId, Version]
    seconds: float
    report: IntakeReport | None


class Pipeline:
    """Runs the stations; `sources` and `lists` may be replaced whole by a reload."""

    def __init__(
        self,
        store: Store,
        database: Database,
        jobs: Jobs,
        publisher: Publisher,
        clock: Clock,
        observe: Callable[[Pull], None],
        zones: ZonePublisher,
        stations: Stations,
    ) -> None:
        self.sources: dict[SourceId, SourcePlan] = {}
        self.lists: dict[ListId, ListPlan] = {}
        self._store = store
        self._database = database
        self._jobs = jobs
        self._publisher = publisher
        self._clock = clock
        self._observe = observe
        self._zones = zones
        self._stations = stations
        self._reception = Reception(store, database, jobs, clock, stations)
        self._one_of: defaultdict[SourceId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_PULLS)
        self.whole: dict[ListId, str | None] = {}
        """The mark of each live snapshot that was seen to be what its name says (commit.Order)."""
        self.naming = asyncio.Lock()
        """Held from the moment a file is sealed until the database names it: nothing may sweep meanwhile."""

    # -- pull ------------------------------------------------------------------------------------------------------

    async def pull(self, source_id: SourceId) -> Pull:
        """Pulls now, after the pull that runs, if one does. Never raises for what a hotline or a disk does."""
        async with self._one_of[source_id], self._slots:
            plan = self.sources.get(source_id)  # not before: a reload may have changed it while this waited
            if plan is None:
                raise RefusedError("there is no such source in the configuration")
            began = self._clock()
            report, validators = None, None
            try:
                with self._reception.work_folder() as work, self._stations.pulling():
                    received = await self._reception.receive(plan, work, may_be_empty=self._may_be_empty(plan))
                    if isinstance(received, Received):
                        report, result = await self._take_in(plan, received)
                        validators = received.body.validators
                    else:
                        result = await self._settle_source(plan, received.report)
            except BlocklistError as error:
                result = Result(Outcome.FAILED, str(error))
            except Exception as error:  # a bug of ours is a failed pull, and everything else goes on
                log.error("pull of %s failed: %s", source_id, type(error).__name__, exc_info=without_text(error))
                result = Result(Outcome.FAILED, f"internal error: {type(error).__name__}; see the log")
            pull = await self._conclude(plan, result, began, report, validators)
        if report is None and result.outcome is Outcome.FAILED:
            await self._no_longer_awaited(plan, pull.versions)
        return pull

    async def _take_in(self, plan: SourcePlan, received: Received) -> tuple[IntakeReport, Result]:
        """Seals what the body asserts, and settles the source's lists."""
        async with self.naming:
            report = await self._reception.take_over(plan, received)
            keeping = asyncio.ensure_future(self._reception.keep(plan, received, report.asserted))
            try:
                return report, await self._settle(plan, report)
            finally:
                kept = await keeping
                asyncio.get_running_loop().run_in_executor(None, self._reception.recede, received.state.body, kept)

    def _may_be_empty(self, plan: SourcePlan) -> bool:
        """Whether everyone who uses the source said that nothing may be all."""
        lists = [self.lists[name] for name in plan.lists if name in self.lists]
        return bool(lists) and all(wanted.min_entries == 0 for wanted in lists)

    # -- compose, guard --------------------------------------------------------------------------------------------

    async def _settle_source(self, plan: SourcePlan, report: IntakeReport | None) -> Result:
        if report is None:
            return Result(Outcome.UNCHANGED)
        async with self.naming:
            return await self._settle(plan, report)

    async def _settle(self, plan: SourcePlan, report: IntakeReport, *, judge_again: bool = False) -> Result:
        """Offers what the source asserts to each of its lists; the outcome that a person most needs to know wins.

        `judge_again`: what is held may be no longer, since the guards may have been changed.
        """
        if plan.quarantine:
            return Result(Outcome.UNCHANGED, "in quarantine: it contributes to no list")
        assertion = Assertion(plan.id, report.asserted, report.records, report.rejects)
        # a reload may have taken a list away since the pull began
        lists = [self.lists[name] for name in plan.lists if name in self.lists]
        results = [await self._offer(wanted, assertion, judge_again) for wanted in lists]
        order = [Outcome.FAILED, Outcome.HELD, Outcome.PUBLISHED, Outcome.UNCHANGED]
        return min(results, key=lambda result: order.index(result.outcome), default=Result(Outcome.UNCHANGED))

    async def _offer(self, plan: ListPlan, assertion: Assertion, judge_again: bool) -> Result:
        async def no_longer_held() -> None:
            if found.held is not None:
                now = self._clock()
                await self._database.writing(lambda c: candidates.supersede(c, plan.id, assertion.source, now))

        if plan.id in self._publisher.damaged:
            await self.serve(plan)  # what its sources say may make it whole
        found = await self._database.reading(lambda connection: standing(connection, plan, assertion))
        if found.same:
            await no_longer_held()
            await self._publish(plan.id, found.live)  # where signing or a zone failed after the version was made
            return Result(Outcome.UNCHANGED)
        if found.awaited:
            # else whoever answers first would be the first version, and all the others a jump that is held
            return Result(Outcome.UNCHANGED, f"list {plan.id} waits for the first pull of {', '.join(found.awaited)}")
        if found.rejected is not None:
            await no_longer_held()
            return Result(
                Outcome.FAILED,
                f"candidate {found.rejected} with this content was rejected; list {plan.id} keeps its last good "
                f"version until the source says something else",
                found.rejected,
            )
        if found.held is not None and found.stands and not judge_again:
            return Result(Outcome.HELD, _reasons(found.held.candidate), found.held.candidate.id)
        name = CandidateId(f"c-{secrets.token_hex(6)}")
        settled = await self.release(plan, assertion, commit.Order(name, self._clock()))
        candidate = settled.candidate
        if candidate.held:
            if found.held is not None and found.stands and found.held.candidate.guards == candidate.guards:
                return Result(Outcome.HELD, _reasons(found.held.candidate), found.held.candidate.id)
            await self._database.writing(lambda c: candidates.hold(c, candidate, settled.suffixes))
            for reason in candidate.reasons:
                self._stations.guarded(plan.id, reason.guard)
            log.warning("list %s: candidate %s is held: %s", plan.id, candidate.id, _reasons(candidate))
            return Result(Outcome.HELD, _reasons(candidate), candidate.id)
        await no_longer_held()
        outcome = Outcome.PUBLISHED if settled.made else Outcome.UNCHANGED
        if found.held is not None:
            before = found.held.candidate
            await self._database.writing(lambda c: record_decision(c, before, outcome, None))
        return Result(outcome)

    # -- version, sign, publish ------------------------------------------------------------------------------------

    async def release(self, plan: ListPlan, assertion: Assertion, order: commit.Order) -> Settled:
        """Makes the next version, unless a guard holds it, and publishes it."""
        with self._stations.timed("settle", plan.id):
            order = replace(order, whole=self.whole.get(plan.id))
            answer = await self._jobs.run(commit.settle, self._store, plan, assertion, order, limits=COMMIT)
        settled = Settled.of(answer)
        if settled.made is not None:
            self.whole[plan.id] = settled.whole
            for change in ("added", "removed", "changed"):
                self._stations.handled(change, plan.id, getattr(settled.candidate, change))
            await self._publish(plan.id, settled.made)
            log.info("list %s: version %d is live, released by %s", plan.id, settled.made, order.decided_by or "auto")
        if settled.superseded is not None:  # nobody waits for it
            asyncio.get_running_loop().run_in_executor(None, recede, self._store.sealed, settled.superseded)
        return settled

    async def _publish(self, list_id: ListId, version: Version) -> None:
        """Signs and serves a version that is in the store, and brings its zones to it; no work where that is so."""
        if not self._publisher.serves(list_id, version):
            await self._publisher.publish(list_id)
            self._stations.live(list_id)
        await self._zones.advance(list_id, version)

    # -- decisions -------------------------------------------------------------------------------------------------

    async def approve(self, candidate: CandidateId, uid: int, user: str) -> Version | None:
        """Releases a held candidate on a reviewer's word. Raises RefusedError."""
        async with self.naming:
            decision = Decision(uid, user, self._clock(), approve=True)

            def approved(connection: Connection) -> tuple[candidates.Case, ListPlan]:
                case = candidates.decide(connection, candidate, decision)
                return case, self._plan_of(case.candidate)  # what can't be released was not approved either

            case, plan = await self._database.writing(approved)
            assertion = Assertion(case.candidate.source, case.candidate.asserted or None)
            settled = await self.release(plan, assertion, commit.Order(candidate, self._clock(), decided_by=user))
            outcome = Outcome.PUBLISHED if settled.made else Outcome.UNCHANGED
            await self._database.writing(lambda connection: record_decision(connection, case.candidate, outcome, None))
            return settled.made

    async def reject(self, candidate: CandidateId, uid: int, user: str, why: str) -> None:
        """The held content is never published. Raises RefusedError."""
        async with self.naming:
            decision = Decision(uid, user, self._clock(), approve=False)

            def record(connection: Connection) -> None:
                case = candidates.decide(connection, candidate, decision, why)
                record_decision(connection, case.candidate, Outcome.FAILED, f"candidate {candidate} was rejected")

            await self._database.writing(record)
        log.warning("candidate %s was rejected by %s", candidate, user)

    def _plan_of(self, candidate: Candidate) -> ListPlan:
        plan = self.lists.get(candidate.list)
        if plan is None or candidate.source not in plan.sources:
            raise RefusedError(f"list {candidate.list} no longer takes source {candidate.source}: reject the candidate")
        return plan

    async def serve(self, plan: ListPlan) -> None:
        """Serves the live version; its file is made again first where it is damaged, so nothing may be swept meanwhile.
        Raises StoreError."""
        live = (await self._database.reading(lambda connection: list_state(connection, plan.id))).live
        if live is not None and not await asyncio.to_thread(self._store.sealed.intact, live.sha256):
            self._publisher.damaged.add(plan.id)
            log.error("list %s: the file of version %d is missing or damaged", plan.id, live.version)
            if not await self._jobs.run(commit.rebuild, self._store, plan, live, limits=COMMIT):
                raise StoreError(
                    f"the file of version {live.version} of list {plan.id} is damaged, and neither an older one "
                    f"nor its sources make it again: restore a backup of the state_dir"
                )
            log.warning("list %s: the file of version %d was made again", plan.id, live.version)
        self._publisher.damaged.discard(plan.id)
        if live is not None:
            self.whole[plan.id] = self._store.sealed.mark(live.sha256)
        await self._publisher.publish(plan.id)

    # -- start and reload ------------------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """Settles what the sources last said: after a crash between two stations, and after a changed configuration."""
        for plan in list(self.sources.values()):
            await self._settle_again(plan)

    async def _settle_again(self, plan: SourcePlan) -> None:
        try:
            async with self.naming:  # read inside: a pull may have brought something newer while we waited
                state = await self._database.reading(
                    functools.partial(source_state, source=plan.id, settings=plan.settings)
                )
                if state.report is None or not state.current:
                    return
                result = await self._settle(plan, state.report, judge_again=True)
        except Exception as error:  # one source's trouble keeps no other from being settled
            log.error("source %s could not be settled: %s", plan.id, told(error), exc_info=without_text(error))
            return
        if result.outcome is not Outcome.UNCHANGED:
            log.info("source %s: %s %s", plan.id, result.outcome, result.reason or "")

    async def _no_longer_awaited(self, failed: SourcePlan, versions: dict[ListId, Version]) -> None:
        """A first version that waited for a source is made without it, once that has failed."""
        waiting = {name for name, version in versions.items() if not version}
        for plan in [plan for plan in self.sources.values() if waiting & set(plan.lists) and plan is not failed]:
            await self._settle_again(plan)

    # -- bookkeeping -----------------------------------------------------------------------------------------------

    async def _conclude(
        self,
        plan: SourcePlan,
        result: Result,
        began: datetime,
        report: IntakeReport | None,
        validators: Validators | None,
    ) -> Pull:
        ended = self._clock()

        def record(connection: Connection) -> None:
            record_pull(
                connection,
                plan.id,
                outcome=result.outcome,
                reason=result.reason,
                candidate=result.candidate,
                began=began,
                ended=ended,
                report=report,
                validators=validators,
                settings=plan.settings,
            )

        versions: dict[ListId, Version] = {}
        try:
            await self._database.writing(record)
            versions = await self._database.reading(lambda connection: _live_versions(connection, plan.lists))
        except BlocklistError as error:
            log.error("source %s: the pull could not be recorded: %s", plan.id, error)
        pull = Pull(
            outcome=result.outcome,
            reason=result.reason,
            candidate=result.candidate,
            source=plan.id,
            versions=versions,
            seconds=(ended - began).total_seconds(),
            report=report,
        )
        level = logging.WARNING if pull.outcome is Outcome.FAILED else logging.INFO
        unproven = " (verify: none)" if plan.key is None else ""
        log.log(level, "source %s%s: %s%s", plan.id, unproven, pull.outcome, f": {pull.reason}" if pull.reason else "")
        self._observe(pull)
        return pull


def _reasons(candidate: Candidate) -> str:
    return "; ".join(map(str, candidate.reasons))


def _live_versions(connection: Connection, names: Iterable[ListId]) -> dict[ListId, Version]:
    states = [list_state(connection, name) for name in names]
    return {state.id: state.live.version if state.live else Version(0) for state in states}
