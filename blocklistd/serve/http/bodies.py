"""Answers: small documents that stand ready, and files in the coding and the range that the client asks for.

Every file is immutable under its URL, so its ETag is a name that is known before the file is opened. A coding that the
client prefers may not be there yet: the file is then sent as it is, with the ETag of that.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import web

from blocklistd.limits import CHUNK
from blocklistd.serve.http.catalogue import Document
from blocklistd.serve.http.problems import Problem
from blocklistd.store.render import SUFFIX, OpenedFile

IMMUTABLE: Final = {"Cache-Control": "private, max-age=31536000, immutable"}
REVALIDATE: Final = {"Cache-Control": "no-cache"}
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"

Open = Callable[[str, bool], Awaitable[OpenedFile]]
"""Opens the file in a content coding, or as it is if the coding is not there yet; the flag says to wait for it."""
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
        return unchanged({"ETag": what.etag, **cache})
    return web.Response(body=what.body, content_type=JSON, headers={"ETag": what.etag, **cache})


def unchanged(headers: Mapping[str, str]) -> web.StreamResponse:
    """304: nothing but headers (RFC 9110 15.4.5). A Response would look for a body first."""
    return web.StreamResponse(status=HTTPStatus.NOT_MODIFIED, headers=headers)


class Accepted(NamedTuple):
    """The content coding that a client prefers, and whether it accepts the file as it is."""

    coding: str
    identity: bool


def accepted(header: str) -> Accepted:
    """What an Accept-Encoding asks for (RFC 9110 12.5.3): of those with the highest quality zstd before gzip before
    none. None is wanted least where nothing is said of it. Raises Problem 406 where it is all there is and refused.
    """
    if not header:
        return Accepted("identity", True)
    quality: dict[str, float] = {}
    for part in header.split(","):
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
        return Accepted(best, wanted["identity"] > 0)
    raise Problem(HTTPStatus.NOT_ACCEPTABLE, f"expected one of {', '.join(wanted)} to be accepted as content coding")


def whole(source: OpenedFile) -> web.Response:
    """The answer that sends all of an open file and closes it."""

    async def pieces() -> AsyncIterator[bytes]:
        with source:
            left = source.length
            while left:
                piece = await asyncio.to_thread(source.read, min(CHUNK, left))
                left -= len(piece)
                yield piece

    return web.Response(body=pieces(), content_type=NDJSON)


async def file(request: web.BaseRequest, name: str, open_file: Open) -> web.StreamResponse:
    """Sends an immutable file of NDJSON; `name` is its ETag without the coding.

    A Range is answered on the identity coding only, and to GET only (RFC 9110 14.2). Raises Problem 416 for a range
    outside the file, 406 where no coding is accepted, and what `open_file` raises.
    """
    ranged = request.headers.get("Range") if request.method == "GET" else None
    coding, identity = "identity", True
    if not ranged:
        coding, identity = accepted(",".join(request.headers.getall("Accept-Encoding", ())))
    if matches(request, etag := _etag(name, coding)):
        return unchanged(_headers(etag))
    with await open_file(coding, not identity) as source:
        if source.coding != coding and matches(request, etag := _etag(name, source.coding)):
            return unchanged(_headers(etag))
        headers = _headers(etag)
        if source.coding != "identity":
            headers["Content-Encoding"] = source.coding
        start, end = 0, source.length
        status = HTTPStatus.OK
        unconditional = (condition := request.headers.get("If-Range")) is None or condition == etag
        if ranged and unconditional and (asked := _RANGE.fullmatch(ranged.strip())):
            start, end = _range(asked, source.length)
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{source.length}"
        response = web.StreamResponse(status=status, headers={**headers, "Content-Type": NDJSON})
        response.content_length = end - start
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        source.seek(start)
        while start < end:
            chunk = await asyncio.to_thread(source.read, min(CHUNK, end - start))
            start += len(chunk)
            await response.write(chunk)
            await asyncio.sleep(0)  # write() returns at once for a fast client: let the others have their turn
        await response.write_eof()
        return response


def _etag(name: str, coding: str) -> str:
    return f'"{name}"' if coding == "identity" else f'"{name}-{coding}"'


def _headers(etag: str) -> dict[str, str]:
    return {"ETag": etag, "Vary": "Accept-Encoding", "Accept-Ranges": "bytes", **IMMUTABLE}


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
