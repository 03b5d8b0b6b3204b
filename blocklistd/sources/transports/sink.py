"""A new file for the body of a pull: bounded in size, and written in threads.

States of a Sink: pending (no file) → open (`create`, or the first CHUNK bytes) → finished (`finish`) or discarded
(`discard`, from any state). A discarded sink leaves no file, even if a write is still running in its thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from blocklistd.errors import FetchError, StoreError
from blocklistd.limits import CHUNK, FILE_CHUNK
from blocklistd.model import Sha256
from blocklistd.sources.transports.transport import Request, redacted_url


class Sink:
    """Writes the new file `path` in chunks of about CHUNK bytes, at most `max_bytes` of the request in total.

    Order of calls: `write` for all bytes, then `finish`; or `adopt`, if another process has written the file; `discard`
    at any time. The `body` of a transport only calls `expect` and `write`. `length`: the bytes so far.
    """

    def __init__(self, path: Path, request: Request) -> None:
        self.path = path
        self.length = 0
        self._request = request
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._discarded = False
        self._lock = threading.Lock()  # the last write of a cancelled pull may still run in its thread

    def expect(self, length: int) -> None:
        """Raises FetchError if a body of `length` bytes is too large."""
        limit = self._request.max_bytes
        if length > limit:
            raise FetchError(
                f"{redacted_url(self._request.url)}: {length} bytes or more: expected at most {limit},"
                " raise `max_bytes` if the list is that large"
            )

    async def write(self, data: bytes) -> None:
        """Append bytes to the file. Raises FetchError if the body is too large, StoreError if it can't be written."""
        self.expect(self.length + len(data))
        self.length += len(data)
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= CHUNK:
            await self._flush()

    @property
    def sha256(self) -> Sha256:
        """The SHA-256, in hex, of all bytes of the finished file."""
        return Sha256(self._hash.hexdigest())

    async def create(self) -> None:
        """Create the file before its first bytes arrive. Raises StoreError."""
        await self._in_thread(lambda: self._write(b""))

    async def finish(self) -> None:
        """Write the pending bytes, and close the file. Raises StoreError."""
        await self._flush()
        await self._in_thread(self._close)

    async def adopt(self) -> None:
        """Read the length and the hash of the file that another process has written to `path`. Raises FetchError if it
        is too large, StoreError if it can't be read."""
        await self._in_thread(self._read_back)
        self.expect(self.length)

    async def discard(self) -> None:
        """Close and remove the file, if there is one."""
        await asyncio.to_thread(self._remove)

    async def _flush(self) -> None:
        data, self._pending, self._pending_bytes = b"".join(self._pending), [], 0
        await asyncio.gather(self._in_thread(lambda: self._write(data)), asyncio.to_thread(self._hash.update, data))

    async def _in_thread(self, call: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(call)
        except OSError as error:
            raise StoreError(
                f"{self.path.parent}: {error.strerror}: the body of a pull can't be written; "
                "check the space and the permissions there"
            ) from None

    def _write(self, data: bytes) -> None:
        with self._lock:
            if self._discarded:
                return
            if self._file is None:
                self._file = open(self.path, "xb")  # noqa: SIM115
            self._file.write(data)

    def _read_back(self) -> None:
        self._file = open(self.path, "r+b")  # noqa: SIM115
        while data := self._file.read(FILE_CHUNK):
            self._hash.update(data)
            self.length += len(data)

    def _close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()

    def _remove(self) -> None:
        with suppress(OSError):  # a failed write of buffered bytes does not matter any more
            self._close()
        with self._lock:
            self._discarded = True
            self.path.unlink(missing_ok=True)
