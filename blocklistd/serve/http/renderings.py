"""The files that the feed sends. Nothing is sent of a file that was not verified.

A sealed file (a snapshot, or the delta of a version, which is the diff from the version before) is what its name says
if its SHA-256 is: `Verified` says so by one stat as long as the file has not been written since. All other files are
renderings: diffs between versions further apart, and what is compressed. Each is made once, however many ask for it at
the same time, and its fingerprint is remembered. A rendering whose fingerprint is another or unknown is made again.

A snapshot's zstd rendering is made once the version is live (`prepare`), its gzip rendering when it is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Hashable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from blocklistd.errors import BlocklistError, DamagedError, StoreError, store_errors, without_text
from blocklistd.events import Event
from blocklistd.jobs.runner import Jobs
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.limits import DIFF_CACHE, MAX_RENDERINGS, SMALL_DIFF
from blocklistd.model import ListId, Sha256, Version
from blocklistd.serve.http.catalogue import ListView
from blocklistd.serve.http.problems import Problem
from blocklistd.store.database import Database
from blocklistd.store.diffs import changes_between, deltas_between
from blocklistd.store.render import OpenedFile, compress, diff_path, rendering_path, write_diff
from blocklistd.store.store import Store
from blocklistd.store.verified import Verified

log: Final = logging.getLogger(__name__)
_SMALL_FILE: Final = 1 << 20  # bytes that are compressed in a thread; more go to a job
_LARGE_DIFF: Final = 50_000  # lines of deltas that are netted by several processes
_TRIES: Final = 2  # a file that changes between two looks is looked at again

_Open = Callable[[], Awaitable[OpenedFile]]
_Make = Callable[[], Awaitable[str]]
"""Makes a rendering and answers its fingerprint."""


class StoredRenderings:
    """`open_snapshot` and `open_diff` as serve.feed.Renderings says.

    `damaged` is called with the digest of each sealed file that is found missing or damaged: it starts the repair.
    """

    def __init__(
        self, store: Store, database: Database, jobs: Jobs, verified: Verified, damaged: Callable[[Sha256], None]
    ) -> None:
        self._damaged = damaged
        self._store = store
        self._database = database
        self._jobs = jobs
        self._verified = verified
        self._sealed = store.sealed
        self._fingerprints: dict[Path, str] = {}
        """Of each rendering when it was made."""
        self._under_way: dict[Hashable, asyncio.Future[None]] = {}
        self._preparing: dict[Sha256, asyncio.Future[None]] = {}
        self._slots = asyncio.Semaphore(MAX_RENDERINGS)

    # -- what the feed asks for ------------------------------------------------------------------------------------

    async def open_snapshot(self, digest: Sha256, coding: str, *, wait: bool = False) -> OpenedFile:
        """The snapshot in a coding; without `wait` as it is, where its zstd rendering is not there yet.

        Raises DamagedError if it is missing or damaged.
        """
        path, source = self._sealed.path(digest), functools.partial(self._open_sealed, digest)
        if coding == "zstd" and not wait:
            made = await asyncio.to_thread(self._open_made, rendering_path(path, coding), coding)
            if made is not None:
                return made
            if digest not in self._preparing:
                task = self._preparing[digest] = asyncio.ensure_future(self.prepare(digest))
                task.add_done_callback(lambda _: self._preparing.pop(digest, None))
            coding = "identity"
        return await self._open_coded(path, source, coding)

    async def open_diff(self, view: ListView, start: Version, end: Version, coding: str) -> OpenedFile:
        """The diff between two kept versions in a coding, made first if it is not there.

        Raises DamagedError if a delta between them is missing or damaged, Problem 410 if one is not kept any more.
        """
        path, source = await self._locate_diff(view, start, end)
        return await self._open_coded(path, source, coding)

    async def prepare(self, digest: Sha256) -> None:
        """Makes the zstd rendering of a snapshot, if it is not there. Raises nothing: an error is logged."""
        path, source = self._sealed.path(digest), functools.partial(self._open_sealed, digest)
        try:
            made = await self._open_rendering(path, source, "zstd")
            made.close()
        except DamagedError:
            pass  # logged where it was found
        except BlocklistError as error:
            Event.RENDERING_NOT_MADE.log(log, coding="zstd", file=digest, reason=error)
        except Exception as error:
            Event.RENDERING_NOT_MADE.log(
                log, coding="zstd", file=digest, reason=type(error).__name__, exc_info=without_text(error)
            )

    # -- sealed files ----------------------------------------------------------------------------------------------

    async def _open_sealed(self, digest: Sha256) -> OpenedFile:
        opened = await self._open_after(
            functools.partial(self._open_verified, digest), digest, functools.partial(self._check, digest)
        )
        if opened is None:
            raise self._is_damaged(DamagedError(digest))
        return opened

    def _open_verified(self, digest: Sha256) -> OpenedFile | None:
        return _open_if(self._sealed.path(digest), "identity", self._verified.fingerprints.get(digest))

    async def _check(self, digest: Sha256) -> None:
        """Reads a file whose fingerprint is another or unknown; raises DamagedError if it is not what its name says."""
        if not await asyncio.to_thread(self._verified.check, digest):
            raise self._is_damaged(DamagedError(digest))

    def _is_damaged(self, error: DamagedError) -> DamagedError:
        Event.FILE_NOT_SENT.log(log, file=error.digest)
        self._damaged(Sha256(error.digest))
        return error

    # -- renderings ------------------------------------------------------------------------------------------------

    async def _locate_diff(self, view: ListView, start: Version, end: Version) -> tuple[Path, _Open]:
        """Where the diff is, and what opens it."""
        if end == start + 1:
            digest = await asyncio.to_thread(self._delta, view.id, end)
            return self._sealed.path(digest), functools.partial(self._open_sealed, digest)
        path = diff_path(self._store, view.session, start, end)
        make = functools.partial(self._write_diff, view, start, end)
        return path, functools.partial(self._open_or_make, path, "identity", make)

    async def _open_coded(self, path: Path, source: _Open, coding: str) -> OpenedFile:
        if coding != "identity":
            try:
                return await self._open_rendering(path, source, coding)
            except DamagedError:
                raise
            except BlocklistError as error:  # no room for it, perhaps: the file goes out as it is
                Event.RENDERING_NOT_MADE.log(log, coding=coding, file=path.name, reason=error)
        return await source()

    async def _open_rendering(self, path: Path, source: _Open, coding: str) -> OpenedFile:
        make = functools.partial(self._compress, source, coding)
        return await self._open_or_make(rendering_path(path, coding), coding, make)

    async def _open_or_make(self, path: Path, coding: str, make: _Make) -> OpenedFile:
        opened = await self._open_after(
            functools.partial(self._open_made, path, coding), path, functools.partial(self._make, path, make)
        )
        if opened is None:
            raise StoreError(f"{path.name}: another program changes the file as soon as it is made")
        return opened

    def _open_made(self, path: Path, coding: str) -> OpenedFile | None:
        return _open_if(path, coding, self._fingerprints.get(path))

    async def _make(self, path: Path, make: _Make) -> None:
        self._fingerprints.pop(path, None)
        with store_errors(path.parent):
            await asyncio.to_thread(path.unlink, missing_ok=True)
        self._fingerprints[path] = await make()
        await asyncio.to_thread(self.trim)

    async def _write_diff(self, view: ListView, start: Version, end: Version) -> str:
        lines, fingerprints = await asyncio.to_thread(self._deltas, view.id, start, end)
        arguments = (self._store, view.id, view.session, start, end, fingerprints)
        try:
            made = await self._run(lines <= SMALL_DIFF, write_diff, *arguments, lines > _LARGE_DIFF)
        except DamagedError as error:
            raise self._is_damaged(error) from None
        self._verified.learn(made["verified"])
        return str(made["fingerprint"])

    async def _compress(self, source: _Open, coding: str) -> str:
        with await source() as original:
            small = original.length <= _SMALL_FILE
            return str(await self._run(small, compress, original.path, coding, original.fingerprint))

    async def _run(self, small: bool, work: Callable[..., Any], *arguments: Any) -> Any:
        async with self._slots:
            if small:
                return await asyncio.to_thread(work, *arguments)
            return await self._jobs.run(work, *arguments, limits=COMMIT)

    async def _open_after(
        self, look: Callable[[], OpenedFile | None], key: Hashable, work: Callable[[], Awaitable[None]]
    ) -> OpenedFile | None:
        """What `look` opens, at once or after the work."""
        for _ in range(_TRIES):
            opened = await asyncio.to_thread(look)
            if opened is not None:
                return opened
            await self._once(key, work)
        return await asyncio.to_thread(look)

    async def _once(self, key: Hashable, work: Callable[[], Awaitable[None]]) -> None:
        """Runs the work, or waits for it where it is under way."""
        under_way = self._under_way.get(key)
        if under_way is None:
            # a task of its own: the one who asked first may go away, the others still wait
            under_way = self._under_way[key] = asyncio.ensure_future(work())
            under_way.add_done_callback(lambda _: self._under_way.pop(key, None))
        await asyncio.shield(under_way)

    def _delta(self, list_id: ListId, version: Version) -> Sha256:
        with self._database.read() as connection:
            found = deltas_between(connection, list_id, Version(version - 1), version)
        if not found or found[0] is None:
            raise _pruned()
        return found[0]

    def _deltas(self, list_id: ListId, start: Version, end: Version) -> tuple[int, dict[Sha256, str]]:
        """How many lines the deltas between two versions have, and the fingerprints of those that were verified."""
        with self._database.read() as connection:
            lines = changes_between(connection, list_id, start, end)
            deltas = deltas_between(connection, list_id, start, end)
        if None in deltas:
            raise _pruned()
        return lines, self._verified.of(deltas)

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
        for path in list(self._fingerprints):
            if not path.exists():
                self._fingerprints.pop(path, None)


def _pruned() -> Problem:
    """A delta was dropped after the catalogue was read."""
    return Problem(HTTPStatus.GONE, "diffs start at a later version by now: take the snapshot")


def _open_if(path: Path, coding: str, expected: str | None) -> OpenedFile | None:
    """The file, if it is there and has this fingerprint. Raises StoreError where it can't be opened."""
    if expected is None:
        return None
    try:
        with store_errors(path.parent):
            opened = OpenedFile(path, coding)
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    if opened.fingerprint == expected:
        return opened
    opened.close()
    return None
