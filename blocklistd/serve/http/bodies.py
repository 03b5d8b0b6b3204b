"""Answers with a body: prepared JSON documents, and files in the content coding and range that the client requests.

The ETag of a file names its content, so it is known before the file is opened. If a file is not available yet in
the coding that the client prefers, it is sent uncompressed, with the ETag of the uncompressed file.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import web

from blocklistd.limits import CHUNK
from blocklistd.serve.http.live_lists import Document
from blocklistd.serve.http.problems import Problem
from blocklistd.store.render import SUFFIX, ServedFile

IMMUTABLE: Final = {"Cache-Control": "private, max-age=31536000, immutable"}
REVALIDATE: Final = {"Cache-Control": "no-cache"}
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"

Open = Callable[[str, bool], Awaitable[ServedFile]]
"""Opens the file in a content coding, or uncompressed if it is not available in that coding yet. The flag: wait for the
coding, because the client accepts no other."""
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def etag_matches(request: web.BaseRequest, etag: str) -> bool:
    """Whether If-None-Match contains the strong ETag, by weak comparison (RFC 9110 13.1.2)."""
    header = request.headers.get("If-None-Match")
    if not header:
        return False
    if header == etag or header.strip() == "*":
        return True
    all_etags = ",".join(request.headers.getall("If-None-Match"))  # several lines are one list (RFC 9110 5.3)
    return etag in (candidate.strip().removeprefix("W/") for candidate in all_etags.split(","))


def json_document(request: web.BaseRequest, what: Document, cache: dict[str, str]) -> web.StreamResponse:
    """The answer with a JSON document, or 304. `cache` has the Cache-Control header."""
    if etag_matches(request, what.etag):
        return not_modified({"ETag": what.etag, **cache})
    return web.Response(body=what.body, content_type=JSON, headers={"ETag": what.etag, **cache})


def not_modified(headers: Mapping[str, str]) -> web.StreamResponse:
    """The answer 304 (RFC 9110 15.4.5). A StreamResponse, because web.Response would add headers for a body."""
    return web.StreamResponse(status=HTTPStatus.NOT_MODIFIED, headers=headers)


class AcceptedCodings(NamedTuple):
    """The content coding that a client prefers, and whether it accepts the file uncompressed."""

    coding: str
    identity: bool


def accepted(header: str) -> AcceptedCodings:
    """Parses Accept-Encoding (RFC 9110 12.5.3).

    Of the codings with the highest quality, zstd comes before gzip, and gzip before identity. Identity has the lowest
    quality if the header does not name it. Raises Problem 406 if no coding is acceptable.
    """
    if not header:
        return AcceptedCodings("identity", True)
    quality: dict[str, float] = {}
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        try:
            quality[name] = max(0.0, float(weight))
        except ValueError:
            quality[name] = 0.0
    of_others = quality.get("*")
    offered = {coding: quality.get(coding, of_others or 0.0) for coding in SUFFIX}
    offered["identity"] = quality.get("identity", 1e-6 if of_others is None else of_others)
    best = max(offered, key=lambda coding: offered[coding])
    if offered[best] > 0:
        return AcceptedCodings(best, offered["identity"] > 0)
    raise Problem(HTTPStatus.NOT_ACCEPTABLE, f"expected one of {', '.join(offered)} to be accepted as content coding")


def stream_file(source: ServedFile) -> web.Response:
    """The answer that sends a complete open file, then closes it."""

    async def chunks() -> AsyncIterator[bytes]:
        with source:
            left = source.length
            while left:
                chunk = await asyncio.to_thread(source.read, min(CHUNK, left))
                left -= len(chunk)
                yield chunk

    return web.Response(body=chunks(), content_type=NDJSON)


async def send_file(
    request: web.BaseRequest,
    name: str,
    open_file: Open,
    media: str = NDJSON,
    further: Mapping[str, str] = IMMUTABLE,
) -> web.StreamResponse:
    """Sends a file. `name` is its ETag, without quotes and coding; `media` its media type, `further` more headers.

    A Range is answered for GET only (RFC 9110 14.2), and from the uncompressed file. Raises Problem 416 for a range
    outside the file, 406 if no coding is acceptable, and what `open_file` raises.
    """
    ranged = request.headers.get("Range") if request.method == "GET" else None
    coding, identity = "identity", True
    if not ranged:
        coding, identity = accepted(",".join(request.headers.getall("Accept-Encoding", ())))
    if etag_matches(request, etag := _etag(name, coding)):
        return not_modified(_headers(etag, further))
    with await open_file(coding, not identity) as source:
        if source.coding != coding and etag_matches(request, etag := _etag(name, source.coding)):
            return not_modified(_headers(etag, further))
        headers = _headers(etag, further)
        if source.coding != "identity":
            headers["Content-Encoding"] = source.coding
        start, end = 0, source.length
        status = HTTPStatus.OK
        unconditional = (condition := request.headers.get("If-Range")) is None or condition == etag
        if ranged and unconditional and (requested_range := _RANGE.fullmatch(ranged.strip())):
            start, end = _range(requested_range, source.length)
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{source.length}"
        response = web.StreamResponse(status=status, headers={**headers, "Content-Type": media})
        response.content_length = end - start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        source.seek(start)
        while start < end:
            chunk = await asyncio.to_thread(source.read, min(CHUNK, end - start))
            start += len(chunk)
            await response.write(chunk)
            await asyncio.sleep(0)  # write() does not yield to the loop while the client is fast
        await response.write_eof()
        return response


def _etag(name: str, coding: str) -> str:
    return f'"{name}"' if coding == "identity" else f'"{name}-{coding}"'


def _headers(etag: str, further: Mapping[str, str]) -> dict[str, str]:
    return {"ETag": etag, "Vary": "Accept-Encoding", "Accept-Ranges": "bytes", **further}


def _range(requested_range: re.Match[str], length: int) -> tuple[int, int]:
    """Start and end (exclusive) of one byte range in a file of `length` bytes (RFC 9110 14.1.2). Raises Problem 416."""
    first, last = requested_range.groups()
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
