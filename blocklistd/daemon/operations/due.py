"""Operations on entries whose `lifetime` has come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from blocklistd.daemon.commands.command import Document
from blocklistd.daemon.operations.free_text import FreeText
from blocklistd.model import Act, ListId
from blocklistd.pipeline.due import DueEntries, DueEntry
from blocklistd.store.database import Database


class DueOperations:
    """The effects of `entry due` and `entry keep`. `count` counts the due entries again."""

    def __init__(
        self, database: Database, due: DueEntries, free_text: FreeText, count: Callable[[], Awaitable[None]]
    ) -> None:
        self._database = database
        self._due = due
        self._free_text = free_text
        self._count = count

    async def due(self, list_id: ListId) -> Document:
        """The entries that are due, by id."""
        found = await self._due.due(list_id)
        return {"list": list_id, "total": found.total, "entries": list(map(_document, found.entries))}

    async def keep(self, list_id: ListId, ids: Sequence[str], why: str, act: Act) -> Document:
        """Keeps entries for another term. `why` must contain no entry."""
        self._database.require()
        await self._free_text.check("--why", why)
        kept = await self._due.keep(list_id, ids, why, act)
        await self._count()
        return {"list": list_id, "entries": list(map(_document, kept))}


def _document(one: DueEntry) -> Document:
    names = ("id", "type", "ref", "term", "since", "due", "days")
    return {name: getattr(one, name) for name in names} | {"sources": list(one.sources)}
