"""The way of the data, from a hotline to its subscribers. Read from top to bottom:

    pull → intake (verify → parse → canonicalise) → settle (compose → guard) → release (version → sign → publish)

`pull` runs all of it; an approval runs `release`; a start and a changed configuration run `settle` on what the sources
last said. Nothing skips a station, and a failure at any of them leaves what is live as it is.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import secrets
import shutil
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from blocklistd.errors import (
    BlocklistError,
    ParseError,
    RefusedError,
    StaleError,
    StoreError,
    VerifyError,
    without_text,
)
from blocklistd.jobs.runner import Jobs
from blocklistd.jobs.sandbox import COMMIT, INTAKE
from blocklistd.kinds import CANONICALISER
from blocklistd.limits import MAX_CONCURRENT_PULLS
from blocklistd.model import (
    Candidate,
    CandidateId,
    Fetched,
    IntakeReport,
    ListId,
    NotModified,
    Outcome,
    SourceId,
    Validators,
    Version,
)
from blocklistd.publish import Clock, Publisher
from blocklistd.sources.fetch import Request, fetch
from blocklistd.sources.intake import Order, intake
from blocklistd.versions import candidates, commit, evidence
from blocklistd.versions.candidates import Decision
from blocklistd.versions.commit import Assertion, ListPlan, ReleaseOrder, proposal_of, propose
from blocklistd.versions.database import Database
from blocklistd.versions.lists import list_state
from blocklistd.versions.pulls import (
    SourceState,
    record_decision,
    record_pull,
    source_state,
    superseded,
    take_over,
)
from blocklistd.versions.standing import standing
from blocklistd.versions.store import Store

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """A source's configuration as the pipeline needs it; `lists` are those that it contributes to, in any order."""

    id: SourceId
    request: Callable[[Validators], Request]
    format: str
    fields: dict[str, str]
    defaults: dict[str, str]
    key: str | None
    lists: tuple[ListId, ...]
    quarantine: bool

    @property
    def settings(self) -> str:
        """What a body was asked for and read with: with other settings, what was read before says nothing."""
        read_with = (self.format, sorted(self.fields.items()), sorted(self.defaults.items()), self.key, CANONICALISER)
        return f"{self.request(Validators()).url} {hashlib.sha256(repr(read_with).encode()).hexdigest()}"


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
        advance: Callable[[ListId], Awaitable[None]],
    ) -> None:
        self.sources: dict[SourceId, SourcePlan] = {}
        self.lists: dict[ListId, ListPlan] = {}
        self._store = store
        self._database = database
        self._jobs = jobs
        self._publisher = publisher
        self._clock = clock
        self._observe = observe
        self._advance = advance
        self._one_of: defaultdict[SourceId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_PULLS)
        self.naming = asyncio.Lock()
        """Held from the moment a file is sealed until the database names it: nothing may sweep meanwhile."""

    # -- pull ------------------------------------------------------------------------------------------------------

    async def pull(self, source_id: SourceId) -> Pull:
        """Pulls now, after the pull that runs, if one does. Never raises for what a hotline or a disk does."""
        plan = self.sources.get(source_id)
        if plan is None:
            raise RefusedError(f"there is no source {source_id!r} in the configuration")
        async with self._one_of[source_id], self._slots:
            began = self._clock()
            report, validators = None, None
            try:
                with self._work_folder() as work:
                    state, body = await self._fetch(plan, work)
                    if isinstance(body, NotModified):
                        result = await self._settle_source(plan, state.report)
                    else:
                        report, body = await self._intake_twice(plan, state, body, work)
                        result = await self._take_in(plan, report, work)
                        validators = body.validators
            except BlocklistError as error:
                result = Result(Outcome.FAILED, str(error))
            except Exception as error:  # a bug of ours is a failed pull, and everything else goes on
                log.error("pull of %s failed: %s", source_id, type(error).__name__, exc_info=without_text(error))
                result = Result(Outcome.FAILED, f"internal error: {type(error).__name__}; see the log")
            pull = await self._conclude(plan, result, began, report, validators)
        if report is None and result.outcome is Outcome.FAILED:
            await self._no_longer_awaited(plan)
        return pull

    async def _fetch(self, plan: SourcePlan, work: Path) -> tuple[SourceState, Fetched | NotModified]:
        def known(connection: Connection) -> SourceState:
            return source_state(connection, plan.id, plan.settings)

        state = await self._database.reading(known)
        return state, await fetch(plan.request(state.validators), work)

    async def _intake_twice(
        self, plan: SourcePlan, state: SourceState, body: Fetched, work: Path
    ) -> tuple[IntakeReport, Fetched]:
        """Body and signature are two requests, and a hotline may publish between them: on a mismatch, once more."""
        try:
            return await self.intake(plan, state, body, work), body
        except StaleError:
            raise
        except VerifyError:
            if plan.key is None:
                raise
        again = await fetch(plan.request(Validators()), work)
        assert isinstance(again, Fetched)  # nothing was asked for that could be unchanged
        return await self.intake(plan, state, again, work), again

    # -- verify, parse, canonicalise -------------------------------------------------------------------------------

    async def intake(self, plan: SourcePlan, state: SourceState, body: Fetched, work: Path) -> IntakeReport:
        """Runs the sandboxed job on a body; what does not prove its origin or can't be read is kept as evidence."""
        folder = work / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        known = await self._database.reading(lambda connection: superseded(connection, plan.id))
        order = Order(
            body=body.body,
            work=folder,
            encoding=body.encoding,
            signature=body.signature,
            format=plan.format,
            fields=plan.fields,
            defaults=plan.defaults,
            max_bytes=plan.request(Validators()).max_bytes,
            key=plan.key,
            last_signature=state.signature,
            last_signed_at=state.signed_at,
            superseded=tuple(known),
            may_be_empty=self._may_be_empty(plan),
        )
        try:
            report = IntakeReport(**await self._jobs.run(intake, order, limits=INTAKE))
        except (VerifyError, ParseError):
            await asyncio.to_thread(evidence.keep, self._store, plan.id, body, self._clock())
            raise
        order.canonical.replace(work / "canonical")
        return report

    def _may_be_empty(self, plan: SourcePlan) -> bool:
        """Whether everyone who uses the source said that nothing may be all."""
        lists = [self.lists[name] for name in plan.lists if name in self.lists]
        return bool(lists) and all(wanted.min_entries == 0 for wanted in lists)

    async def _take_in(self, plan: SourcePlan, report: IntakeReport, work: Path) -> Result:
        """Seals what the job wrote under a digest of our own, and settles the source's lists."""
        async with self.naming:
            sealed = await asyncio.to_thread(self._store.sealed.adopt, work / "canonical")
            if sealed != report.asserted:
                raise ParseError("the intake job reported another digest than its file has: the pull is not used")
            await self._database.writing(lambda connection: take_over(connection, plan.id, report, plan.settings))
            return await self._settle(plan, report)

    # -- compose, guard --------------------------------------------------------------------------------------------

    async def _settle_source(self, plan: SourcePlan, report: IntakeReport | None) -> Result:
        if report is None:
            return Result(Outcome.UNCHANGED)
        async with self.naming:
            return await self._settle(plan, report)

    async def _settle(self, plan: SourcePlan, report: IntakeReport) -> Result:
        """Offers what the source asserts to each of its lists; the outcome that a person most needs to know wins."""
        if plan.quarantine:
            return Result(Outcome.UNCHANGED, "in quarantine: it contributes to no list")
        assertion = Assertion(plan.id, report.asserted, report.records, report.rejects)
        # a reload may have taken a list away since the pull began
        results = [await self._offer(self.lists[name], assertion) for name in plan.lists if name in self.lists]
        order = [Outcome.FAILED, Outcome.HELD, Outcome.PUBLISHED, Outcome.UNCHANGED]
        return min(results, key=lambda result: order.index(result.outcome), default=Result(Outcome.UNCHANGED))

    async def _offer(self, plan: ListPlan, assertion: Assertion) -> Result:
        async def no_longer_held() -> None:
            if found.held is not None:
                now = self._clock()
                await self._database.writing(lambda c: candidates.supersede(c, plan.id, assertion.source, now))

        found = await self._database.reading(lambda connection: standing(connection, plan, assertion))
        if found.same:
            await no_longer_held()
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
        if found.held is not None and found.held.candidate.asserted == assertion.asserted:
            return Result(Outcome.HELD, _reasons(found.held.candidate), found.held.candidate.id)
        proposed = await self._propose(plan, assertion)
        if proposed.candidate.held and proposed.changes:
            await self._database.writing(lambda c: candidates.hold(c, proposed.candidate, proposed.suffixes))
            log.warning(
                "list %s: candidate %s is held: %s", plan.id, proposed.candidate.id, _reasons(proposed.candidate)
            )
            return Result(Outcome.HELD, _reasons(proposed.candidate), proposed.candidate.id)
        await no_longer_held()
        made = await self.release(plan, assertion, released_by="auto")
        return Result(Outcome.PUBLISHED if made else Outcome.UNCHANGED)

    async def _propose(self, plan: ListPlan, assertion: Assertion) -> commit.Proposal:
        name = CandidateId(f"c-{secrets.token_hex(6)}")
        answer = await self._jobs.run(propose, self._store, plan, assertion, name, self._clock(), limits=COMMIT)
        return proposal_of(answer)

    # -- version, sign, publish ------------------------------------------------------------------------------------

    async def release(
        self, plan: ListPlan, assertion: Assertion, *, released_by: str, candidate: CandidateId | None = None
    ) -> Version | None:
        """Makes the next version and publishes it; None where the list's content did not change."""
        order = ReleaseOrder(candidate, released_by, self._clock())
        made = await self._jobs.run(commit.release, self._store, plan, assertion, order, limits=COMMIT)
        await self._publisher.publish(plan.id)
        await self._advance(plan.id)
        if made is not None:
            log.info("list %s: version %d is live, released by %s", plan.id, made, released_by)
        return None if made is None else Version(made)

    # -- decisions -------------------------------------------------------------------------------------------------

    async def approve(self, candidate: CandidateId, uid: int, user: str) -> Version | None:
        """Releases a held candidate on a reviewer's word. Raises RefusedError."""
        async with self.naming:
            decision = Decision(uid, user, self._clock(), approve=True)
            case = await self._database.writing(lambda connection: candidates.decide(connection, candidate, decision))
            plan = self._plan_of(case.candidate)
            assertion = Assertion(case.candidate.source, case.candidate.asserted or None)
            made = await self.release(plan, assertion, released_by=user, candidate=candidate)
            outcome = Outcome.PUBLISHED if made else Outcome.UNCHANGED
            await self._database.writing(lambda connection: record_decision(connection, case.candidate, outcome, None))
            return made

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
                result = await self._settle(plan, state.report)
        except BlocklistError as error:
            log.error("source %s could not be settled: %s", plan.id, error)
            return
        if result.outcome is not Outcome.UNCHANGED:
            log.info("source %s: %s %s", plan.id, result.outcome, result.reason or "")

    async def _no_longer_awaited(self, failed: SourcePlan) -> None:
        """A first version that waited for a source is made without it, once that has failed."""
        versions = await self._database.reading(lambda connection: _live_versions(connection, failed.lists))
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

        try:
            await self._database.writing(record)
        except BlocklistError as error:
            log.error("source %s: the pull could not be recorded: %s", plan.id, error)
        versions = await self._database.reading(lambda connection: _live_versions(connection, plan.lists))
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
        log.log(level, "source %s: %s%s", plan.id, pull.outcome, f": {pull.reason}" if pull.reason else "")
        self._observe(pull)
        return pull

    @contextmanager
    def _work_folder(self) -> Iterator[Path]:
        folder = self._store.work / secrets.token_hex(8)
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise StoreError(f"{folder.parent}: {error.strerror}: nothing can be pulled") from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _reasons(candidate: Candidate) -> str:
    return "; ".join(map(str, candidate.reasons))


def _live_versions(connection: Connection, names: Iterable[ListId]) -> dict[ListId, Version]:
    states = [list_state(connection, name) for name in names]
    return {state.id: state.live.version if state.live else Version(0) for state in states}
