"""Keeps the static tree of `feed.public_dir` as new as the feed (store/public_files.py has the files).

Each list that is published requests an update; one update runs at a time, in a thread, and takes all lists as they then
are. An error is an alarm, and the update is tried again (ops/retried_tasks.py): the feed does not wait for the tree.
"""

from __future__ import annotations

import asyncio
import grp
from collections.abc import Callable, Coroutine
from typing import Any, Final

from blocklistd.config import Config, PublicDirSettings
from blocklistd.errors import DamagedError
from blocklistd.limits import PUBLIC_DIFFS, PUBLIC_GRACE
from blocklistd.model import ListId, Sha256, Version
from blocklistd.ops.retried_tasks import RetriedTasks
from blocklistd.pipeline.resources import Resources
from blocklistd.serve.http.live_lists import ListView, LiveLists
from blocklistd.store.database import Database
from blocklistd.store.diffs import deltas_between
from blocklistd.store.public_files import PublicFiles, PublicList
from blocklistd.store.store import Store

TASK: Final = "static tree"


class PublicTree:
    """The static tree of one daemon. `damaged` is called with the SHA-256 of a sealed file that is found damaged."""

    def __init__(
        self,
        resources: Resources,
        live_lists: LiveLists,
        tasks: RetriedTasks,
        in_background: Callable[[Coroutine[Any, Any, None]], object],
        damaged: Callable[[Sha256], None],
    ) -> None:
        self._store: Store = resources.store
        self._database: Database = resources.database
        self._live_lists = live_lists
        self._tasks = tasks
        self._in_background = in_background
        self._damaged = damaged
        self._settings: PublicDirSettings | None = None
        self._files: PublicFiles | None = None
        self._lists: frozenset[ListId] = frozenset()
        self._requested = False
        self._updating = asyncio.Lock()

    async def configure(self, config: Config) -> None:
        """Takes the folder and the lists of a configuration. A folder that is no longer configured stays as it is."""
        settings = config.feed.public_dir
        self._lists = frozenset(config.lists)
        missing = self._files is not None and not await asyncio.to_thread(self._files.root.is_dir)
        if settings != self._settings or missing:
            async with self._updating:
                self._settings, self._files = settings, None
        if settings is None:
            await self._tasks.do(TASK, _succeed)  # ends the alarm of a folder that was configured before
        self.request()

    def request(self, _: ListView | None = None) -> None:
        """Requests an update. Returns at once; called on the event loop."""
        if not self._requested and self._settings is not None and not self._store.read_only:
            self._requested = True
            self._in_background(self._tasks.do(TASK, self.update))

    async def update(self) -> None:
        """Brings all lists of the tree to their live version, and removes old files. Raises BlocklistError."""
        async with self._updating:
            self._requested, settings = False, self._settings
            if settings is None:
                return
            if self._files is None:
                gid = grp.getgrnam(settings.group).gr_gid
                made = PublicFiles(settings.path, gid, self._store.sealed, PUBLIC_GRACE)
                await asyncio.to_thread(made.prepare)
                self._files = made
            views = [view for view in self._live_lists if view.id in self._lists]
            try:
                await asyncio.to_thread(self._update, self._files, views)
            except DamagedError as error:
                self._damaged(Sha256(error.digest))
                raise

    def _update(self, files: PublicFiles, views: list[ListView]) -> None:
        failed: Exception | None = None
        for view in views:
            try:
                files.write(self._public_list(view))
            except Exception as error:  # the other lists are written first
                failed = failed or error
        if failed is not None:
            raise failed
        files.withdraw(set(self._lists))
        files.sweep()

    def _public_list(self, view: ListView) -> PublicList:
        """The files that the view's timestamp.json leads to, all versions of the root, and the newest diffs."""
        newest = {"snapshot": 0, "targets": 0}
        documents, roots = {}, {}
        for name, document in view.metadata.items():
            number, _, role = name.partition(".")
            role = role.removesuffix(".json")
            if role == "root":
                roots[f"metadata/{name}"] = document.body
            elif role in newest:
                newest[role] = max(newest[role], int(number))
        for name in (f"{number}.{role}.json" for role, number in newest.items()):
            documents[f"metadata/{name}"] = view.metadata[name].body
        sealed = {}
        if view.live is not None:
            sealed[f"targets/{view.live.sha256}.{view.id}.ndjson"] = view.live.sha256
            start = Version(max(view.oldest_diff, view.version - PUBLIC_DIFFS, 1))
            with self._database.read() as connection:
                deltas = deltas_between(connection, view.id, start, view.version)
            for before, digest in enumerate(deltas, start):
                if digest is not None:
                    sealed[f"diffs/{before}-{before + 1}"] = digest
        return PublicList(view.id, documents, roots, sealed, view.metadata["timestamp.json"].body)


async def _succeed() -> None:
    """The task that always succeeds."""
