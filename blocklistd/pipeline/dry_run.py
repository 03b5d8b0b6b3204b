"""Dry run of a pull, for `source test`: predicts the outcome of a pull of a source now. It changes nothing.

The stages are those of a pull, on scratch files: fetch (or a body that the operator gives) → intake → compose → guard.

- No row is written, no sealed file is left, no evidence is kept, nothing is counted in the metrics of pulls. All files
  are in the work folder, which is removed at the end.
- A dry run waits for no pull of its source. For each list it holds the list's lock while it composes.
- A source in quarantine is tried as if its lists took it.
- At most MAX_CONCURRENT_TESTS dry runs run at once; the others wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from sqlalchemy import Connection

from blocklistd.errors import BlocklistError, RefusedError, StoreError
from blocklistd.jobs.sandbox import COMMIT, INTAKE
from blocklistd.limits import MAX_CONCURRENT_TESTS
from blocklistd.model import CandidateId, IntakeReport, ListId, Outcome, SourceId, Validators, Version
from blocklistd.pipeline.arrivals import Arrivals
from blocklistd.pipeline.commit import CommitRequest
from blocklistd.pipeline.dry_run_job import Prediction, dry_run_job
from blocklistd.pipeline.list_context import ListContext, ReleaseResult, most_urgent
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.pipeline.receive import Receiver
from blocklistd.pipeline.received import Received, report_of, seal, work_folder
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.sources.intake.rejects import reject_lines, validated_lines
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.reasons import AllowedMessages
from blocklistd.sources.transports.transport import TransferMode
from blocklistd.store.pulls import Offer, source_state
from blocklistd.store.scratch import ScratchFiles
from blocklistd.telemetry import NO_TELEMETRY


@dataclass(frozen=True, slots=True)
class GivenBody:
    """A body that an operator gives in place of the one that would be fetched, and the signature file that belongs to
    it, if there is one."""

    chunks: AsyncIterator[bytes]
    signature: bytes | None = None


@dataclass(frozen=True, slots=True)
class ListForecast:
    """What the pull would do to one list. `base`: its live version. `prediction`: None if nothing would be composed."""

    result: ReleaseResult
    base: Version
    prediction: Prediction | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a pull of a source would do.

    `verified`: whether the proof of origin was checked. `report`: of the body; None if it could not be read.
    `lines`: for each reason of rejects, the first line numbers; empty if they are not known.
    """

    source: SourceId
    result: ReleaseResult
    quarantine: bool
    verified: bool
    report: IntakeReport | None = None
    lines: dict[str, list[int]] = field(default_factory=dict)
    lists: dict[ListId, ListForecast] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _DryPlan(SourcePlan):
    """The plan of a source, with another request or proof. Its body is compared with the last one nevertheless."""

    real_settings: str = ""

    @property
    def settings(self) -> str:
        return self.real_settings


