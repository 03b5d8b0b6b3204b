"""Operations that correct single entries of a list."""

from __future__ import annotations

from sqlalchemy import Connection

from blocklistd.change import Correction, CorrectionKind
from blocklistd.daemon.commands.command import Document
from blocklistd.daemon.commands.moments import moment_after
from blocklistd.daemon.operations.free_text import FreeText
from blocklistd.model import Act, ListId
from blocklistd.pipeline.corrections import Corrections
from blocklistd.store import candidates
from blocklistd.store.database import Database
from blocklistd.store.lists import list_state
from blocklistd.times import Clock, rfc3339

RESTORED = (CorrectionKind.DELISTED, CorrectionKind.EXCEPTED)
RELEASED = (CorrectionKind.EMBARGOED,)


class CorrectionOperations:
    """The effects of `entry delist`, `restore`, `embargo`, `release` and `corrections`."""

    def __init__(self, database: Database, corrections: Corrections, free_text: FreeText, clock: Clock) -> None:
        self._database = database
        self._corrections = corrections
        self._free_text = free_text
        self._clock = clock

    async def delist(self, list_id: ListId, entry: str, why: str, until: str | None, act: Act) -> Document:
        """Takes an entry out. `why` must contain no entry."""
        return await self._place(list_id, entry, CorrectionKind.DELISTED, why, until, "", act)

    async def embargo(self, list_id: ListId, entry: str, why: str, until: str, owner: str, act: Act) -> Document:
        """Keeps an entry unpublished. `why` and `owner` must contain no entry."""
        return await self._place(list_id, entry, CorrectionKind.EMBARGOED, why, until, owner, act)

    async def _place(
        self, list_id: ListId, entry: str, kind: CorrectionKind, why: str, until: str | None, owner: str, act: Act
    ) -> Document:
        self._database.require()
        await self._free_text.check("--why", why)
        if owner:
            await self._free_text.check("--owner", owner)
        ends = moment_after(until, self._clock()) if until is not None else None
        done = await self._corrections.place(list_id, entry, kind, why, act, until=ends, owner=owner)
        return {
            "list": list_id,
            "kind": kind.value,
            "version": done.version,
            "until": rfc3339(ends) if ends is not None else None,
            "entries": [
                {
                    "id": one.id,
                    "type": one.type,
                    "live": one.live is not None,
                    "covered_by": done.covered.get(one.id, []),
                }
                for one in done.entries
            ],
        }

    async def restore(self, list_id: ListId, entry: str, why: str, act: Act) -> Document:
        """Requests the end of a delisting. `why` must contain no entry."""
        return await self._end(list_id, entry, RESTORED, why, act)

    async def release(self, list_id: ListId, entry: str, why: str, act: Act) -> Document:
        """Requests the end of an embargo. `why` must contain no entry."""
        return await self._end(list_id, entry, RELEASED, why, act)

    async def _end(
        self, list_id: ListId, entry: str, kinds: tuple[CorrectionKind, ...], why: str, act: Act
    ) -> Document:
        self._database.require()
        await self._free_text.check("--why", why)
        done = await self._corrections.end(list_id, entry, kinds, why, act)
        return {
            "list": list_id,
            "outcome": done.result.outcome.value,
            "reason": done.result.reason,
            "candidate": done.result.candidate,
            "version": done.version,
            "entries": [{"id": one.entry, "type": one.type, "kind": one.kind.value} for one in done.ended],
        }

    async def list(self, list_id: ListId) -> Document:
        """The corrections in force, by id. Raises RefusedError if the list is not configured."""
        self._corrections.plan(list_id)

        def read(connection: Connection) -> Document:
            held = {
                number: case.candidate.id
                for case in candidates.held(connection, list_id)
                for number in case.candidate.change.lifts
            }
            return [_document(one, held.get(one.number)) for one in list_state(connection, list_id).corrections]

        return await self._database.reading(read)


def _document(one: Correction, held: str | None) -> Document:
    return {
        "entry": one.entry,
        "type": one.type,
        "kind": one.kind.value,
        "since": rfc3339(one.created) if one.created is not None else None,
        "until": rfc3339(one.until) if one.until is not None else None,
        "user": one.user,
        "owner": one.owner or None,
        "why": one.why,
        "candidate": held,
    }
