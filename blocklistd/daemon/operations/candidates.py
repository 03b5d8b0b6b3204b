"""Operations on held candidates."""

from __future__ import annotations

from blocklistd.daemon.commands.command import Document
from blocklistd.daemon.operations.free_text import FreeText
from blocklistd.model import Act, CandidateId
from blocklistd.ops import status
from blocklistd.pipeline.decide import Decisions
from blocklistd.store import candidates
from blocklistd.store.database import Database


class CandidateOperations:
    """The effects of `candidate list`, `show`, `approve` and `reject`."""

    def __init__(self, database: Database, decisions: Decisions, free_text: FreeText) -> None:
        self._database = database
        self._decisions = decisions
        self._free_text = free_text

    async def list(self) -> Document:
        """The held candidates."""
        return await self._database.reading(status.held)

    async def show(self, candidate: CandidateId) -> Document:
        """One candidate with its reasons, counts and decisions."""
        return await self._database.reading(lambda c: status.candidate_in_full(c, candidates.case(c, candidate)))

    async def approve(self, candidate: CandidateId, act: Act) -> Document:
        """Approves a candidate. `version`: the released one; `candidate`: the id of the candidate that is now held
        instead, because the list has a newer version and the change has another delta there."""
        self._database.require()
        done = await self._decisions.approve(candidate, act)
        released = done.version is not None
        return {"id": candidate, "released": released, "version": done.version, "candidate": done.held}

    async def reject(self, candidate: CandidateId, why: str, act: Act) -> Document:
        """Rejects a candidate. `why` must contain no entry."""
        await self._free_text.check("--why", why)
        await self._decisions.reject(candidate, act, why)
        return {"id": candidate, "rejected": True, "why": why}
