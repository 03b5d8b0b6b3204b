"""A web server for files that a test changes between requests, with ranges and ETags as aiohttp serves them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from aiohttp import web

Served = TypeVar("Served")
WAIT: Final = 30.0  # seconds that a test waits for a server


@contextmanager
def in_thread(server: AbstractAsyncContextManager[Served]) -> Iterator[Served]:
    """A server with a loop of its own in a thread, for tests whose daemon is another process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server", daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(WAIT)
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(WAIT)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT)
        loop.close()


class Seen(NamedTuple):
    """A request and how it was answered. `range`: the header of the request; `sent`: the bytes of the body."""

    path: str
    range: str | None
    status: int
    sent: int


class FileServer:
    """Serves the files in `folder`. `requests`: those that were answered. `has_ranges`, `has_etags`: whether it knows
    these; a test may change them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.requests: list[Seen] = []
        self.has_ranges = True
        self.has_etags = True

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FileServer]:
        server = web.Application()
        server.router.add_get("/{name}", self._answer)
        server.on_response_prepare.append(self._record)
        runner = web.AppRunner(server, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = self.folder / request.match_info["name"]
        response: web.StreamResponse
        if not path.is_file():
            response = web.Response(status=404)
        elif self.has_ranges and self.has_etags:
            response = web.FileResponse(path)
        elif self.has_ranges:
            response = _ranged(request, path.read_bytes())
        else:
            response = web.Response(body=path.read_bytes())
        return response

    async def _record(self, request: web.Request, response: web.StreamResponse) -> None:
        sent = response.content_length or 0
        self.requests.append(Seen(request.path, request.headers.get("Range"), response.status, sent))


def _ranged(request: web.Request, content: bytes) -> web.Response:
    wanted = request.http_range
    if wanted.start is None:
        return web.Response(body=content)
    if wanted.start >= len(content):
        return web.Response(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
    part = content[wanted]
    end = wanted.start + len(part) - 1
    return web.Response(status=206, body=part, headers={"Content-Range": f"bytes {wanted.start}-{end}/{len(content)}"})
