"""Operations on held candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import orjson
from aiohttp import web

from blocklistd.config import Config
from blocklistd.daemon.commands.command import Document, require_examiner
from blocklistd.daemon.operations.free_text import FreeText
from blocklistd.errors import RefusedError
from blocklistd.model import Act, CandidateId
from blocklistd.ops import status
from blocklistd.pipeline.decide import Decisions
from blocklistd.pipeline.resources import Resources
from blocklistd.serve.http import bodies
from blocklistd.store import audit, candidates
from blocklistd.store.render import ServedFile


class CandidateOperations:
    """The effects of `candidate list`, `show`, `approve` and `reject`. `decided` is called after each decision."""

    def __init__(
        self,
        config: Callable[[], Config],
        resources: Resources,
        decisions: Decisions,
        free_text: FreeText,
        decided: Callable[[], None],
    ) -> None:
        self._config = config
        self._resources = resources
        self._database = resources.database
        self._decisions = decisions
        self._free_text = free_text
        self._decided = decided

    async def list(self) -> Document:
        """The held candidates."""
        rules = status.releases(self._config())
        return await self._database.reading(lambda connection: status.held(connection, rules))

    async def show(
        self, candidate: CandidateId, show_entries: bool, roles: frozenset[str], act: Act
    ) -> web.StreamResponse:
        """One candidate with its reasons, counts and decisions, as JSON; or, with `show_entries` for a user with the
        role examiner, its delta as NDJSON. The line of the audit is written before the first byte of that is sent.
        """
        rules = status.releases(self._config())
        if not show_entries:
            shown = await self._database.reading(
                lambda connection: status.candidate_in_full(connection, candidates.case(connection, candidate), rules)
            )
            return web.Response(body=orjson.dumps(shown), content_type="application/json")
        require_examiner(roles)
        case = await self._database.reading(lambda connection: candidates.case(connection, candidate))
        found, verified = case.candidate, self._resources.verified
        with verified.keeping([found.delta]):
            if not await asyncio.to_thread(verified.check, found.delta):
                raise RefusedError(
                    f"candidate {candidate} is {case.state}: its entries are not kept any more, or "
                    f"damaged: for those of a version, run `blocklistd list diff`"
                )
            file = await asyncio.to_thread(ServedFile, self._resources.store.sealed.path(found.delta))
        now, counts = self._resources.clock(), {name: getattr(found, name) for name in ("added", "removed", "changed")}
        detail = {"list": found.list, "entries": counts}
        try:
            await self._database.writing(
                lambda connection: audit.append(connection, act, candidate, now=now, detail=detail)
            )
        except BaseException:
            file.close()
            raise
        return bodies.stream_file(file)

    async def approve(self, candidate: CandidateId, excepted: Sequence[str], act: Act) -> Document:
        """Approves a candidate. `version`: the released one; `candidate`: the id of the candidate that is now held
        instead, because the list has a newer version and the change has another delta there; `missing`: how many
        approvals by other users are missing before it is released. `excepted`: ids of entries that are withheld
        instead."""
        self._database.require()
        done = await self._decisions.approve(candidate, act, excepted)
        self._decided()
        released = done.version is not None
        shown = {"id": candidate, "released": released, "version": done.version, "candidate": done.held}
        return shown | {"missing": done.missing, "excepted": list(done.excepted)}

    async def reject(self, candidate: CandidateId, why: str, act: Act) -> Document:
        """Rejects a candidate. `why` must contain no entry."""
        await self._free_text.check("--why", why)
        await self._decisions.reject(candidate, act, why)
        self._decided()
        return {"id": candidate, "rejected": True, "why": why}