class DryRuns:
    """Runs the tests of sources. `list_plans`: the plan of each list as it would be without the quarantine of a
    source."""

    def __init__(
        self, resources: Resources, releaser: Releaser, list_plans: Callable[[SourceId], dict[ListId, ListPlan]]
    ) -> None:
        self._store = resources.store
        self._database = resources.database
        self._jobs = resources.jobs
        self._verified = resources.verified
        self._clock = resources.clock
        self._releaser = releaser
        self._list_plans = list_plans
        self._receiver = Receiver(replace(resources, telemetry=NO_TELEMETRY))
        self._turns = asyncio.Semaphore(MAX_CONCURRENT_TESTS)

    async def run(self, source: SourceId, given: GivenBody | None = None) -> Forecast:
        """What a pull of the source would do. An error of the hotline, the disk or a job is the outcome FAILED, as that
        of a pull. Raises RefusedError for a source that is not configured, and for a `given` body that is too large or
        incomplete."""
        async with self._turns:
            plan = self._releaser.sources.get(source)
            if plan is None:
                raise RefusedError("there is no such source in the configuration: run `blocklistd source list`")
            verified = (given is None or _is_provable(plan, given)) and plan.proves_origin
            try:
                with work_folder(self._store) as work:
                    return await self._run(plan, given, work, verified)
            except RefusedError:
                raise
            except BlocklistError as error:
                return Forecast(source, ReleaseResult(Outcome.FAILED, str(error)), plan.quarantine, verified)

    async def _run(self, plan: SourcePlan, given: GivenBody | None, work: Path, verified: bool) -> Forecast:
        dry = await self._dry_plan(plan, given, work, verified)
        state = await self._database.reading(lambda connection: source_state(connection, plan.id))
        files = (state.offered, *((state.body.listed, state.body.notes) if state.body else ()))
        with self._verified.keeping(digest for digest in files if digest):
            arrivals = Arrivals(dry, self._clock())
            try:
                received = await self._receiver.receive(
                    dry, work, arrivals, may_be_empty=self._releaser.may_be_empty(plan)
                )
            finally:
                arrivals.close()  # nothing is kept as evidence
            assert isinstance(received, Received)  # an unconditional request
            scratch = ScratchFiles(work / "scratch", self._store.sealed)
            await asyncio.to_thread(scratch.prepare)
            asserted = await asyncio.to_thread(seal, received, scratch)
            report = report_of(received, asserted, self._clock())
            lines = await self._lines(received, work)
            plans = self._list_plans(plan.id) if plan.quarantine else self._releaser.lists
            names = [name for name in plan.lists if name in plans]
            found = await asyncio.gather(*(self._forecast(plans[name], plan, report, scratch) for name in names))
        lists = dict(zip(names, found, strict=True))
        result = most_urgent(forecast.result for forecast in found)
        if not lists:
            result = ReleaseResult(Outcome.UNCHANGED, "no list takes this source")
        return Forecast(plan.id, result, plan.quarantine, verified, report, lines, lists)

    # -- the body --------------------------------------------------------------------------------------------------

    async def _dry_plan(self, plan: SourcePlan, given: GivenBody | None, work: Path, verified: bool) -> _DryPlan:
        """The plan with an unconditional request: for the source's URL, or for the given body, which is written to the
        folder `work`. Without a check of the proof, the body is read as one whose source proves nothing."""
        request = plan.request(Validators())
        if given is not None:
            body, signature = work / "given", work / "signature"
            await _save(given, body, signature, request.max_bytes)
            where = signature.as_uri() if given.signature is not None else None
            request = replace(request, url=body.as_uri(), signature=where, transfer=TransferMode.BODY)
        values = {one.name: getattr(plan, one.name) for one in fields(plan)} | {"request": lambda validators: request}
        if not verified:
            values |= {"proof": "none", "keys": ()}
        return _DryPlan(**values, real_settings=plan.settings)

    async def _lines(self, received: Received, work: Path) -> dict[str, list[int]]:
        """The line numbers of the first rejects of each reason."""
        if not received.findings.rejected:
            return {}
        with AllowedMessages((), (), work).only_allowed():
            answer = await self._jobs.run(reject_lines, received.request.notes, limits=INTAKE)
            return validated_lines(answer)

    # -- the lists -------------------------------------------------------------------------------------------------

    async def _forecast(
        self, plan: ListPlan, source: SourcePlan, report: IntakeReport, scratch: ScratchFiles
    ) -> ListForecast:
        """What the entries of the body would do to a list. A known error is the outcome FAILED, as in a pull."""
        async with self._releaser.locks[plan.id]:
            context = await self._database.reading(lambda connection: self._context(connection, plan, source, report))
            base = context.state.version
            change = context.offered_change(source.id)
            if isinstance(change, ReleaseResult):
                return ListForecast(change, base)
            known = context.known_result(change)
            if known is not None and known.outcome is Outcome.UNCHANGED:
                return ListForecast(known, base, _unchanged(context))
            request = CommitRequest(
                plan=plan,
                change=change,
                candidate=CandidateId(""),
                now=self._clock(),
                fingerprints=await self._releaser.known_fingerprints(context, change),
                held=context.held_candidate(change),
                needs_delta=True,
            )
            try:
                with NO_TELEMETRY.time_stage("commit", plan.id):
                    answer = await self._jobs.run(dry_run_job, self._store, request, scratch.root, limits=COMMIT)
            except BlocklistError as error:
                return ListForecast(ReleaseResult(Outcome.FAILED, f"list {plan.id}: {error}"), base)
        predicted = Prediction.from_json(answer)
        if known is not None and known.outcome is Outcome.HELD and request.held is not None:
            predicted = replace(predicted, made=None, reasons=request.held.reasons, candidate=request.held.id)
        elif known is not None:
            predicted = replace(predicted, made=None, rejected=known.candidate)
        if known is None and predicted.rejected is not None:
            known = ReleaseResult.rejected_before(plan.id, change, predicted.rejected)
        return ListForecast(known or _result(predicted), base, predicted)

    def _context(self, connection: Connection, plan: ListPlan, source: SourcePlan, report: IntakeReport) -> ListContext:
        """The context of the list's next change, in which the source offers the entries of the body."""
        context = self._releaser.context(connection, plan)
        offer = Offer(source.id, report.asserted, report.records, report.rejects)
        state, policy = context.state, context.state.policy
        if policy is not None and source.quarantine and source.id not in policy.sources:
            taken = [name for name in plan.sources if name in policy.sources or name == source.id]
            taken += [name for name in policy.sources if name not in taken]
            state = replace(state, policy=replace(policy, sources=tuple(taken)))
        return replace(context, state=state, offers={**context.offers, source.id: offer})


