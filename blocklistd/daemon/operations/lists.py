"""Operations on lists."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from sqlalchemy import Connection

from blocklistd.compose.compose import NAME_RULES
from blocklistd.daemon.commands.command import Document, require_examiner
from blocklistd.daemon.operations.free_text import FreeText
from blocklistd.errors import RefusedError
from blocklistd.model import Act, ListId, Version
from blocklistd.ops import status
from blocklistd.pipeline.freezing import Freezing
from blocklistd.serve.http import bodies
from blocklistd.serve.http.live_lists import ListView, LiveLists
from blocklistd.serve.http.renderings import StoredRenderings
from blocklistd.store import audit, guard_hits
from blocklistd.store.database import Database
from blocklistd.store.diffs import Reach, reach
from blocklistd.store.lists import list_state, version_rows
from blocklistd.times import Clock, rfc3339


class ListOperations:
    """The effects of `list versions`, `withheld`, `diff`, `freeze`, `resume` and `rollback`."""

    def __init__(
        self,
        database: Database,
        live_lists: LiveLists,
        renderings: StoredRenderings,
        freezing: Freezing,
        free_text: FreeText,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._database = database
        self._freezing = freezing
        self._free_text = free_text
        self._live_lists = live_lists
        self._renderings = renderings

    async def versions(self, list_id: ListId) -> Document:
        """The versions of a list, each with time, counts and releaser."""
        self._known(list_id)
        return await self._database.reading(lambda c: [status.version(made) for made in version_rows(c, list_id)])

    async def withheld(self, list_id: ListId, show_entries: bool, roles: frozenset[str], act: Act) -> Document:
        """What the live version withholds: the counts by rule, and the entries that guard files withhold by id, at most
        MAX_HITS. `show_entries`: also their types and values, for a user with the role examiner; the line of the audit
        has their number."""
        self._known(list_id)
        if show_entries:
            require_examiner(roles)

        def read(connection: Connection) -> Document:
            state = list_state(connection, list_id)
            rows = guard_hits.of_list(connection, list_id)
            rules = [rule for rule in NAME_RULES if rule in (state.withheld or ())]
            hits = {rule: [_hit(row, show_entries) for row in rows if row.rule == rule] for rule in rules}
            shown = {"list": list_id, "version": state.version, "withheld": state.withheld, "hits": hits}
            return shown | {"rolled_back": state.basis is not None}

        found = await self._database.reading(read)
        if show_entries:
            now, detail = self._clock(), {"entries": sum(map(len, found["hits"].values()))}
            await self._database.writing(lambda c: audit.append(c, act, list_id, now=now, detail=detail))
        return found

    async def diff(self, list_id: ListId, start: Version, end: Version, act: Act) -> web.StreamResponse:
        """The diff between two versions, as NDJSON. The line of the audit is written before the first byte is sent."""
        view = self._known(list_id)
        match reach(view.version, view.oldest_diff, start, end):
            case Reach.NEVER:
                last = f"found {start} and {end}, expected numbers from 1 to {view.version}, the newest version"
                raise RefusedError(f"list {list_id}: {last}")
            case Reach.TOO_OLD:
                raise RefusedError(
                    f"list {list_id}: diffs are kept from version {view.oldest_diff} on: choose a later version"
                )
        file = await self._renderings.open_diff(view, start, end, "identity")
        now, detail = self._clock(), {"from": start, "to": end}
        try:
            await self._database.writing(lambda c: audit.append(c, act, list_id, now=now, detail=detail))
        except BaseException:
            file.close()
            raise
        return bodies.stream_file(file)

    async def freeze(self, list_id: ListId, why: str, act: Act) -> Document:
        """Freezes a list. `why` must contain no entry."""
        self._database.require()
        await self._free_text.check("--why", why)
        await self._freezing.freeze(list_id, why, act)
        return {"list": list_id, "frozen": True}

    async def resume(self, list_id: ListId, act: Act) -> Document:
        """Ends the freeze of a list. Its configured policy and the entries of its sources are then offered to it; the
        `candidates` of the answer are those that are held."""
        self._database.require()
        held = await self._freezing.resume(list_id, act)
        live = await self._database.reading(lambda connection: list_state(connection, list_id).version)
        return {"list": list_id, "frozen": False, "version": live, "candidates": held}

    async def roll_back(self, list_id: ListId, target: Version, why: str | None, act: Act) -> Document:
        """Brings back the content of an earlier version, and freezes the list. `why` must contain no entry. `version`:
        the new version, null if none was made; `candidate`: with the additions, if they are held."""
        self._database.require()
        if why is not None:
            await self._free_text.check("--why", why)
        done = await self._freezing.roll_back(list_id, target, why or "", act)
        return {
            "list": list_id,
            "to": target,
            "version": done.version,
            "added": done.added,
            "removed": done.removed,
            "changed": done.changed,
            "candidate": done.held.id if done.held is not None else None,
            "held": done.held.added if done.held is not None else 0,
            "reason": "; ".join(map(str, done.held.reasons)) if done.held is not None else None,
        }

    def _known(self, list_id: ListId) -> ListView:
        view = self._live_lists.get(list_id)
        if view is None:
            names = ", ".join(view.id for view in self._live_lists) or "none"
            raise RefusedError(f"there is no such list: expected one of: {names}")
        return view


def _hit(row: Any, show_entries: bool) -> Document:
    shown = {"id": row.entry, "since": rfc3339(row.since)}
    return shown | {"type": row.type, "value": row.value} if show_entries else shown
