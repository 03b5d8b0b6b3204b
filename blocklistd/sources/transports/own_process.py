"""A transport in a process of its own: it has its one request, sockets, and the file that it writes; nothing else.

Body and signature are fetched by a job each. What a job answers is checked, and the body that it wrote is hashed again:
the process may have been taken over by what it spoke to.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from blocklistd.errors import FetchError
from blocklistd.jobs.runner import Jobs
from blocklistd.jobs.sandbox import FETCH, enter_filter
from blocklistd.limits import FETCH_THREADS
from blocklistd.model import NotModified
from blocklistd.sources.reasons import FETCH as FETCH_REASONS
from blocklistd.sources.reasons import Reasons
from blocklistd.sources.transports import transport_of
from blocklistd.sources.transports.sink import Sink
from blocklistd.sources.transports.transport import Arrived, Download, Request, shown

Answer = TypeVar("Answer")


class InOwnProcess(Download):
    """Runs the calls of the transport's own download elsewhere."""

    def __init__(self, request: Request, jobs: Jobs) -> None:
        super().__init__(replace(request, ssl=None, ssl_elsewhere=None))
        self._jobs = jobs
        self._limits = replace(FETCH, wall=request.timeout, file=request.max_bytes)

    async def body(self, sink: Sink) -> Arrived | NotModified:
        with self._reasons(self.request.url, sink.path.parent).kept():
            answer = await self._jobs.run(fetch_body, self.request, sink.path, limits=self._limits)
        if answer is None:
            return NotModified()
        await sink.adopt()
        return Arrived.from_json(answer)

    async def signature(self, url: str) -> bytes:
        with self._reasons(url, Path("/")).kept():
            answer = await self._jobs.run(fetch_signature, self.request, url, limits=self._limits)
        try:
            return bytes.fromhex(answer)
        except (TypeError, ValueError):
            raise FetchError("the process that fetched the signature answered something else") from None

    def _reasons(self, url: str, folder: Path) -> Reasons:
        return Reasons((*FETCH_REASONS, *transport_of(url).reasons), (shown(url),), folder)


def fetch_body(request: Request, path: Path) -> dict[str, Any] | None:
    """The job: the body as the new file `path`; the fields of Arrived, or None where the validators hold."""

    async def run() -> Arrived | NotModified:
        sink = Sink(path, request)
        async with transport_of(request.url).open(request) as download:
            await sink.create()
            enter_filter(network=True)
            arrived = await download.body(sink)
            await sink.finish()
            return arrived

    arrived = _in_loop(run())
    return None if isinstance(arrived, NotModified) else arrived.to_json()


def fetch_signature(request: Request, url: str) -> str:
    """The job: the signature at `url`, in hex."""

    async def run() -> bytes:
        async with transport_of(url).open(request) as download:
            enter_filter(network=True)
            return await download.signature(url)

    return _in_loop(run()).hex()


def _in_loop(work: Coroutine[Any, Any, Answer]) -> Answer:
    """As `asyncio.run`, for a process that may start no thread once it is in the filter: all threads of the loop are
    started first. None is joined at the end, since the process ends with its answer."""
    loop = asyncio.new_event_loop()
    threads = ThreadPoolExecutor(FETCH_THREADS)
    started = threading.Barrier(FETCH_THREADS)
    list(threads.map(lambda _: started.wait(), range(FETCH_THREADS)))
    loop.set_default_executor(threads)
    return loop.run_until_complete(work)
