"""The files behind the feed: each rendering is made once, however many ask for it at the same time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from blocklistd.jobs.runner import Jobs
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.limits import DIFF_CACHE, MAX_RENDERINGS, SMALL_DIFF
from blocklistd.model import ListId, Sha256, Version
from blocklistd.serve.catalogue import ListView
from blocklistd.versions.database import Database
from blocklistd.versions.diffs import logged_changes
from blocklistd.versions.render import SUFFIX, compress, diff_path, write_diff
from blocklistd.versions.store import Store

_SMALL_FILE: Final = 1 << 20  # bytes that are compressed in a thread; more go to a job


class StoredRenderings:
    """`snapshot`, `diff` and `compress` as serve.feed.Renderings says; raises StoreError."""

    def __init__(self, store: Store, database: Database, jobs: Jobs) -> None:
        self._store = store
        self._database = database
        self._jobs = jobs
        self._sealed = store.sealed
        self._made: dict[Path, asyncio.Future[None]] = {}
        self._slots = asyncio.Semaphore(MAX_RENDERINGS)

    def snapshot(self, digest: Sha256) -> Path:
        return self._sealed.path(digest)

    async def diff(self, view: ListView, start: Version, end: Version) -> Path:
        path = diff_path(self._store, view.session, start, end)

        async def make() -> None:
            rows = await asyncio.to_thread(self._logged, view.id, start, end)
            arguments = (self._store, view.id, view.session, start, end)
            if rows <= SMALL_DIFF:
                await asyncio.to_thread(write_diff, *arguments)
            else:
                await self._jobs.run(write_diff, *arguments, limits=COMMIT)

        await self._once(path, make)
        return path

    async def compress(self, path: Path, coding: str) -> None:
        async def make() -> None:
            if (await asyncio.to_thread(path.stat)).st_size <= _SMALL_FILE:
                await asyncio.to_thread(compress, path, coding)
            else:
                await self._jobs.run(compress, path, coding, limits=COMMIT)

        await self._once(path.with_name(path.name + SUFFIX[coding]), make)

    async def _once(self, path: Path, make: Callable[[], Awaitable[None]]) -> None:
        if await asyncio.to_thread(path.exists):
            return
        under_way = self._made.get(path)
        if under_way is None:
            # a task of its own: the one who asked first may go away, the others still wait
            under_way = self._made[path] = asyncio.ensure_future(self._bounded(make))
            under_way.add_done_callback(lambda _: self._made.pop(path, None))
        await asyncio.shield(under_way)

    async def _bounded(self, make: Callable[[], Awaitable[None]]) -> None:
        async with self._slots:
            await make()
            await asyncio.to_thread(self.trim)

    def _logged(self, list_id: ListId, start: Version, end: Version) -> int:
        with self._database.read() as connection:
            return logged_changes(connection, list_id, start, end)

    def trim(self) -> None:
        """Drops the diffs that were made longest ago, once those after them have DIFF_CACHE bytes; each can be made
        again. The newest is kept, whatever its size: somebody has just asked for it."""
        files = []
        for path in (path for folder in (self._store.diffs, self._store.ixfr) for path in folder.glob("*/[!.]*")):
            with contextlib.suppress(FileNotFoundError):  # dropped meanwhile: another rendering may just have ended
                files.append((path.stat(), path))
        total = 0
        for status, path in sorted(files, key=lambda item: -item[0].st_mtime):
            if total >= DIFF_CACHE:
                path.unlink(missing_ok=True)
            total += status.st_size
