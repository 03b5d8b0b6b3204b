"""A new file for the body of a pull, written off the loop, within its bound."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from blocklistd.errors import FetchError, StoreError
from blocklistd.limits import CHUNK, PIECE
from blocklistd.model import Sha256
from blocklistd.sources.transports.transport import Request, shown


class Sink:
    """The new file `path`, written in pieces of about CHUNK bytes, of at most `max_bytes` of the request in all.

    Order of calls: `write` as often as bytes come, then `finish`; or `discard` at any moment, after which no file is
    left. `body` of a transport calls `expect` and `write` only.
    """

    def __init__(self, path: Path, request: Request) -> None:
        self.path = path
        self.length = 0
        self._request = request
        self._pending: list[bytes] = []
        self._waiting = 0  # bytes of these
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._gone = False
        self._lock = threading.Lock()  # a cancelled pull leaves its last write behind, running in its thread

    def expect(self, length: int) -> None:
        """Raises FetchError where a body of `length` bytes would be too much."""
        limit = self._request.max_bytes
        if length > limit:
            raise FetchError(
                f"{shown(self._request.url)}: {length} bytes or more: expected at most {limit}, see `max_bytes`"
            )

    async def write(self, data: bytes) -> None:
        """Raises FetchError where these are too many bytes, StoreError where the disk can't take them."""
        self.expect(self.length + len(data))
        self.length += len(data)
        self._pending.append(data)
        self._waiting += len(data)
        if self._waiting >= CHUNK:
            await self._flush()

    @property
    def sha256(self) -> Sha256:
        """Of all that was written."""
        return Sha256(self._hash.hexdigest())

    async def create(self) -> None:
        """Makes the file now rather than with its first bytes. Raises StoreError."""
        await self._in_thread(lambda: self._write(b""))

    async def finish(self) -> None:
        """All bytes are in the file. Raises StoreError."""
        await self._flush()
        await self._in_thread(self._close)

    async def adopt(self) -> None:
        """Takes what another process wrote to `path`, which it may have written with any bytes. Raises FetchError for
        too many, StoreError."""
        await self._in_thread(self._read_back)
        self.expect(self.length)

    async def discard(self) -> None:
        """Leaves no file."""
        await asyncio.to_thread(self._remove)

    async def _flush(self) -> None:
        data, self._pending, self._waiting = b"".join(self._pending), [], 0
        await asyncio.gather(self._in_thread(lambda: self._write(data)), asyncio.to_thread(self._hash.update, data))

    async def _in_thread(self, call: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(call)
        except OSError as error:
            raise StoreError(f"{self.path.parent}: {error.strerror}: the body of a pull can't be kept") from None

    def _write(self, data: bytes) -> None:
        with self._lock:
            if self._gone:
                return
            if self._file is None:
                self._file = open(self.path, "xb")  # noqa: SIM115
            self._file.write(data)

    def _read_back(self) -> None:
        self._file = open(self.path, "r+b")  # noqa: SIM115
        while data := self._file.read(PIECE):
            self._hash.update(data)
            self.length += len(data)

    def _close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()

    def _remove(self) -> None:
        with suppress(OSError):  # what could not be written is not wanted any more
            self._close()
        with self._lock:
            self._gone = True
            self.path.unlink(missing_ok=True)