def _is_provable(plan: SourcePlan, given: GivenBody) -> bool:
    """Whether the proof of the source can be checked on a given body: its signature is given or in the body. What a
    connection would prove, no file proves. Raises RefusedError for a signature that the proof does not use."""
    proof = PROOFS[plan.proof]
    if given.signature is not None and not proof.needs_signature:
        raise RefusedError(
            f"--signature: the method {plan.proof} of this source has no signature file: run it without this option"
        )
    return not (proof.needs_pinned_tls or proof.needs_feed) and (
        given.signature is not None or not proof.needs_signature
    )


async def _save(given: GivenBody, path: Path, signature: Path, max_bytes: int) -> None:
    """Writes a given body and its signature to these files. Raises RefusedError if the body has more than `max_bytes`
    bytes, StoreError."""
    length = 0
    try:
        if given.signature is not None:
            await asyncio.to_thread(signature.write_bytes, given.signature)
        with await asyncio.to_thread(open, path, "xb") as file:
            async for chunk in given.chunks:
                length += len(chunk)
                if length > max_bytes:
                    raise RefusedError(
                        f"--body: more than {max_bytes} bytes: expected at most the `max_bytes` of the source; raise "
                        f"it if the list is that large"
                    )
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(file.flush)
    except OSError as error:
        raise StoreError(
            f"{path.parent}: {error.strerror}: the body can't be written; check the space and the permissions there"
        ) from None


def _unchanged(context: ListContext) -> Prediction:
    """The prediction for a list whose live version was made from the same entries."""
    entries = context.state.live.entries if context.state.live else 0
    return Prediction(entries, 0, 0, 0, context.state.withheld or {}, {})


def _result(predicted: Prediction) -> ReleaseResult:
    """The outcome of a change that was composed and judged."""
    if predicted.reasons:
        return ReleaseResult(Outcome.HELD, "; ".join(map(str, predicted.reasons)), predicted.candidate)
    return ReleaseResult(Outcome.PUBLISHED if predicted.made is not None else Outcome.UNCHANGED)
