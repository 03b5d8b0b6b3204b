"""The operation of `backup`: sends a backup of the running daemon's state (store/backups.py)."""

from __future__ import annotations

import asyncio
import functools
import logging
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path
from typing import Final

from aiohttp import web

from blocklistd.errors import BlocklistError, DamagedError, RefusedError, store_errors
from blocklistd.events import Event
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.limits import MAX_BACKUP_MANIFEST
from blocklistd.model import Act, Sha256
from blocklistd.pipeline.received import work_folder
from blocklistd.pipeline.resources import Resources
from blocklistd.store import audit, backups
from blocklistd.store.backup_format import short
from blocklistd.store.backups import KNOWN, BackupRequest, Prepared

log: Final = logging.getLogger(__name__)


class BackupOperations:
    """The effect of `backup`. `without_sweep` is a context in which no sweep runs; `damaged` is called with the SHA-256
    of a sealed file that is found damaged."""

    def __init__(
        self,
        resources: Resources,
        without_sweep: Callable[[], AbstractAsyncContextManager[None]],
        damaged: Callable[[Sha256], None],
    ) -> None:
        self._resources = resources
        self._without_sweep = without_sweep
        self._damaged = damaged

    async def send(self, upload: AsyncIterator[bytes] | None, act: Act, *, evidence: bool) -> web.StreamResponse:
        """The bytes of a backup. `upload`: what its bases have (backup_format.known_of); None: it has no base. The line
        of the audit is written before the first byte is sent. Raises RefusedError, StoreError, JobError."""
        resources = self._resources
        with ExitStack() as opening:
            folder = opening.enter_context(work_folder(resources.store))
            if upload is not None:
                await _receive(upload, folder / KNOWN)
            highest = resources.high_water.highest_numbers.highest
            request = BackupRequest(folder, resources.clock(), highest, evidence, upload is not None)
            async with self._without_sweep():
                prepared = await self._prepare(request)
                opening.enter_context(resources.verified.keeping(prepared.sealed))
            size = backups.size_of(prepared)
            bases = sorted(map(short, prepared.manifest.bases))
            detail = {"files": len(prepared.written), "bytes": size, "evidence": evidence, "bases": bases}
            now = resources.clock()
            await resources.database.writing(
                lambda connection: audit.append(connection, act, short(prepared.id), now=now, detail=detail),
                while_halted=True,
            )
            sending = opening.pop_all()
        chunks = self._chunks(prepared, sending)
        weakref.finalize(chunks, sending.close)  # if the caller has gone before the first chunk
        return web.Response(body=chunks, content_type="application/x-tar")

    async def _prepare(self, request: BackupRequest) -> Prepared:
        resources = self._resources
        try:
            await resources.jobs.run(backups.copy_state, resources.store, request, limits=COMMIT)
        except DamagedError as error:
            self._damaged(Sha256(error.digest))
            raise
        return await asyncio.to_thread(backups.read_prepared, request)

    async def _chunks(self, prepared: Prepared, sending: ExitStack) -> AsyncIterator[bytes]:
        following = functools.partial(next, backups.archive(self._resources.store, prepared), None)
        with sending:
            try:
                while (chunk := await asyncio.to_thread(following)) is not None:
                    yield chunk
            except BlocklistError as error:
                Event.BACKUP_FAILED.log(log, backup=short(prepared.id), reason=error)
                if isinstance(error, DamagedError):
                    self._damaged(Sha256(error.digest))
                raise


async def _receive(upload: AsyncIterator[bytes], path: Path) -> None:
    """Writes what the caller sends to a file. Raises RefusedError, StoreError."""
    size = 0
    with store_errors(path), await asyncio.to_thread(open, path, "xb") as file:
        async for chunk in upload:
            size += len(chunk)
            if size > MAX_BACKUP_MANIFEST:
                raise RefusedError(f"--base: more than {MAX_BACKUP_MANIFEST} bytes: make a backup without a base")
            await asyncio.to_thread(file.write, chunk)
