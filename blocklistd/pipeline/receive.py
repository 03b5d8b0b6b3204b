"""Fetches, verifies and reads the body of one source, and seals the entries that it asserts.

Order of calls for one pull: `work_folder`, `receive`, then `accept_body`, `keep` and `drop_page_cache`. Before
`accept_body`, nothing is written to the store. The jobs that read hostile bytes write files to the work folder. Another
job checks these files (sources/intake/check.py); then the daemon seals them, under digests that it computes itself.

In the store, for each source:

- the entries that it asserts: a sealed file, or a patch of one;
- its last body (`Body`), with which the next body is compared: the decoded list, and the notes on its lines;
- its row in `sources`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from blocklistd.errors import (
    DamagedError,
    DistrustedError,
    FetchError,
    JobError,
    ParseError,
    SourceError,
    StaleError,
    StoreError,
    VerifyError,
)
from blocklistd.events import Event
from blocklistd.jobs.sandbox import INTAKE, JobLimits
from blocklistd.limits import DECOMPRESSED_FACTOR, INTAKE_FILE
from blocklistd.model import Fetched, IntakeReport, NotModified, Sha256, Validators
from blocklistd.pipeline.arrivals import Arrivals
from blocklistd.pipeline.received import Received, report_of, seal
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.sources import reasons
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.intake.check import check
from blocklistd.sources.intake.findings import REJECTS, read_findings, read_proven, unexpected_result
from blocklistd.sources.intake.job import EarlierBody, Findings, IntakeRequest, intake
from blocklistd.sources.intake.prove import Origin, list_files, prove
from blocklistd.sources.proofs import PROOFS, openpgp_decrypt
from blocklistd.sources.proofs.proof import check_time
from blocklistd.sources.transports.fetch import fetch
from blocklistd.store import asserted
from blocklistd.store.distrust import distrusted_keys, refuse_distrusted
from blocklistd.store.files import drop_file_from_page_cache
from blocklistd.store.pulls import Body, SourceState, accept_body, set_body_files, source_state
from blocklistd.store.replays import histories_for, superseded

log: Final = logging.getLogger(__name__)


def _limits(request: IntakeRequest) -> JobLimits:
    return replace(INTAKE, file=max(INTAKE_FILE, request.max_bytes * DECOMPRESSED_FACTOR))


def _allowed_messages(request: IntakeRequest, proof: str, folder: Path) -> reasons.AllowedMessages:
    """The error texts that are accepted from a job that reads the body; any other text is replaced."""
    options = request.options
    written = (
        *request.fields.values(),
        options.get("records", ""),
        *options.get("where", ()),
        *options.get("unless", ()),
    )
    ours = (request.format, proof, *map(repr, written))
    of_source = (*PROOFS[proof].reasons, *openpgp_decrypt.REASONS, *FORMATS[request.format].reasons)
    known = (*reasons.INTAKE, *of_source)
    return reasons.AllowedMessages(known, ours, folder, REJECTS)


class Receiver:
    """Runs the stages fetch, intake, store_entries and store_body, for one source at a time."""

    def __init__(self, resources: Resources) -> None:
        self._store = resources.store
        self._database = resources.database
        self._jobs = resources.jobs
        self._clock = resources.clock
        self._telemetry = resources.telemetry
        self._verified = resources.verified

    async def receive(
        self, plan: SourcePlan, work: Path, arrivals: Arrivals, *, may_be_empty: bool
    ) -> Received | SourceState:
        """Fetch, verify and read the body of a source. Returns the state of the source if its body has not changed.

        Body and signature are two requests, and a hotline may publish between them: on a mismatch both are fetched
        once more. So is a body that does not continue the last one as it should. Raises SourceError, StoreError.
        """

        if plan.unusable:
            raise FetchError(plan.unusable)

        def read(connection: Connection) -> SourceState:
            return source_state(connection, plan.id, plan.settings)

        state = await self._database.reading(read)
        # the hotline may have signed the same body again: only an unconditional request gets the new signature
        is_old = state.signed is not None and self._clock() - state.signed > plan.max_age / 2
        earlier = await asyncio.to_thread(self._earlier, state)
        can_continue = earlier is not None or state.validators.position is None
        known = state.validators if can_continue and not is_old else Validators()
        if state.is_expired(self._clock()):  # "not modified" would be an answer without a valid proof
            known = Validators(position=known.position)
        body = await self._fetch(plan, known, work)
        if isinstance(body, NotModified):
            return state
        try:
            return await self._read(plan, state, body, earlier, work, arrivals, may_be_empty)
        except (StaleError, DistrustedError):
            raise
        except (VerifyError, ParseError) as error:
            if not body.continues and (body.signature is None or isinstance(error, ParseError)):
                raise
        again = await self._fetch(plan, Validators(), work)
        assert isinstance(again, Fetched)  # an unconditional request
        return await self._read(plan, state, again, earlier, work, arrivals, may_be_empty)

    async def _fetch(self, plan: SourcePlan, validators: Validators, work: Path) -> Fetched | NotModified:
        with self._telemetry.time_stage("fetch", plan.id):
            body = await fetch(plan.request(validators), work, self._jobs)
        if isinstance(body, Fetched):
            self._telemetry.record_amount("fetched_bytes", plan.id, body.length)
        return body

    async def _read(
        self,
        plan: SourcePlan,
        state: SourceState,
        body: Fetched,
        earlier: EarlierBody | None,
        work: Path,
        arrivals: Arrivals,
        may_be_empty: bool,
    ) -> Received:
        """Verify and read a body in the sandboxed jobs."""
        folder = self._new_folder(work)
        await arrivals.add(body)
        known = await self._database.reading(lambda connection: superseded(connection, plan.id))
        origin = Origin(
            proof=plan.proof,
            keys=plan.keys,
            signature=body.signature,
            now=self._clock(),
            last_signature=state.signature,
            histories=histories_for(state.histories, plan.fingerprints, plan.location),
            superseded=tuple(known),
            max_future=plan.max_future,
            url=plan.request(Validators()).url,
            secret=plan.secret,
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
            earlier=earlier,
            continues=body.continues,
        )
        try:
            if plan.needs_own_job:
                request = await self._prove_in_own_job(request, origin, self._new_folder(work))
            with self._telemetry.time_stage("intake", plan.id):
                findings = await self._run_intake(request, plan.proof)
            # the job has checked the time already, but a hostile body may have taken the job over
            check_time(findings.proven, origin.now, plan.max_future)
            distrusted = await self._database.reading(lambda connection: distrusted_keys(connection, plan.id))
            refuse_distrusted(distrusted, findings.proven.key)
        except SourceError as error:
            arrivals.refuse(str(error))
            raise
        self._telemetry.record_amount("records", plan.id, findings.records)
        return Received(body, request, findings, state)

    async def _prove_in_own_job(self, request: IntakeRequest, origin: Origin, folder: Path) -> IntakeRequest:
        """Verify the body in a process of its own, for a proof with a secret key. Returns the request to the intake
        job: it has the verified list, and neither the key nor the envelope of the list."""
        bound = request.max_bytes * DECOMPRESSED_FACTOR
        arguments = (request.body, folder, request.encoding, bound, origin)
        with _allowed_messages(request, origin.proof, folder).only_allowed():
            answer = await self._jobs.run(prove, *arguments, limits=_limits(request))
            with self._counting_refusal():
                listed, proven = read_proven(answer, origin)
        return replace(request, body=list_files(request.body, folder)[listed], encoding="identity", origin=proven)

    async def _run_intake(self, request: IntakeRequest, proof: str) -> Findings:
        """Run the intake job, then the job that checks the files that it wrote. Raises SourceError."""
        with _allowed_messages(request, proof, request.work).only_allowed():
            answer = await self._jobs.run(intake, request, limits=_limits(request))
            with self._counting_refusal():
                findings = read_findings(answer, request)
            checked = await self._jobs.run(check, request, findings, limits=_limits(request))
            with self._counting_refusal():
                if checked != {"fits": True}:
                    raise unexpected_result()
        return findings

    @contextmanager
    def _counting_refusal(self) -> Iterator[None]:
        """If the block refuses a job's answer, count the job as failed."""
        try:
            yield
        except JobError as error:
            self._telemetry.record_job_failure(error.cause)
            raise

    @staticmethod
    def _new_folder(work: Path) -> Path:
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
        with self._telemetry.time_stage("store_entries", plan.id):
            digest = await asyncio.to_thread(seal, received, self._store.sealed)
        report = report_of(received, digest, self._clock())
        for file in await asyncio.to_thread(asserted.files_of, self._store.sealed, digest):
            if self._verified.fingerprints.get(file) is None:
                await asyncio.to_thread(self._verified.check, file)
        await self._database.writing(
            lambda connection: accept_body(
                connection, plan.id, report, plan.settings, keys=plan.fingerprints, location=plan.location
            )
        )
        return report

    async def keep(self, plan: SourcePlan, received: Received) -> Body | None:
        """Keep the body, so that the next one can be compared with it; None if it can't be kept. Without it, the next
        body is read completely, which costs time and nothing else."""
        try:
            with self._telemetry.time_stage("store_body", plan.id):
                body = await asyncio.to_thread(self._store_body, received)
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

    def _store_body(self, received: Received) -> Body | None:
        """Store the body and its notes; None without notes, since a change could not be read without them."""
        files, request, listed = self._store.sealed, received.request, received.findings.listed
        if not request.notes.stat().st_size:
            return None
        arrived = received.body.sha256 if request.list_files[listed] == received.body.body else None
        return Body(files.adopt_unsynced(request.list_files[listed], arrived), files.adopt_unsynced(request.notes))
