"""Operations on lists."""

from __future__ import annotations

from aiohttp import web

from blocklistd.daemon.commands.command import Document
from blocklistd.errors import RefusedError
from blocklistd.model import ListId, Version
from blocklistd.ops import status
from blocklistd.serve.http import bodies
from blocklistd.serve.http.live_lists import ListView, LiveLists
from blocklistd.serve.http.renderings import StoredRenderings
from blocklistd.store.database import Database
from blocklistd.store.diffs import Reach, reach
from blocklistd.store.lists import version_rows


class ListOperations:
    """The effects of `list versions` and `list diff`."""

    def __init__(self, database: Database, live_lists: LiveLists, renderings: StoredRenderings) -> None:
        self._database = database
        self._live_lists = live_lists
        self._renderings = renderings

    async def versions(self, list_id: ListId) -> Document:
        """The versions of a list, each with time, counts and releaser."""
        self._known(list_id)
        return await self._database.reading(lambda c: [status.version(made) for made in version_rows(c, list_id)])

    async def diff(self, list_id: ListId, start: Version, end: Version) -> web.StreamResponse:
        """The diff between two versions, as NDJSON."""
        view = self._known(list_id)
        match reach(view.version, view.oldest_diff, start, end):
            case Reach.NEVER:
                raise RefusedError(f"list {list_id} has the versions 1 to {view.version}: choose two of them")
            case Reach.TOO_OLD:
                raise RefusedError(
                    f"list {list_id}: diffs are kept from version {view.oldest_diff} on: choose a later version"
                )
        return bodies.stream_file(await self._renderings.open_diff(view, start, end, "identity"))

    def _known(self, list_id: ListId) -> ListView:
        view = self._live_lists.get(list_id)
        if view is None:
            names = ", ".join(view.id for view in self._live_lists) or "none"
            raise RefusedError(f"there is no such list: expected one of: {names}")
        return view
