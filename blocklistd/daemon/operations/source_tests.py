"""Operations on the bodies of a source: a dry run of its pull, and the rejects of its newest body."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from blocklistd.config import Config
from blocklistd.daemon.commands.command import Document
from blocklistd.daemon.operations.sources import require_source
from blocklistd.errors import RefusedError
from blocklistd.jobs.sandbox import INTAKE
from blocklistd.model import Act, IntakeReport, SourceId
from blocklistd.pipeline.dry_run import DryRuns, Forecast, GivenBody, ListForecast
from blocklistd.pipeline.received import work_folder
from blocklistd.pipeline.resources import Resources
from blocklistd.serve.http import bodies
from blocklistd.sources.intake.rejects import NOT_OF_BODY, RejectsRequest, validated_count, write_rejects
from blocklistd.sources.reasons import AllowedMessages
from blocklistd.store import audit
from blocklistd.store.pulls import SourceState, source_state
from blocklistd.store.render import ServedFile
from blocklistd.times import rfc3339


class SourceTestOperations:
    """The effects of `source test` and `source rejects`. `config` returns the running configuration."""

    def __init__(self, config: Callable[[], Config], resources: Resources, dry_runs: DryRuns) -> None:
        self._config = config
        self._resources = resources
        self._dry_runs = dry_runs

    async def test(self, source: SourceId, upload: AsyncIterator[bytes] | None, signature: str | None) -> Document:
        """What a pull of the source would do. `upload`: a body to read in place of the source's; `signature`: of that
        body, in base64."""
        require_source(source, self._config().sources)
        self._resources.database.require()
        given = GivenBody(upload, _decoded(signature)) if upload is not None else None
        return self._document(await self._dry_runs.run(source, given))

    def _document(self, found: Forecast) -> Document:
        report, now = found.report, self._resources.clock()
        signed = report.signed if report is not None else None
        age = (now - signed).total_seconds() if signed is not None else None
        return {
            "source": found.source,
            "outcome": found.result.outcome.value,
            "reason": found.result.reason,
            "quarantine": found.quarantine,
            "verified": found.verified,
            **_figures(report),
            "lines": found.lines or ({code: [line] for code, line in report.first_rejected.items()} if report else {}),
            "signed": rfc3339(signed) if signed is not None else None,
            "age": round(age, 3) if age is not None else None,
            "overdue": signed is not None and now - signed > self._config().sources[found.source].max_age,
            "lists": {name: _list(one) for name, one in found.lists.items()},
        }

    async def rejects(self, source: SourceId, act: Act) -> web.StreamResponse:
        """The rejects of the newest body, as NDJSON. The line of the audit is written before the first byte is sent."""
        require_source(source, self._config().sources)
        resources, found = self._resources, self._config().sources[source]
        state = await resources.database.reading(lambda connection: source_state(connection, source))
        body = state.body
        if body is None:
            raise RefusedError(_why_no_body(source, state))
        with resources.verified.keeping((body.listed, body.notes)), work_folder(resources.store) as work:
            for digest in (body.listed, body.notes):
                if not await asyncio.to_thread(resources.verified.check, digest):
                    raise RefusedError(
                        f"{source}: its newest body is damaged on the disk: run `blocklistd source pull {source}`"
                    )
            path = resources.store.sealed.path
            request = RejectsRequest(
                listed=path(body.listed),
                notes=path(body.notes),
                out=work / "rejects",
                quoted=found.format == "csv",
                delimiter=found.options.delimiter,
            )
            with AllowedMessages((NOT_OF_BODY,), (), work).only_allowed():
                count = validated_count(await resources.jobs.run(write_rejects, request, limits=INTAKE))
            file = await asyncio.to_thread(ServedFile, request.out)
        try:
            await resources.database.writing(
                lambda connection: audit.append(
                    connection, act, source, now=resources.clock(), detail={"rejects": count}
                )
            )
        except BaseException:
            file.close()
            raise
        return bodies.stream_file(file)


def _decoded(signature: str | None) -> bytes | None:
    try:
        return base64.b64decode(signature, validate=True) if signature is not None else None
    except (binascii.Error, ValueError):
        raise RefusedError("--signature: expected base64") from None


def _why_no_body(source: SourceId, state: SourceState) -> str:
    """The reason why there is no body to take rejects from, with the next step."""
    if state.report is None:
        return f"{source}: no body of it was accepted yet: run `blocklistd source test {source}` to see why"
    return (
        f"{source}: its newest body is not stored: it has too many rejects, or the next pull reads it again: run "
        f"`blocklistd source test {source}`, which prints the line numbers"
    )


def _figures(report: IntakeReport | None) -> dict[str, Any]:
    """The figures of the body; null where it could not be read."""
    if report is None:
        empty: dict[str, Any] = {"types": {}, "rejected": {}, "withheld": {}}
        return {"records": None, "entries": None, **empty, "dropped_attributes": 0}
    return {
        "records": report.records,
        "entries": report.entries,
        "types": report.types,
        "rejected": report.refused,
        "withheld": report.withheld,
        "dropped_attributes": report.dropped_attributes,
    }


def _list(found: ListForecast) -> dict[str, Any]:
    """What the pull would do to one list; null where nothing was composed."""
    predicted = found.prediction
    return {
        "outcome": found.result.outcome.value,
        "reason": found.result.reason,
        "candidate": found.result.candidate,
        "base": found.base,
        "version": predicted.made if predicted else None,
        "entries": predicted.entries if predicted else None,
        "added": predicted.added if predicted else None,
        "removed": predicted.removed if predicted else None,
        "changed": predicted.changed if predicted else None,
        "withheld": predicted.withheld if predicted else {},
        "suffixes": predicted.suffixes if predicted else {},
        "reasons": [{"guard": r.guard, "limit": r.limit, "found": r.found} for r in predicted.reasons]
        if predicted
        else [],
    }
