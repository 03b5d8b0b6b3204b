"""From a source to what it asserts: fetched, verified, read in the sandbox, and sealed as the source's newest word."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.errors import DamagedError, FetchError, JobError, ParseError, StaleError, StoreError, VerifyError
from blocklistd.events import Event
from blocklistd.jobs.sandbox import INTAKE, JobLimits
from blocklistd.kinds import CANONICALISER
from blocklistd.limits import DECOMPRESSED_FACTOR, INTAKE_FILE, MAX_FUTURE
from blocklistd.model import Fetched, IntakeReport, ListId, NotModified, Sha256, SourceId, Validators
from blocklistd.pipeline.resources import Resources
from blocklistd.sources import reasons
from blocklistd.sources.intake.check import check
from blocklistd.sources.intake.entries import Left
from blocklistd.sources.intake.findings import REJECTS, read_findings, read_proven, unfit
from blocklistd.sources.intake.job import Earlier, Findings, Order, intake
from blocklistd.sources.intake.prove import Origin, candidates, prove
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.proofs.proof import Proven, check_time
from blocklistd.sources.transports.fetch import fetch
from blocklistd.sources.transports.transport import Request
from blocklistd.store import asserted, evidence
from blocklistd.store.evidence import Bound
from blocklistd.store.files import uncache
from blocklistd.store.pulls import Body, SourceState, keep_body, source_state, superseded, take_over
from blocklistd.times import rfc3339

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """A source's configuration as the pipeline needs it. `proof` is one of PROOFS, `key` what it made of its key file;
    `lists` are those that the source contributes to, in any order. `unusable`: why each pull fails, where a file
    that the source needs can't be read."""

    id: SourceId
    request: Callable[[Validators], Request]
    format: str
    fields: dict[str, str]
    defaults: dict[str, str]
    proof: str
    key: str | None
    lists: tuple[ListId, ...]
    quarantine: bool
    evidence: Bound = field(default_factory=Bound)
    max_future: timedelta = MAX_FUTURE
    max_age: timedelta = timedelta.max
    options: dict[str, Any] = field(default_factory=dict)
    unusable: str = ""

    @property
    def proves_origin(self) -> bool:
        """Whether a body of this source proves where it comes from."""
        return PROOFS[self.proof].proves_origin

    @property
    def key_fingerprint(self) -> Sha256 | None:
        """A fingerprint of the key, which remembered signatures belong to; None where the proof has no key."""
        return Sha256(hashlib.sha256(self.key.encode()).hexdigest()) if self.key is not None else None

    @property
    def settings(self) -> str:
        """What a body was asked for and read with: with other settings, what was read before says nothing."""
        url = self.request(Validators()).url
        proof = self.key or (self.proof if self.proves_origin else None)
        read_with = (self.format, *(sorted(part.items()) for part in (self.fields, self.defaults, self.options)))
        parts = (url, *read_with, proof, CANONICALISER)
        return hashlib.sha256(repr(parts).encode()).hexdigest()  # a URL's query may hold a secret


@dataclass(frozen=True, slots=True)
class Received:
    """A body that proved its origin and was read: what the job found, and the files that it left. `state` is what the
    source had said before."""

    body: Fetched
    order: Order
    findings: Findings
    state: SourceState


def _limits(order: Order) -> JobLimits:
    return replace(INTAKE, file=max(INTAKE_FILE, order.max_bytes * DECOMPRESSED_FACTOR))


def _reasons(order: Order, proof: str, folder: Path) -> reasons.Reasons:
    """The texts that the errors of a job that reads the body can have."""
    ours = (order.format, proof, *map(repr, order.fields.values()))
    return reasons.Reasons((*reasons.INTAKE, *PROOFS[proof].reasons), ours, folder, REJECTS)


