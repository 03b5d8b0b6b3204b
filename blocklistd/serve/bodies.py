"""Answers: small documents that stand ready, and files in the coding and the range that was asked for.

Every file is immutable under its URL, so its ETag is a name that is known before the file is opened.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time

from blocklistd.errors import BlocklistError, StoreError
from blocklistd.limits import CHUNK
from blocklistd.serve.catalogue import Document
from blocklistd.serve.problems import Problem
from blocklistd.versions.render import SUFFIX

log: Final = logging.getLogger(__name__)

IMMUTABLE: Final = {"Cache-Control": "private, max-age=31536000, immutable"}
REVALIDATE: Final = {"Cache-Control": "no-cache"}
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"

Compress = Callable[[Path, str], Awaitable[None]]
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def matches(request: web.BaseRequest, etag: str) -> bool:
    """If-None-Match against one strong ETag, by weak comparison (RFC 9110 13.1.2)."""
    header = request.headers.get("If-None-Match")
    if not header:
        return False
    if header == etag or header.strip() == "*":
        return True
    several = ",".join(request.headers.getall("If-None-Match"))  # lines are one list (RFC 9110 5.3)
    return etag in (candidate.strip().removeprefix("W/") for candidate in several.split(","))


def document(request: web.BaseRequest, what: Document, cache: dict[str, str]) -> web.StreamResponse:
    """A document of JSON, or 304."""
    if matches(request, what.etag):
        return Unchanged({"ETag": what.etag, **cache})
    return web.Response(body=what.body, content_type=JSON, headers={"ETag": what.etag, **cache})


class Unchanged(web.StreamResponse):
    """304: nothing but headers (RFC 9110 15.4.5). What most requests are answered with, so it is written in one go,
    without what aiohttp has to think of for other answers."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(status=HTTPStatus.NOT_MODIFIED)
        self._said = headers

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if request.version != HttpVersion11 or not request.keep_alive:
            self.headers.update(self._said)
            return await super().prepare(request)
        self._keep_alive = True
        self._eof_sent = True
        head = "".join([f"{name}: {value}\r\n" for name, value in self._said.items()])
        written = f"HTTP/1.1 304 Not Modified\r\n{head}Date: {rfc822_formatted_time()}\r\n\r\n".encode("latin-1")
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client went away")
        transport.write(written)
        await request.protocol._drain_helper()
        return None


def coding_for(accept: str) -> str:
    """The content coding to answer with (RFC 9110 12.5.3): of those with the highest quality zstd before gzip before
    none. None is wanted least where nothing is said of it. Raises Problem 406 where it is all there is and refused.
    """
    if not accept:
        return "identity"
    quality: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        try:
            quality[name] = max(0.0, float(weight))
        except ValueError:
            quality[name] = 0.0
    rest = quality.get("*")
    wanted = {coding: quality.get(coding, rest or 0.0) for coding in SUFFIX}
    wanted["identity"] = quality.get("identity", 1e-6 if rest is None else rest)
    best = max(wanted, key=lambda coding: wanted[coding])
    if wanted[best] > 0:
        return best
    raise Problem(HTTPStatus.NOT_ACCEPTABLE, f"expected one of {', '.join(wanted)} to be accepted as content coding")


async def file(request: web.BaseRequest, path: Path, name: str, compress: Compress) -> web.StreamResponse:
    """Sends an immutable file of NDJSON; `name` is its ETag without the coding.

    A Range is answered on the identity coding only, and to GET only (RFC 9110 14.2). `compress` makes the rendering
    beside the file, once. Raises Problem 416 for a range outside the file, 406 where no coding is accepted.
    """
    ranged = request.headers.get("Range") if request.method == "GET" else None
    coding = "identity" if ranged else coding_for(",".join(request.headers.getall("Accept-Encoding", ())))
    etag = f'"{name}"' if coding == "identity" else f'"{name}-{coding}"'
    headers = {"ETag": etag, "Vary": "Accept-Encoding", "Accept-Ranges": "bytes", **IMMUTABLE}
    if coding != "identity":
        headers["Content-Encoding"] = coding
    if matches(request, etag):
        headers.pop("Content-Encoding", None)
        return Unchanged(headers)
    if coding != "identity":
        try:
            await compress(path, coding)
            path = path.with_name(path.name + SUFFIX[coding])
        except BlocklistError as error:  # no room for it, perhaps: what is there goes out as it is
            log.error("a rendering could not be made: %s", error)
            headers["ETag"] = f'"{name}"'
            del headers["Content-Encoding"]
    try:
        source = await asyncio.to_thread(open, path, "rb", 0)
    except OSError as error:
        raise StoreError(f"a file that is served can't be opened: {error.strerror}") from error
    with source:
        length = source.seek(0, 2)
        start, end = 0, length
        status = HTTPStatus.OK
        unconditional = (condition := request.headers.get("If-Range")) is None or condition == etag
        if ranged and unconditional and (asked := _RANGE.fullmatch(ranged.strip())):
            start, end = _range(asked, length)
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{length}"
        response = web.StreamResponse(status=status, headers={**headers, "Content-Type": NDJSON})
        response.content_length = end - start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        source.seek(start)
        while start < end:
            chunk = await asyncio.to_thread(source.read, min(CHUNK, end - start))
            if not chunk:
                raise StoreError("a file that is served is shorter than it was")
            start += len(chunk)
            await response.write(chunk)
            await asyncio.sleep(0)  # write() returns at once for a fast client: let the others have their turn
        await response.write_eof()
        return response


def _range(asked: re.Match[str], length: int) -> tuple[int, int]:
    """Start and end (exclusive) of one byte range (RFC 9110 14.1.2)."""
    first, last = asked.groups()
    if first:
        start, end = int(first), min(int(last) + 1, length) if last else length
    else:
        start, end = (length - min(int(last), length), length) if last else (length, length)
    if start >= end:
        raise Problem(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"the file has {length} bytes",
            {"Content-Range": f"bytes */{length}"},
        )
    return start, end
