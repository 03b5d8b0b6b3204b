"""Runs a transport in a process of its own, which has only its request, sockets, and the file that it writes.

Body and signature are fetched by one job each. The result of a job is validated, and the body that it wrote is hashed
by the daemon: the server may have taken the process over.
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
from blocklistd.sources.reasons import AllowedMessages
from blocklistd.sources.transports import transport_of
from blocklistd.sources.transports.sink import Sink
from blocklistd.sources.transports.transport import Arrived, Download, Request, redacted_url

Answer = TypeVar("Answer")


class InOwnProcess(Download):
    """Runs the download of the request's transport as jobs, without TLS contexts."""

    def __init__(self, request: Request, jobs: Jobs) -> None:
        super().__init__(replace(request, ssl=None, redirect_ssl=None))
        self._jobs = jobs
        self._limits = replace(FETCH, wall=request.timeout, file=request.max_bytes)

    async def body(self, sink: Sink) -> Arrived | NotModified:
        with self._reasons(self.request.url, sink.path.parent).only_allowed():
            answer = await self._jobs.run(fetch_body, self.request, sink.path, limits=self._limits)
        if answer is None:
            return NotModified()
        await sink.adopt()
        return Arrived.from_json(answer, self.request.url)

    async def signature(self, url: str) -> bytes:
        with self._reasons(url, Path("/")).only_allowed():
            answer = await self._jobs.run(fetch_signature, self.request, url, limits=self._limits)
        try:
            return bytes.fromhex(answer)
        except (TypeError, ValueError):
            raise FetchError(
                "the process that fetched the signature returned an unexpected result: the pull is not used"
            ) from None

    def _reasons(self, url: str, folder: Path) -> AllowedMessages:
        return AllowedMessages((*FETCH_REASONS, *transport_of(url).reasons), (redacted_url(url),), folder)


def fetch_body(request: Request, path: Path) -> dict[str, Any] | None:
    """The job that fetches a body to the new file `path`. Returns the fields of Arrived, or None if the body is not
    modified."""

    async def run() -> Arrived | NotModified:
        sink = Sink(path, request)
        async with transport_of(request.url).open(request) as download:
            await sink.create()
            enter_filter(network=True)
            arrived = await download.body(sink)
            await sink.finish()
            return arrived

    arrived = in_loop(run())
    return None if isinstance(arrived, NotModified) else arrived.to_json()


def fetch_signature(request: Request, url: str) -> str:
    """The job that fetches the signature at `url`. Returns it in hex."""

    async def run() -> bytes:
        async with transport_of(url).open(request) as download:
            enter_filter(network=True)
            return await download.signature(url)

    return in_loop(run()).hex()


def in_loop(work: Coroutine[Any, Any, Answer]) -> Answer:
    """`asyncio.run` for a process that can't start threads after it has entered the filter: all threads of the loop are
    started first. They are not joined, since the process ends with its result."""
    loop = asyncio.new_event_loop()
    threads = ThreadPoolExecutor(FETCH_THREADS)
    started = threading.Barrier(FETCH_THREADS)
    list(threads.map(lambda _: started.wait(), range(FETCH_THREADS)))
    loop.set_default_executor(threads)
    return loop.run_until_complete(work)
