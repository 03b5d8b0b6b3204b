"""The pipeline, from a hotline to the subscribers:

    pull → intake (verify → parse → canonicalise: kinds/) → Change → settle (compose → guard → version) → sign → publish

`pull` runs all of it. From the Change on it calls `release.Releases`, as approvals (decide.py), starts and reloads
(reconcile.py) do. Nothing skips a stage, and a failure at any stage leaves the live version as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from blocklistd.errors import BlocklistError, RefusedError, without_text
from blocklistd.events import Event
from blocklistd.limits import MAX_CONCURRENT_PULLS
from blocklistd.model import Act, CandidateId, IntakeReport, ListId, Outcome, Sha256, SourceId, Validators, Version
from blocklistd.pipeline.receive import Received, Reception, SourcePlan
from blocklistd.pipeline.reconcile import Reconciling
from blocklistd.pipeline.release import Releases, Result
from blocklistd.pipeline.repair import Repair
from blocklistd.pipeline.resources import Resources
from blocklistd.store import audit, candidates, withheld
from blocklistd.store.lists import ListState, list_state
from blocklistd.store.pulls import record_pull

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pull:
    """The answer to `source pull`. `versions`: the lists' live versions at its end; `withheld`: what they leave out, by
    rule, or what is held of this source does. `seconds`: the duration. `report`: of the body that this pull read,
    `said`: of the newest body, which an earlier pull may have read (None: this pull read none to its end)."""

    source: SourceId
    outcome: Outcome
    reason: str | None
    candidate: CandidateId | None
    versions: dict[ListId, Version]
    seconds: float
    report: IntakeReport | None
    said: IntakeReport | None = None
    withheld: dict[ListId, dict[str, int]] = field(default_factory=dict)


class Pipeline:
    """Pulls the sources in `releases.sources`, which a reload replaces. `observe` hears of each pull."""

    def __init__(
        self,
        resources: Resources,
        releases: Releases,
        reconciling: Reconciling,
        repair: Repair,
        observe: Callable[[Pull], None],
    ) -> None:
        self._database = resources.database
        self._verified = resources.verified
        self._clock = resources.clock
        self._telemetry = resources.telemetry
        self._releases = releases
        self._reconciling = reconciling
        self._repair = repair
        self._observe = observe
        self._reception = Reception(resources)
        self._one_of: defaultdict[SourceId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_PULLS)
        self._tasks: set[asyncio.Future[Pull]] = set()

    # -- pull ------------------------------------------------------------------------------------------------------

    async def pull(self, source_id: SourceId, act: Act | None = None) -> Pull:
        """Pulls a source; waits for a pull of it that is running. Errors of hotline or disk become `Pull.reason`. `act`
        is the command by which somebody asked for it.

        Raises RefusedError for a source that is not configured.
        """
        async with self._one_of[source_id], self._slots:
            plan = self._releases.sources.get(source_id)  # read here: a reload may have changed it while this waited
            if plan is None:
                raise RefusedError("there is no such source in the configuration")
            began = self._clock()
            report, said, validators = None, None, None
            try:
                await self._repair_what_changed(source_id)
                with self._verified.sealing(), self._reception.work_folder() as work, self._telemetry.time_pull():
                    received = await self._reception.receive(plan, work, may_be_empty=self._may_be_empty(plan))
                    if isinstance(received, Received):
                        report, result = await self._take_in(plan, received)
                        said, validators = report, received.body.validators
                    else:
                        said = received.report
                        result = (
                            await self._releases.offer_to_all(plan) if received.report else Result(Outcome.UNCHANGED)
                        )
            except BlocklistError as error:
                result = Result(Outcome.FAILED, str(error))
            except Exception as error:  # a bug of ours is a failed pull, and everything else goes on
                Event.PULL_CRASHED.log(log, source=source_id, error=type(error).__name__, exc_info=without_text(error))
                result = Result(Outcome.FAILED, f"internal error: {type(error).__name__}; see the log")
            pull = await self._conclude(plan, result, began, report, said, validators, act)
        waiting = {name for name, version in pull.versions.items() if not version}
        if waiting and result.outcome in (Outcome.UNCHANGED, Outcome.FAILED):
            for name in sorted(waiting):  # they waited for this source's first pull, which has ended, well or badly
                await self._reconciling.offer_all(name)
        return pull

    async def repair(self, damaged: Iterable[Sha256]) -> None:
        """Makes damaged sealed files again, and pulls the sources that have a damaged file."""
        for source in await self._repair.repair(damaged):
            if source in self._releases.sources:
                await self.pull(source)

    async def scrub(self) -> None:
        """Reads every sealed file that a row names, and makes the damaged ones again."""
        await self.repair(await self._repair.scrub())

    async def _repair_what_changed(self, pulled: SourceId) -> None:
        """Makes files again that another program has changed, before this pull compares anything with them."""
        suspects = await self._repair.suspects()
        for source in await self._repair.repair(suspects) if suspects else []:
            if source != pulled and source in self._releases.sources:
                task = asyncio.ensure_future(self.pull(source))  # not here: a pull waits for no other
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _take_in(self, plan: SourcePlan, received: Received) -> tuple[IntakeReport, Result]:
        """Seals the body's entries as the source's offer, and offers them to the source's lists."""
        before = await self._database.reading(lambda connection: _states(connection, plan.lists))
        report = await self._reception.take_over(plan, received)
        keeping = asyncio.ensure_future(self._reception.keep(plan, received))
        try:
            result = await self._releases.offer_to_all(plan)
            if result.outcome is Outcome.UNCHANGED:  # perhaps a start, or another source, has just released the offer
                after = await self._database.reading(lambda connection: _states(connection, plan.lists))
                if any(_has_taken(plan.id, report.asserted, before[name], after[name]) for name in after):
                    result = Result(Outcome.PUBLISHED)
            return report, result
        finally:
            kept = await keeping
            asyncio.get_running_loop().run_in_executor(None, self._reception.drop_page_cache, received.state.body, kept)

    def _may_be_empty(self, plan: SourcePlan) -> bool:
        """Whether an empty body is allowed: every list of the source has `min_entries: 0`."""
        lists = [self._releases.lists[name] for name in plan.lists if name in self._releases.lists]
        return bool(lists) and all(wanted.min_entries == 0 for wanted in lists)

    # -- bookkeeping -----------------------------------------------------------------------------------------------

    async def _conclude(
        self,
        plan: SourcePlan,
        result: Result,
        began: datetime,
        report: IntakeReport | None,
        said: IntakeReport | None,
        validators: Validators | None,
        act: Act | None,
    ) -> Pull:
        ended = self._clock()

        def record(connection: Connection) -> Result:
            known = _as_decided(connection, result)
            record_pull(
                connection,
                plan.id,
                outcome=known.outcome,
                reason=known.reason,
                candidate=known.candidate,
                began=began,
                ended=ended,
                report=report,
                validators=validators,
                settings=plan.settings,
            )
            if act is not None:
                detail = {"outcome": known.outcome.value, "candidate": known.candidate}
                audit.append(connection, act, plan.id, now=ended, detail=detail)
            return known

        versions: dict[ListId, Version] = {}
        left_out: dict[ListId, dict[str, int]] = {}
        taking = {name: self._releases.lists[name].sources for name in plan.lists if name in self._releases.lists}
        try:
            result = await self._database.writing(record)
            states = await self._database.reading(lambda connection: _states(connection, plan.lists))
            left_out = await self._database.reading(lambda connection: withheld.of_pull(connection, plan.id, taking))
            versions = {name: state.version for name, state in states.items()}
        except BlocklistError as error:
            Event.PULL_NOT_RECORDED.log(log, source=plan.id, reason=error)
            if act is not None and result.outcome is not Outcome.FAILED:
                raise  # what somebody did is done once its line is written
        pull = Pull(
            outcome=result.outcome,
            reason=result.reason,
            candidate=result.candidate,
            source=plan.id,
            versions=versions,
            seconds=(ended - began).total_seconds(),
            report=report,
            said=said,
            withheld=left_out,
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


def _has_taken(source: SourceId, entries: Sha256, before: ListState, after: ListState) -> bool:
    """Whether a new version of the list has these entries of the source, and the version before had others."""
    is_new = after.version != before.version
    return is_new and after.accepted.get(source) == entries != before.accepted.get(source)


def _as_decided(connection: Connection, result: Result) -> Result:
    """What has become of the candidate that a pull led to: it may be decided while other lists are settled."""
    state = candidates.case(connection, result.candidate).state if result.candidate else "held"
    match state:
        case "released":
            return Result(Outcome.PUBLISHED)
        case "rejected" if result.outcome is Outcome.HELD:
            return Result(Outcome.FAILED, f"candidate {result.candidate} was rejected")
        case _:
            return result
