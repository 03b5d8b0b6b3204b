"""Pull a source: run the whole pipeline, from a hotline to the subscribers.

    pull → intake (verify → parse → canonicalise: kinds/) → Change → commit (compose → guard → version) → sign → publish

The first half is in receive.py, the second in release.py; approvals (decide.py), starts and reloads (reconcile.py) run
the second half only. No stage is skipped. A failure at any stage leaves the live version as it is.

- At most one pull of a source runs at a time, and at most MAX_CONCURRENT_PULLS of all sources.
- A pull first repairs sealed files that another program has changed.
- Each pull ends with its outcome in the source's row, and `observe` is called with it.
- A list without a version waits for the first pull of each of its sources, and for pulls that run (first_versions.py).
  So each pull that ends without a release offers the newest entries of all sources to such a list again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from blocklistd.errors import BlocklistError, RefusedError, redacted
from blocklistd.events import Event
from blocklistd.limits import MAX_CONCURRENT_PULLS
from blocklistd.model import Act, CandidateId, IntakeReport, ListId, Outcome, Sha256, SourceId, Validators, Version
from blocklistd.pipeline.arrivals import Arrivals, EvidenceKeeper, PullEnd
from blocklistd.pipeline.list_context import ReleaseResult
from blocklistd.pipeline.receive import Receiver
from blocklistd.pipeline.received import Received, work_folder
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.repair import Repair
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.store import audit, candidates, withheld
from blocklistd.store.lists import ListState, list_state
from blocklistd.store.pulls import record_pull

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pull:
    """Outcome of one pull of a source; the result of `blocklistd source pull`.

    - `reason`: for a person, None if there is nothing to explain. `candidate`: the one that is held or was rejected.
    - `versions`: the live version of each of the source's lists at the end of the pull; 0: none yet.
    - `seconds`: the duration.
    - `report`: of the body that this pull read; None if the body had not changed, or could not be read.
    - `newest_report`: of the newest body, which an earlier pull may have read; None if no body could be read.
    - `withheld`: for each list, counts by rule of the entries withheld by its live version, or by the held candidate
      of this source.
    """

    source: SourceId
    outcome: Outcome
    reason: str | None
    candidate: CandidateId | None
    versions: dict[ListId, Version]
    seconds: float
    report: IntakeReport | None
    newest_report: IntakeReport | None = None
    withheld: dict[ListId, dict[str, int]] = field(default_factory=dict)


class Pipeline:
    """Pulls the sources in `releaser.sources`, which a reload replaces. `observe` is called with each ended pull."""

    def __init__(
        self,
        resources: Resources,
        releaser: Releaser,
        reconciler: Reconciler,
        repair: Repair,
        observe: Callable[[Pull], None],
    ) -> None:
        self._store = resources.store
        self._database = resources.database
        self._verified = resources.verified
        self._clock = resources.clock
        self._telemetry = resources.telemetry
        self._releaser = releaser
        self._reconciler = reconciler
        self._repair = repair
        self._observe = observe
        self._receiver = Receiver(resources)
        self.evidence = EvidenceKeeper(resources)
        self._source_locks: defaultdict[SourceId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_PULLS)
        self._tasks: set[asyncio.Future[Pull]] = set()

    # -- pull ------------------------------------------------------------------------------------------------------

    async def pull(self, source_id: SourceId, act: Act | None = None) -> Pull:
        """Pulls a source, after a pull of it that is running. `act`: the command that a user gave, for the audit.

        Errors of the hotline, the disk and the jobs do not raise: they become outcome FAILED with `Pull.reason`.

        Raises RefusedError for a source that is not configured, and BlocklistError where the pull with an `act`
        succeeded but could not be recorded.
        """
        async with self._turn(source_id):
            plan = self._plan(source_id)  # read under the lock: a reload may have changed it
            began = self._clock()
            arrivals = Arrivals(plan, began)
            report, newest_report, validators = None, None, None
            try:
                await self._repair_what_changed(source_id)
                may_be_empty = self._releaser.may_be_empty(plan)
                with self._verified.sealing(), work_folder(self._store) as work, self._telemetry.time_pull():
                    received = await self._receiver.receive(plan, work, arrivals, may_be_empty=may_be_empty)
                    if isinstance(received, Received):
                        report, result = await self._seal_and_offer(plan, received, arrivals, act)
                        newest_report, validators = report, received.body.validators
                    else:
                        newest_report = received.report
                        result = (
                            await self._releaser.offer_to_lists(plan, act)
                            if received.report
                            else ReleaseResult(Outcome.UNCHANGED)
                        )
            except BlocklistError as error:
                result = ReleaseResult(Outcome.FAILED, str(error))
            except Exception as error:  # a bug fails this pull, not the daemon
                Event.PULL_CRASHED.log(log, source=source_id, error=type(error).__name__, exc_info=redacted(error))
                result = ReleaseResult(
                    Outcome.FAILED, f"internal error: {type(error).__name__}; see the log of blocklistd"
                )
            try:
                pull = await self._record(plan, result, began, report, newest_report, validators, act)
                self.evidence.keep(arrivals, PullEnd(pull.outcome, pull.reason, pull.candidate, pull.versions))
            finally:
                arrivals.close()
        waiting = {name for name, version in pull.versions.items() if not version}
        if waiting and result.outcome in (Outcome.UNCHANGED, Outcome.FAILED):
            for name in sorted(waiting):  # these lists waited for the first pull of this source (Releaser.offer)
                await self._reconciler.offer_sources(name, act)
        for name in pull.versions:
            await self._reconciler.end_waits(name)
        return pull

    @asynccontextmanager
    async def _turn(self, source_id: SourceId) -> AsyncIterator[None]:
        """A context in which the source is pulled: after its other pulls, and once a slot is free."""
        async with self._source_locks[source_id]:
            with self._releaser.first_versions.pull(source_id):
                async with self._slots:
                    yield

    @asynccontextmanager
    async def exclusive(self, source_id: SourceId) -> AsyncIterator[SourcePlan]:
        """A context without a pull of the source; its value is the source's plan. It does not wait for pulls of other
        sources. Raises RefusedError for a source that is not configured."""
        async with self._source_locks[source_id]:
            yield self._plan(source_id)

    def _plan(self, source_id: SourceId) -> SourcePlan:
        plan = self._releaser.sources.get(source_id)
        if plan is None:
            raise RefusedError("there is no such source in the configuration: run `blocklistd source list`")
        return plan

    async def repair(self, damaged: Iterable[Sha256]) -> None:
        """Rebuilds damaged sealed files, and pulls the sources that have a damaged file.

        Raises BlocklistError where a job fails.
        """
        for source in await self._repair.repair(damaged):
            if source in self._releaser.sources:
                await self.pull(source)

    async def scrub(self) -> None:
        """Reads every sealed file that a row names, and rebuilds the damaged ones. Raises as `repair` does."""
        await self.repair(await self._repair.scrub())

    async def _repair_what_changed(self, pulled: SourceId) -> None:
        """Rebuilds files that another program has changed, before this pull compares anything with them."""
        suspects = await self._repair.suspects()
        for source in await self._repair.repair(suspects) if suspects else []:
            if source != pulled and source in self._releaser.sources:
                task = asyncio.ensure_future(self.pull(source))  # not awaited: two pulls could wait for each other
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _seal_and_offer(
        self, plan: SourcePlan, received: Received, arrivals: Arrivals, act: Act | None
    ) -> tuple[IntakeReport, ReleaseResult]:
        """Seals the body's entries as the source's offer, and offers them to the source's lists.

        The body is stored meanwhile: the next one is compared with it.
        """
        before = await self._database.reading(lambda connection: _states(connection, plan.lists))
        report = await self._receiver.accept_body(plan, received)
        arrivals.accept(report)
        storing = asyncio.ensure_future(self._receiver.keep(plan, received))
        try:
            result = await self._releaser.offer_to_lists(plan, act)
            if result.outcome is Outcome.UNCHANGED:  # a start or another source may have released the offer first
                after = await self._database.reading(lambda connection: _states(connection, plan.lists))
                if any(_was_released(plan.id, report.asserted, before[name], after[name]) for name in after):
                    result = ReleaseResult(Outcome.PUBLISHED)
            return report, result
        finally:
            stored = await storing
            asyncio.get_running_loop().run_in_executor(
                None, self._receiver.drop_page_cache, received.state.body, stored
            )

    # -- record --------------------------------------------------------------------------------------------------

    async def _record(
        self,
        plan: SourcePlan,
        result: ReleaseResult,
        began: datetime,
        report: IntakeReport | None,
        newest_report: IntakeReport | None,
        validators: Validators | None,
        act: Act | None,
    ) -> Pull:
        """Writes the row of the pull and its line in the audit, in one transaction, and calls `observe`."""
        ended = self._clock()

        def record(connection: Connection) -> ReleaseResult:
            final = _with_decision(connection, result)
            record_pull(
                connection,
                plan.id,
                outcome=final.outcome,
                reason=final.reason,
                candidate=final.candidate,
                began=began,
                ended=ended,
                report=report,
                validators=validators,
                settings=plan.settings,
            )
            if act is not None:
                detail = {"outcome": final.outcome.value, "candidate": final.candidate}
                audit.append(connection, act, plan.id, now=ended, detail=detail)
            return final

        versions: dict[ListId, Version] = {}
        withheld_by_list: dict[ListId, dict[str, int]] = {}
        sources_by_list = {
            name: self._releaser.lists[name].sources for name in plan.lists if name in self._releaser.lists
        }
        try:
            result = await self._database.writing(record)
            states = await self._database.reading(lambda connection: _states(connection, plan.lists))
            withheld_by_list = await self._database.reading(
                lambda connection: withheld.of_pull(connection, plan.id, sources_by_list)
            )
            versions = {name: state.version for name, state in states.items()}
        except BlocklistError as error:
            Event.PULL_NOT_RECORDED.log(log, source=plan.id, reason=error)
            if act is not None and result.outcome is not Outcome.FAILED:
                raise  # a command succeeds only if its line is in the audit
        pull = Pull(
            outcome=result.outcome,
            reason=result.reason,
            candidate=result.candidate,
            source=plan.id,
            versions=versions,
            seconds=(ended - began).total_seconds(),
            report=report,
            newest_report=newest_report,
            withheld=withheld_by_list,
        )
        verify = None if plan.proves_origin else plan.proof
        if pull.outcome is Outcome.FAILED:
            Event.PULL_FAILED.log(log, source=plan.id, verify=verify, reason=pull.reason or None)
        else:
            Event.PULL_ENDED.log(
                log, source=plan.id, verify=verify, outcome=pull.outcome.value, reason=pull.reason or None
            )
        self._observe(pull)
        return pull


def _states(connection: Connection, names: Iterable[ListId]) -> dict[ListId, ListState]:
    return {name: list_state(connection, name) for name in names}


def _was_released(source: SourceId, entries: Sha256, before: ListState, after: ListState) -> bool:
    """Whether the list has a new version with these entries of the source, and the version before had others."""
    is_new = after.version != before.version
    return is_new and after.accepted.get(source) == entries != before.accepted.get(source)


def _with_decision(connection: Connection, result: ReleaseResult) -> ReleaseResult:
    """The result of a pull after a decision on its candidate, which a person may make while other lists are still
    committed."""
    state = candidates.case(connection, result.candidate).state if result.candidate else "held"
    match state:
        case "released":
            return ReleaseResult(Outcome.PUBLISHED)
        case "rejected" if result.outcome is Outcome.HELD:
            return ReleaseResult(Outcome.FAILED, f"candidate {result.candidate} was rejected")
        case _:
            return result
