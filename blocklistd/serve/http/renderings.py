"""Opens the files that the HTTPS server sends. No byte is sent of a file that is not verified.

Sealed files are the snapshots, and the deltas (the diff from one version to the next). Their name has their SHA-256.
    verified      the stat fingerprint in `Verified` is that of the file: opened without a read
    unknown       any other fingerprint: read and compared with the SHA-256, then verified or damaged
    damaged       DamagedError, and `damaged` is called, which starts the repair
Renderings are all other files: compressed files, exports, and diffs between versions that are further apart.
    made          the stat fingerprint is the one at the time when this process made the file: opened
    unknown       any other fingerprint, or no file: made again, once for all requests that wait for it
    dropped       by `trim`, the longest unused first, while all diffs and exports together exceed DIFF_CACHE bytes
A snapshot's zstd rendering is made when its version becomes live (`prepare`), its gzip rendering at the first request.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from blocklistd.errors import BlocklistError, DamagedError, StoreError, redacted, store_errors
from blocklistd.events import Event
from blocklistd.jobs.runner import Jobs
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.limits import DIFF_CACHE, MAX_RENDERINGS, SMALL_DIFF
from blocklistd.model import ListId, Sha256, Version
from blocklistd.serve.http.live_lists import ListView
from blocklistd.serve.http.problems import Problem
from blocklistd.store.database import Database
from blocklistd.store.diffs import changes_between, deltas_between
from blocklistd.store.render import (
    ServedFile,
    compress,
    diff_path,
    export_path,
    rendering_path,
    write_diff,
    write_export,
)
from blocklistd.store.store import Store
from blocklistd.store.verified import Verified

log: Final = logging.getLogger(__name__)
_SMALL_FILE: Final = 1 << 20  # bytes of a file that a thread compresses; a job compresses larger ones
_LARGE_DIFF: Final = 50_000  # lines of deltas; above that, several processes merge them
_ATTEMPTS: Final = 2  # attempts to make a file and open it: another program may change it in between

_Open = Callable[[], Awaitable[ServedFile]]
_Make = Callable[[], Awaitable[str]]
"""Makes a rendering and returns its fingerprint."""


class StoredRenderings:
    """Implements serve.http.feed.Renderings with the files of the store.

    `damaged` is called with the SHA-256 of each sealed file that is found missing or damaged; it starts the repair.
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
        """The stat fingerprint of each rendering when it was made."""
        self._used: dict[Path, float] = {}
        """When each rendering was last opened, in seconds since the epoch."""
        self._omitted: dict[Path, int] = {}
        """The number of entries that each export omits."""
        self._under_way: dict[Hashable, asyncio.Future[None]] = {}
        """Work under way, by the path that is made or the SHA-256 that is checked."""
        self._preparing: dict[Sha256, asyncio.Future[None]] = {}
        """Calls of `prepare` that a request has started, by snapshot."""
        self._slots = asyncio.Semaphore(MAX_RENDERINGS)

    # -- public ----------------------------------------------------------------------------------------------------

    async def open_snapshot(self, digest: Sha256, coding: str, *, wait: bool = False) -> ServedFile:
        """The snapshot in a coding. Without `wait` it is uncompressed if its zstd rendering is not made yet.

        Raises DamagedError if it is missing or damaged.
        """
        path, source = self._sealed.path(digest), functools.partial(self._open_sealed, digest)
        if coding == "zstd" and not wait:
            made = await asyncio.to_thread(self._open_if_made, rendering_path(path, coding), coding)
            if made is not None:
                return made
            if digest not in self._preparing:
                task = self._preparing[digest] = asyncio.ensure_future(self.prepare(digest))
                task.add_done_callback(lambda _: self._preparing.pop(digest, None))
            coding = "identity"
        return await self._open_coded(path, source, coding)

    async def open_diff(self, view: ListView, start: Version, end: Version, coding: str) -> ServedFile:
        """The diff from one kept version to another in a coding, made first if there is none.

        Raises DamagedError if a delta between them is missing or damaged, Problem 410 if one is no longer kept,
        StoreError or JobError if the diff can't be made.
        """
        path, source = await self._locate_diff(view, start, end)
        return await self._open_coded(path, source, coding)

    async def omitted(self, digest: Sha256, output: str) -> int:
        """The number of entries of a snapshot that a format can't express. Makes the export if there is none.

        Raises DamagedError if the snapshot is missing or damaged, StoreError or JobError if it can't be made.
        """
        path = export_path(self._store, digest, output)
        for _ in range(_ATTEMPTS):
            if path not in self._omitted:
                (await self.open_export(digest, output, "identity")).close()
            count = self._omitted.get(path)  # the export may have been trimmed since
            if count is not None:
                return count
        raise StoreError("exports are deleted as soon as they are made: free space on the disk of state_dir")

    async def open_export(self, digest: Sha256, output: str, coding: str) -> ServedFile:
        """A snapshot in a format of OUTPUTS, in a coding. Made first if there is none. Raises as `omitted`."""
        path = export_path(self._store, digest, output)
        make = functools.partial(self._write_export, digest, output)
        return await self._open_coded(path, functools.partial(self._open_or_make, path, "identity", make), coding)

    async def prepare(self, digest: Sha256) -> None:
        """Makes the zstd rendering of a snapshot if there is none. Raises nothing: errors are logged."""
        path, source = self._sealed.path(digest), functools.partial(self._open_sealed, digest)
        try:
            made = await self._open_rendering(path, source, "zstd")
            made.close()
        except DamagedError:
            pass  # _report_damage has logged it
        except BlocklistError as error:
            Event.RENDERING_NOT_MADE.log(log, coding="zstd", file=digest, reason=error)
        except Exception as error:
            Event.RENDERING_NOT_MADE.log(
                log, coding="zstd", file=digest, reason=type(error).__name__, exc_info=redacted(error)
            )

    # -- sealed files ----------------------------------------------------------------------------------------------

    async def _open_sealed(self, digest: Sha256) -> ServedFile:
        opened = await self._open_after_work(
            functools.partial(self._open_verified, digest), digest, functools.partial(self._check, digest)
        )
        if opened is None:
            raise self._report_damage(DamagedError(digest))
        return opened

    def _open_verified(self, digest: Sha256) -> ServedFile | None:
        return _open_if(self._sealed.path(digest), "identity", self._verified.fingerprints.get(digest))

    async def _check(self, digest: Sha256) -> None:
        """Reads the file and compares its SHA-256. Raises DamagedError if it differs, or if the file is missing."""
        if not await asyncio.to_thread(self._verified.check, digest):
            raise self._report_damage(DamagedError(digest))

    def _report_damage(self, error: DamagedError) -> DamagedError:
        """Logs the damage, starts the repair, and returns the error to raise."""
        Event.FILE_NOT_SENT.log(log, file=error.digest)
        self._damaged(Sha256(error.digest))
        return error

    # -- renderings ------------------------------------------------------------------------------------------------

    async def _locate_diff(self, view: ListView, start: Version, end: Version) -> tuple[Path, _Open]:
        """The path of the diff, and the function that opens it uncompressed."""
        if end == start + 1:
            digest = await asyncio.to_thread(self._delta_of, view.id, end)
            return self._sealed.path(digest), functools.partial(self._open_sealed, digest)
        path = diff_path(self._store, view.session, start, end)
        make = functools.partial(self._write_diff, view, start, end)
        return path, functools.partial(self._open_or_make, path, "identity", make)

    async def _open_coded(self, path: Path, source: _Open, coding: str) -> ServedFile:
        if coding != "identity":
            try:
                return await self._open_rendering(path, source, coding)
            except DamagedError:
                raise
            except BlocklistError as error:  # the disk may be full: the file is sent uncompressed
                Event.RENDERING_NOT_MADE.log(log, coding=coding, file=path.name, reason=error)
        return await source()

    async def _open_rendering(self, path: Path, source: _Open, coding: str) -> ServedFile:
        make = functools.partial(self._compress, source, coding)
        return await self._open_or_make(rendering_path(path, coding), coding, make)

    async def _open_or_make(self, path: Path, coding: str, make: _Make) -> ServedFile:
        opened = await self._open_after_work(
            functools.partial(self._open_if_made, path, coding),
            path,
            functools.partial(self._make_rendering, path, make),
        )
        if opened is None:
            raise StoreError(f"{path}: another program changes the file as soon as it is made: stop that program")
        return opened

    def _open_if_made(self, path: Path, coding: str) -> ServedFile | None:
        opened = _open_if(path, coding, self._fingerprints.get(path))
        if opened is not None:
            self._used[path] = time.time()
        return opened

    async def _make_rendering(self, path: Path, make: _Make) -> None:
        self._fingerprints.pop(path, None)
        with store_errors(path.parent):
            await asyncio.to_thread(path.unlink, missing_ok=True)
        self._fingerprints[path] = await make()
        await asyncio.to_thread(self.trim)

    async def _write_diff(self, view: ListView, start: Version, end: Version) -> str:
        lines, fingerprints = await asyncio.to_thread(self._deltas_between, view.id, start, end)
        arguments = (self._store, view.id, view.session, start, end, fingerprints)
        try:
            made = await self._run_in_thread_or_job(lines <= SMALL_DIFF, write_diff, *arguments, lines > _LARGE_DIFF)
        except DamagedError as error:
            raise self._report_damage(error) from None
        self._verified.learn(made["verified"])
        return str(made["fingerprint"])

    async def _write_export(self, digest: Sha256, output: str) -> str:
        with await self._open_sealed(digest) as source:
            small = source.length <= _SMALL_FILE
            made = await self._run_in_thread_or_job(
                small, write_export, self._store, digest, output, source.fingerprint
            )
        self._omitted[export_path(self._store, digest, output)] = made["omitted"]
        return str(made["fingerprint"])

    async def _compress(self, source: _Open, coding: str) -> str:
        with await source() as original:
            small = original.length <= _SMALL_FILE
            return str(await self._run_in_thread_or_job(small, compress, original.path, coding, original.fingerprint))

    async def _run_in_thread_or_job(self, small: bool, work: Callable[..., Any], *arguments: Any) -> Any:
        async with self._slots:
            if small:
                return await asyncio.to_thread(work, *arguments)
            return await self._jobs.run(work, *arguments, limits=COMMIT)

    async def _open_after_work(
        self, open_file: Callable[[], ServedFile | None], key: Hashable, work: Callable[[], Awaitable[None]]
    ) -> ServedFile | None:
        """The file that `open_file` opens, at once or after the work; None if it opens none in _ATTEMPTS attempts."""
        for _ in range(_ATTEMPTS):
            opened = await asyncio.to_thread(open_file)
            if opened is not None:
                return opened
            await self._run_once(key, work)
        return await asyncio.to_thread(open_file)

    async def _run_once(self, key: Hashable, work: Callable[[], Awaitable[None]]) -> None:
        """Runs the work, or waits for it if it is under way for the same key."""
        under_way = self._under_way.get(key)
        if under_way is None:
            # a task of its own: the first request may be cancelled while others wait for the same work
            under_way = self._under_way[key] = asyncio.ensure_future(work())
            under_way.add_done_callback(lambda _: self._under_way.pop(key, None))
        await asyncio.shield(under_way)

    def _delta_of(self, list_id: ListId, version: Version) -> Sha256:
        with self._database.read() as connection:
            found = deltas_between(connection, list_id, Version(version - 1), version)
        if not found or found[0] is None:
            raise _pruned()
        return found[0]

    def _deltas_between(self, list_id: ListId, start: Version, end: Version) -> tuple[int, dict[Sha256, str]]:
        """The number of lines of all deltas between two versions, and the fingerprints of the verified ones."""
        with self._database.read() as connection:
            lines = changes_between(connection, list_id, start, end)
            deltas = deltas_between(connection, list_id, start, end)
        if None in deltas:
            raise _pruned()
        return lines, self._verified.of(deltas)

    def trim(self) -> None:
        """Deletes exports, and diffs of lists and zones, the longest unused first, until they have DIFF_CACHE bytes.

        Each can be made again. The last one is kept, whatever its size, because a request needs it now.
        """
        files = []
        folders = (self._store.diffs, self._store.ixfr, self._store.exports)
        for path in (path for folder in folders for path in folder.glob("*/[!.]*")):
            with contextlib.suppress(FileNotFoundError):  # another rendering may have ended, and trimmed, meanwhile
                status = path.stat()
                files.append((max(status.st_mtime, self._used.get(path, 0.0)), status.st_size, path))
        total = 0
        for _, size, path in sorted(files, reverse=True):
            if total and total + size > DIFF_CACHE:
                path.unlink(missing_ok=True)
            else:
                total += size
        for path in list(self._fingerprints):
            if not path.exists():
                self._fingerprints.pop(path, None)
                self._omitted.pop(path, None)
                self._used.pop(path, None)


def _pruned() -> Problem:
    """The problem of a delta that was deleted after the request read the live lists."""
    return Problem(HTTPStatus.GONE, "diffs now start at a later version: take the snapshot")


def _open_if(path: Path, coding: str, expected: str | None) -> ServedFile | None:
    """Opens the file if it exists and has this fingerprint; else None. Raises StoreError if it can't be opened."""
    if expected is None:
        return None
    try:
        with store_errors(path.parent):
            opened = ServedFile(path, coding)
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    if opened.fingerprint == expected:
        return opened
    opened.close()
    return None