class Reception:
    """Runs the first stages for one source at a time."""

    def __init__(self, resources: Resources) -> None:
        self._store = resources.store
        self._database = resources.database
        self._jobs = resources.jobs
        self._clock = resources.clock
        self._telemetry = resources.telemetry
        self._verified = resources.verified

    async def receive(self, plan: SourcePlan, work: Path, *, may_be_empty: bool) -> Received | SourceState:
        """What the source says now; its state, if that is what it said before. Raises BlocklistError.

        Body and signature are two requests, and a hotline may publish between them: on a mismatch, once more.
        """

        if plan.unusable:
            raise FetchError(plan.unusable)

        def known(connection: Connection) -> SourceState:
            return source_state(connection, plan.id, plan.settings)

        state = await self._database.reading(known)
        # the hotline may have signed the same body again: only an unconditional request gets the new signature
        is_old = state.signed is not None and self._clock() - state.signed > plan.max_age / 2
        body = await self._fetch(plan, Validators() if is_old else state.validators, work)
        if isinstance(body, NotModified):
            return state
        try:
            return await self._read(plan, state, body, work, may_be_empty)
        except StaleError:
            raise
        except VerifyError:
            if not PROOFS[plan.proof].needs_signature:
                raise
        again = await self._fetch(plan, Validators(), work)
        assert isinstance(again, Fetched)  # nothing was asked for that could be unchanged
        return await self._read(plan, state, again, work, may_be_empty)

    async def _fetch(self, plan: SourcePlan, validators: Validators, work: Path) -> Fetched | NotModified:
        with self._telemetry.time_stage("fetch", plan.id):
            body = await fetch(plan.request(validators), work, self._jobs)
        if isinstance(body, Fetched):
            self._telemetry.record_amount("fetched_bytes", plan.id, body.length)
        return body

    async def _read(
        self, plan: SourcePlan, state: SourceState, body: Fetched, work: Path, may_be_empty: bool
    ) -> Received:
        """Runs the sandboxed job on a body; what does not prove its origin or can't be read is kept as evidence."""
        folder = self._folder(work)
        known = await self._database.reading(lambda connection: superseded(connection, plan.id))
        of_this_key = state.is_of_key(plan.key_fingerprint)
        origin = Origin(
            proof=plan.proof,
            key=plan.key,
            signature=body.signature,
            now=self._clock(),
            last_signature=state.signature if of_this_key else None,
            last_signed_at=state.signed_at if of_this_key else None,
            superseded=tuple(known) if of_this_key else (),
            max_future=plan.max_future,
        )
        order = Order(
            body=body.body,
            work=folder,
            encoding=body.encoding,
            origin=origin,
            format=plan.format,
            fields=plan.fields,
            defaults=plan.defaults,
            options=plan.options,
            max_bytes=plan.request(Validators()).max_bytes,
            may_be_empty=may_be_empty,
            earlier=await asyncio.to_thread(self._earlier, state),
        )
        try:
            if PROOFS[plan.proof].in_own_process:
                order = await self._proven(order, origin, self._folder(work))
            with self._telemetry.time_stage("intake", plan.id):
                findings = await self._found(order, plan.proof)
            # the job has checked it too, but one that was taken over may claim any time
            check_time(Proven(findings.signature, findings.signed_at), origin.now, plan.max_future)
        except (VerifyError, ParseError):
            await asyncio.to_thread(evidence.keep, self._store, plan.id, body, self._clock(), plan.evidence)
            raise
        self._telemetry.record_amount("records", plan.id, findings.records)
        return Received(body, order, findings, state)

    async def _proven(self, order: Order, origin: Origin, folder: Path) -> Order:
        """The order for the list that was in the body, which a process of its own has verified. The next one gets
        neither the key nor what the list was wrapped in."""
        bound = order.max_bytes * DECOMPRESSED_FACTOR
        arguments = (order.body, folder, order.encoding, bound, origin)
        with _reasons(order, origin.proof, folder).kept():
            answer = await self._jobs.run(prove, *arguments, limits=_limits(order))
            with self._fits():
                listed, proven = read_proven(answer)
        return replace(order, body=candidates(order.body, folder)[listed], encoding="identity", origin=proven)

    async def _found(self, order: Order, proof: str) -> Findings:
        """Runs the intake job, and another job that checks the files which it left. Raises SourceError."""
        with _reasons(order, proof, order.work).kept():
            answer = await self._jobs.run(intake, order, limits=_limits(order))
            with self._fits():
                findings = read_findings(answer, order)
            checked = await self._jobs.run(check, order, findings, limits=_limits(order))
            with self._fits():
                if checked != {"fits": True}:
                    raise unfit()
        return findings

    @contextmanager
    def _fits(self) -> Iterator[None]:
        """Counts a job whose answer was refused in the block as dead (Telemetry.record_job_failure)."""
        try:
            yield
        except JobError as error:
            self._telemetry.record_job_failure(error.cause)
            raise

    @staticmethod
    def _folder(work: Path) -> Path:
        folder = work / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        return folder

    def _earlier(self, state: SourceState) -> Earlier | None:
        """What the next body is compared with, if it was read with the same settings and is on the disk as it was."""
        if not state.current or state.body is None or state.offered is None or state.report is None:
            return None
        files = self._store.sealed
        path = files.path
        found = asserted.place(files, state.offered)
        if found is None or not self._is_verified(state.body, state.offered):
            Event.SOURCE_BODY_DAMAGED.log(log, source=state.id)
            return None
        return Earlier(
            listed=path(state.body.listed),
            notes=path(state.body.notes),
            base=found.file,
            base_digest=found.base,
            overlay=found.overlay,
            records=state.report.records,
            types=state.report.types,
            dropped_attributes=state.report.dropped_attributes,
        )

    def _is_verified(self, body: Body, offered: Sha256) -> bool:
        """A damaged file is no base for anything."""
        try:
            entries = asserted.files_of(self._store.sealed, offered)
        except DamagedError:
            return False
        return all(self._verified.check(digest) for digest in (body.listed, body.notes, *entries))

    async def take_over(self, plan: SourcePlan, received: Received) -> IntakeReport:
        """Seals what the body asserts, under a digest of our own, as the source's newest word."""
        findings = received.findings
        with self._telemetry.time_stage("store_entries", plan.id):
            said = await asyncio.to_thread(self._asserted, received)
        before = received.state.report
        report = IntakeReport(
            body_sha256=received.body.sha256,
            asserted=said,
            length=findings.length,
            records=findings.records,
            types=findings.types,
            rejected=findings.rejected,
            first_rejected=findings.first_rejected,
            dropped_attributes=findings.dropped_attributes,
            signature=findings.signature,
            signed_at=findings.signed_at,
            key=plan.key_fingerprint if findings.signature else before.key if before else None,
            since=before.since if before and before.since and before.asserted == said else rfc3339(self._clock()),
        )
        for digest in await asyncio.to_thread(asserted.files_of, self._store.sealed, said):
            if self._verified.fingerprints.get(digest) is None:
                await asyncio.to_thread(self._verified.check, digest)
        await self._database.writing(lambda connection: take_over(connection, plan.id, report, plan.settings))
        return report

    async def keep(self, plan: SourcePlan, received: Received, said: Sha256) -> Body | None:
        """Keeps the body that asserts what was taken over, for the next to be compared with. One that is not kept costs
        time alone: all of the next is read."""
        try:
            with self._telemetry.time_stage("store_body", plan.id):
                body = await asyncio.to_thread(self._body, received)
                if body is None:
                    return None
                await self._database.writing(lambda connection: keep_body(connection, plan.id, body))
        except StoreError as error:
            Event.SOURCE_BODY_NOT_STORED.log(log, source=plan.id, reason=error)
            return None
        for digest in (body.listed, body.notes):
            self._verified.wrote(digest)
        return body

    def drop_page_cache(self, last: Body | None, kept: Body | None) -> None:
        """The new body is written to the disk, and the last one leaves the memory: no pull waits for that."""
        if kept is not None:
            self._store.sealed.begin_writing(kept.listed)
            if last is not None:
                uncache(self._store.sealed.path(last.listed))

    def _body(self, received: Received) -> Body | None:
        """Without notes there is nothing to follow a change with, and the body need not be kept."""
        files, order, listed = self._store.sealed, received.order, received.findings.listed
        if not order.notes.stat().st_size:
            return None
        arrived = received.body.sha256 if order.candidates[listed] == received.body.body else None
        return Body(files.keep(order.candidates[listed], arrived), files.keep(order.notes))

    def _asserted(self, received: Received) -> Sha256:
        """Seals what the body asserts; its digest."""
        findings, order, files = received.findings, received.order, self._store.sealed
        before = received.state.offered
        if findings.left == Left.CANONICAL:
            said = asserted.adopt(files, order.canonical)
            if before is None or order.earlier is not None:
                return said
            with suppress(StoreError, ValueError):  # all of the body was read: what it says may be what it said
                if asserted.lines_digest(files, before) == said:
                    return before
            return said
        if order.earlier is None or before is None:
            raise ParseError("the intake job answered with changes of nothing: the pull is not used")
        if findings.left == Left.OVERLAY:
            return asserted.adopt(files, order.overlay, before)
        return before

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """A folder for one pull, removed after it."""
        folder = self._store.work / secrets.token_hex(8)
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise StoreError(f"{folder.parent}: {error.strerror}: nothing can be pulled") from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
