"""The operation of `source evidence`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from typing import IO, Final

import orjson
from aiohttp import web

from blocklistd.daemon.commands.command import EXAMINER, Document
from blocklistd.daemon.operations.sources import require_source
from blocklistd.errors import RefusedError, store_errors
from blocklistd.limits import CHUNK
from blocklistd.model import Act, SourceId
from blocklistd.pipeline.arrivals import EvidenceKeeper
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.store import audit, evidence
from blocklistd.store.evidence import Listed
from blocklistd.store.evidence_record import EvidenceRecord
from blocklistd.times import rfc3339

FIELDS: Final = ("sha256", "signed", "key", "peer", "outcome", "reason", "candidate", "versions", "signature")
"""The fields that are null if a record can't be read."""


class EvidenceOperations:
    """The effect of `source evidence`. `plans` returns the plans of the running configuration."""

    def __init__(
        self, resources: Resources, keeper: EvidenceKeeper, plans: Callable[[], Mapping[SourceId, SourcePlan]]
    ) -> None:
        self._store = resources.store
        self._database = resources.database
        self._clock = resources.clock
        self._keeper = keeper
        self._plans = plans

    async def list_or_body(
        self, source: SourceId, body: str | None, roles: frozenset[str], act: Act
    ) -> web.StreamResponse:
        """The records of a source as JSON, newest first; or, for a user with the role examiner, the bytes of a body.

        A body is verified before its first byte is sent. Raises RefusedError, StoreError.
        """
        require_source(source, self._plans())
        plan = self._plans()[source]
        await self._keeper.finished()
        if body is None:
            kept = await asyncio.to_thread(evidence.listed, self._store, source, plan.evidence_key)
            return web.Response(body=orjson.dumps(list(map(_document, kept))), content_type="application/json")
        if not roles & EXAMINER:
            raise RefusedError(
                "--body needs the role examiner, since a body contains entries: give it to the user in "
                "control.operators, then run `blocklistd reload`"
            )
        file, record = await asyncio.to_thread(self._copy, plan, body)
        detail = {"body": body, "sha256": record.sha256 if record else None}
        now = self._clock()
        try:
            await self._database.writing(
                lambda connection: audit.append(connection, act, source, now=now, detail=detail)
            )
        except BaseException:
            file.close()
            raise
        return web.Response(body=_chunks(file), content_type="application/octet-stream")

    def _copy(self, plan: SourcePlan, name: str) -> tuple[IO[bytes], EvidenceRecord | None]:
        """A file without a name that has the bytes of a body, at its beginning; and the body's record."""
        with store_errors(self._store.work):
            file = tempfile.TemporaryFile(dir=self._store.work)  # noqa: SIM115 - closed once it was sent
            try:
                record = evidence.copy_body(self._store, plan.id, name, plan.evidence_key, file)
                file.seek(0)
            except BaseException:
                file.close()
                raise
        return file, record


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


def _document(one: Listed) -> Document:
    known = one.record.document() if one.record is not None else {}
    return {
        **dict.fromkeys(FIELDS),
        **known,
        "time": rfc3339(one.record.time if one.record is not None else one.time),
        "name": one.name,
        "verdict": one.verdict.value,
        "bytes": one.bytes,
        "has_body": one.body,
        "problem": one.problem,
    }
