"""Fetches, verifies and reads the body of one source, and seals the entries that it asserts.

Order of calls for one pull: `work_folder`, `receive`, then `accept_body`, `keep` and `drop_page_cache`. Until
`accept_body` nothing is changed in the store but the evidence of a refused body. The jobs that read hostile bytes get
paths in the work folder; what they write there is checked by another job (sources/intake/check.py), then sealed under a
digest that the daemon computes.

In the store, for each source: the entries that it asserts (a sealed file, or a patch of one), its last body as `Body`
(the list, decoded, and notes on its lines), with which the next body is compared, and the row in `sources`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from blocklistd.errors import DamagedError, FetchError, JobError, ParseError, StaleError, StoreError, VerifyError
from blocklistd.events import Event
from blocklistd.jobs.sandbox import INTAKE, JobLimits
from blocklistd.limits import DECOMPRESSED_FACTOR, INTAKE_FILE
from blocklistd.model import Fetched, IntakeReport, NotModified, Sha256, Validators
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.sources import reasons
from blocklistd.sources.intake.check import check
from blocklistd.sources.intake.entries import ResultForm
from blocklistd.sources.intake.findings import REJECTS, read_findings, read_proven, unexpected_result
from blocklistd.sources.intake.job import EarlierBody, Findings, IntakeRequest, intake
from blocklistd.sources.intake.prove import Origin, list_files, prove
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.proofs.proof import Proven, check_time
from blocklistd.sources.transports.fetch import fetch
from blocklistd.store import asserted, evidence
from blocklistd.store.files import drop_file_from_page_cache
from blocklistd.store.pulls import Body, SourceState, accept_body, set_body_files, source_state, superseded
from blocklistd.times import rfc3339

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """A body that was verified and read: the request to the job, with the files that the job wrote, and its findings.
    `state`: the state of the source before."""

    body: Fetched
    request: IntakeRequest
    findings: Findings
    state: SourceState


def _limits(request: IntakeRequest) -> JobLimits:
    return replace(INTAKE, file=max(INTAKE_FILE, request.max_bytes * DECOMPRESSED_FACTOR))


def _reasons(request: IntakeRequest, proof: str, folder: Path) -> reasons.AllowedMessages:
    """The error texts that are accepted from a job that reads the body; any other text is replaced."""
    ours = (request.format, proof, *map(repr, request.fields.values()))
    return reasons.AllowedMessages((*reasons.INTAKE, *PROOFS[proof].reasons), ours, folder, REJECTS)


class Receiver:
    """Runs the stages fetch, intake, store_entries and store_body, for one source at a time."""

    def __init__(self, resources: Resources) -> None:
        self._store = resources.store
        self._database = resources.database
        self._jobs = resources.jobs
        self._clock = resources.clock
        self._telemetry = resources.telemetry
        self._verified = resources.verified

    async def receive(self, plan: SourcePlan, work: Path, *, may_be_empty: bool) -> Received | SourceState:
        """Fetch, verify and read the body of a source. Returns the state of the source if its body has not changed.

        Body and signature are two requests, and a hotline may publish between them: on a mismatch both are fetched
        once more. Raises SourceError, StoreError.
        """

        if plan.unusable:
            raise FetchError(plan.unusable)

        def read(connection: Connection) -> SourceState:
            return source_state(connection, plan.id, plan.settings)

        state = await self._database.reading(read)
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
        assert isinstance(again, Fetched)  # an unconditional request
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
        """Verify and read a body in the sandboxed jobs. A body that is refused is kept as evidence."""
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
        request = IntakeRequest(
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
                request = await self._proven(request, origin, self._folder(work))
            with self._telemetry.time_stage("intake", plan.id):
                findings = await self._found(request, plan.proof)
            # again here: the job checked the time too, but a hostile body may have taken the job over
            check_time(Proven(findings.signature, findings.signed_at), origin.now, plan.max_future)
        except (VerifyError, ParseError):
            await asyncio.to_thread(evidence.keep, self._store, plan.id, body, self._clock(), plan.evidence)
            raise
        self._telemetry.record_amount("records", plan.id, findings.records)
        return Received(body, request, findings, state)

    async def _proven(self, request: IntakeRequest, origin: Origin, folder: Path) -> IntakeRequest:
        """Verify the body in a process of its own, for a proof with a secret key. Returns the request to the intake
        job: it has the verified list, and neither the key nor the envelope of the list."""
        bound = request.max_bytes * DECOMPRESSED_FACTOR
        arguments = (request.body, folder, request.encoding, bound, origin)
        with _reasons(request, origin.proof, folder).only_allowed():
            answer = await self._jobs.run(prove, *arguments, limits=_limits(request))
            with self._fits():
                listed, proven = read_proven(answer)
        return replace(request, body=list_files(request.body, folder)[listed], encoding="identity", origin=proven)

    async def _found(self, request: IntakeRequest, proof: str) -> Findings:
        """Run the intake job, then the job that checks the files that it wrote. Raises SourceError."""
        with _reasons(request, proof, request.work).only_allowed():
            answer = await self._jobs.run(intake, request, limits=_limits(request))
            with self._fits():
                findings = read_findings(answer, request)
            checked = await self._jobs.run(check, request, findings, limits=_limits(request))
            with self._fits():
                if checked != {"fits": True}:
                    raise unexpected_result()
        return findings

    @contextmanager
    def _fits(self) -> Iterator[None]:
        """Count a job whose answer is refused in the block as one that ended without a result."""
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

    def _earlier(self, state: SourceState) -> EarlierBody | None:
        """The last body, with which the next one is compared: if it was read with the same settings, and its files are
        intact."""
        if not state.current or state.body is None or state.offered is None or state.report is None:
            return None
        files = self._store.sealed
        path = files.path
        found = asserted.locate(files, state.offered)
        if found is None or not self._is_verified(state.body, state.offered):
            Event.SOURCE_BODY_DAMAGED.log(log, source=state.id)
            return None
        return EarlierBody(
            listed=path(state.body.listed),
            notes=path(state.body.notes),
            base=found.file,
            base_digest=found.base,
            patch=found.patch,
            records=state.report.records,
            types=state.report.types,
            dropped_attributes=state.report.dropped_attributes,
        )

    def _is_verified(self, body: Body, offered: Sha256) -> bool:
        """Whether all files of the last body, and of the entries that it asserts, are intact."""
        try:
            entries = asserted.files_of(self._store.sealed, offered)
        except DamagedError:
            return False
        return all(self._verified.check(digest) for digest in (body.listed, body.notes, *entries))

    async def accept_body(self, plan: SourcePlan, received: Received) -> IntakeReport:
        """Seal the entries that the body asserts, and record them as the source's newest. Returns the report of the
        pull. Raises ParseError if the job's files do not fit, StoreError."""
        findings = received.findings
        with self._telemetry.time_stage("store_entries", plan.id):
            digest = await asyncio.to_thread(self._seal, received)
        before = received.state.report
        report = IntakeReport(
            body_sha256=received.body.sha256,
            asserted=digest,
            length=findings.length,
            records=findings.records,
            types=findings.types,
            rejected=findings.rejected,
            first_rejected=findings.first_rejected,
            dropped_attributes=findings.dropped_attributes,
            signature=findings.signature,
            signed_at=findings.signed_at,
            key=plan.key_fingerprint if findings.signature else before.key if before else None,
            since=before.since if before and before.since and before.asserted == digest else rfc3339(self._clock()),
        )
        for file in await asyncio.to_thread(asserted.files_of, self._store.sealed, digest):
            if self._verified.fingerprints.get(file) is None:
                await asyncio.to_thread(self._verified.check, file)
        await self._database.writing(lambda connection: accept_body(connection, plan.id, report, plan.settings))
        return report

    async def keep(self, plan: SourcePlan, received: Received) -> Body | None:
        """Keep the body, so that the next one can be compared with it; None if it can't be kept. Without it, the next
        body is read completely, which costs time and nothing else."""
        try:
            with self._telemetry.time_stage("store_body", plan.id):
                body = await asyncio.to_thread(self._body, received)
                if body is None:
                    return None
                await self._database.writing(lambda connection: set_body_files(connection, plan.id, body))
        except StoreError as error:
            Event.SOURCE_BODY_NOT_STORED.log(log, source=plan.id, reason=error)
            return None
        for digest in (body.listed, body.notes):
            self._verified.wrote(digest)
        return body

    def drop_page_cache(self, last: Body | None, kept: Body | None) -> None:
        """Start to write the kept body to the disk, and drop the last one from the page cache. No pull waits for
        that."""
        if kept is not None:
            self._store.sealed.begin_writing(kept.listed)
            if last is not None:
                drop_file_from_page_cache(self._store.sealed.path(last.listed))

    def _body(self, received: Received) -> Body | None:
        """Store the body and its notes; None without notes, since a change could not be read without them."""
        files, request, listed = self._store.sealed, received.request, received.findings.listed
        if not request.notes.stat().st_size:
            return None
        arrived = received.body.sha256 if request.list_files[listed] == received.body.body else None
        return Body(files.adopt_unsynced(request.list_files[listed], arrived), files.adopt_unsynced(request.notes))

    def _seal(self, received: Received) -> Sha256:
        """Seal the entries that the body asserts. Returns their digest."""
        findings, request, files = received.findings, received.request, self._store.sealed
        before = received.state.offered
        if findings.left == ResultForm.CANONICAL:
            digest = asserted.adopt(files, request.canonical)
            if before is None or request.earlier is not None:
                return digest
            with suppress(StoreError, ValueError):  # the body was read completely: its entries may still be the same
                if asserted.lines_digest(files, before) == digest:
                    return before
            return digest
        if request.earlier is None or before is None:
            raise ParseError("the intake job answered with changes of nothing: the pull is not used")
        if findings.left == ResultForm.PATCH:
            return asserted.adopt(files, request.patch, before)
        return before

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """Make a folder for one pull, and remove it after the block. Raises StoreError."""
        folder = self._store.work / secrets.token_hex(8)
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise StoreError(
                f"{folder.parent}: {error.strerror}: no pull can start; check the space and the permissions there"
            ) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
