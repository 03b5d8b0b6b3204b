"""Reads kept bodies again, in the same jobs as a pull, and seals the entries that they assert.

The evidence has the bytes as they arrived, and their digest is verified. Their origin was proven when they arrived. It
is proven again only where the list is wrapped in its signature, since only the proof unwraps it.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path

from blocklistd.errors import StoreError, VerifyError, store_errors
from blocklistd.model import Fetched, IntakeReport, Sha256, Validators
from blocklistd.pipeline.receive import Receiver
from blocklistd.pipeline.received import Received, figures_of, seal
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.sources.intake.job import IntakeRequest
from blocklistd.sources.intake.prove import Origin
from blocklistd.sources.proofs.proof import Proven
from blocklistd.store import asserted, evidence
from blocklistd.store.distrust import AcceptedBody
from blocklistd.store.evidence_record import EvidenceRecord
from blocklistd.store.pulls import SourceState


class Rereader(Receiver):
    """Makes the entries of accepted bodies available again."""

    def bodies(self, plan: SourcePlan) -> list[AcceptedBody]:
        """The accepted bodies of a source that are kept as evidence, newest first. It blocks. Raises StoreError."""
        found = evidence.listed(self._store, plan.id, plan.evidence_key)
        return [
            AcceptedBody(one.record.time, one.record.report, one.record.outcome, one.name)
            for one in found
            if one.body and one.record is not None and one.record.report is not None
        ]

    async def entries(self, plan: SourcePlan, body: AcceptedBody, work: Path) -> IntakeReport | None:
        """The report of a body whose entries are sealed: they are still, or the body was read again. None if neither is
        possible, since its bytes are not kept. Raises SourceError, StoreError."""
        if await asyncio.to_thread(self._is_sealed, body.report.asserted):
            return body.report
        return await self._read_again(plan, body, work) if body.evidence is not None else None

    async def empty_report(self, now: str, key: Sha256) -> IntakeReport:
        """The report of a source that asserts nothing. `now`: RFC 3339. `key`: of its newest body, so that the replay
        check of another key starts from nothing. Raises StoreError."""

        def seal() -> Sha256:
            with self._store.sealed.create() as draft:
                draft.write(b"")
            assert draft.sealed is not None
            self._verified.wrote(draft.sealed)
            return draft.sealed

        digest = await asyncio.to_thread(seal)
        return IntakeReport(digest, digest, 0, 0, {}, {}, {}, key=key, since=now)

    def _is_sealed(self, entries: Sha256) -> bool:
        try:
            return all(self._verified.check(digest) for digest in asserted.files_of(self._store.sealed, entries))
        except StoreError:
            return False

    async def _read_again(self, plan: SourcePlan, body: AcceptedBody, work: Path) -> IntakeReport:
        assert body.evidence is not None
        path = work / secrets.token_hex(8)
        record = await asyncio.to_thread(self._copy, plan, body.evidence, path)
        if record.continues:
            raise VerifyError("the body only continues the one before it: it can't be read again alone")
        request = IntakeRequest(
            body=path,
            work=self._new_folder(work),
            encoding=record.encoding,
            origin=Proven(body.report.signature, body.report.signed_at),
            format=plan.format,
            fields=plan.fields,
            defaults=plan.defaults,
            options=plan.options,
            max_bytes=plan.request(Validators()).max_bytes,
            may_be_empty=True,
        )
        is_wrapped = body.report.signature is not None and record.signature is None
        if is_wrapped or plan.needs_own_job:
            request = await self._unwrapped(plan, record, request, work)
        findings = await self._run_intake(request, plan.proof)
        fetched = Fetched(path, record.length, record.sha256, record.encoding)
        received = Received(fetched, request, findings, SourceState(plan.id))
        digest = await asyncio.to_thread(seal, received, self._store.sealed)
        for file in await asyncio.to_thread(asserted.files_of, self._store.sealed, digest):
            await asyncio.to_thread(self._verified.check, file)
        return replace(body.report, asserted=digest, **figures_of(findings))

    async def _unwrapped(
        self, plan: SourcePlan, record: EvidenceRecord, request: IntakeRequest, work: Path
    ) -> IntakeRequest:
        """The request for a list that is wrapped in its proof: it is proven again, as of its arrival."""
        if record.proof != plan.proof:
            raise VerifyError(
                f"the body was proven by {record.proof}, and `verify.method` is {plan.proof}: it can't be read again"
            )
        origin = Origin(
            plan.proof, plan.keys, record.signature, record.time, max_future=plan.max_future, secret=plan.secret
        )
        if plan.needs_own_job:
            return await self._prove_in_own_job(request, origin, self._new_folder(work))
        return replace(request, origin=origin)

    def _copy(self, plan: SourcePlan, name: str, path: Path) -> EvidenceRecord:
        with store_errors(path), open(path, "xb") as out:
            record = evidence.copy_body(self._store, plan.id, name, plan.evidence_key, out)
        assert record is not None, "`bodies` returns those with a record"
        return record
