"""A pull's I/O: a body and its signature, from https:, loopback http: or file:, to a new file, within their bounds.

The body is not decoded, verified or parsed here.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import BinaryIO, Final

import aiohttp

from blocklistd.errors import FetchError, StoreError
from blocklistd.limits import CHUNK, MAX_SIGNATURE_BYTES, PIECE
from blocklistd.model import Fetched, NotModified, Sha256, Validators
from blocklistd.sources.transports import dropped
from blocklistd.sources.transports.web import Web, shown

CODINGS: Final = {"": "identity", "identity": "identity", "gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}
HINTS: Final = {401: "check `auth`", 403: "check `auth`", 404: "check `{}`", 410: "check `{}`"}


@dataclass(frozen=True, slots=True)
class Request:
    """One pull. `timeout` (seconds) is for body and signature together, `max_bytes` for the body as it is sent.

    `signature` is the URL of the signature or a template for it (`signature_url`); None: there is none. `headers` and
    `ssl` hold the credentials: they go to the origin of `url` and nowhere else. Where `ssl` is given, another https
    origin (by a redirect, or the signature's) is only spoken to with `ssl_elsewhere`, and refused without it: whoever
    pins an authority means it for the whole pull.
    """

    url: str
    signature: str | None
    timeout: float
    max_bytes: int
    validators: Validators = field(default_factory=Validators)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssl: SSLContext | None = None
    ssl_elsewhere: SSLContext | None = None


def signature_url(url: str, template: str) -> str:
    """Where the signature of `url` is: `template` with each `{url}` replaced by the text of `url`."""
    return template.replace("{url}", url)


async def fetch(request: Request, folder: Path) -> Fetched | NotModified:
    """The body as a new file in `folder`, with its signature; NotModified where `request.validators` still hold.

    Raises FetchError where it does not arrive whole and within its bounds, StoreError where `folder` can't take it;
    then, and when it is cancelled, no file is left.
    """
    sink = _Sink(folder, request)
    try:
        async with asyncio.timeout(request.timeout), _session() as session:
            web = Web(session, request.url, request.headers, request.ssl, request.ssl_elsewhere)
            taken = await _body(web, request, sink)
            if isinstance(taken, NotModified):
                return taken
            await sink.finish()
            signature = None
            if request.signature is not None:
                signature = await _signature(web, signature_url(taken.url, request.signature))
    except TimeoutError:  # ours: any other was given its own words where it happened
        await sink.discard()
        raise FetchError(
            f"{shown(request.url)}: not whole after {request.timeout:g} s, {sink.length} bytes of the body arrived: "
            f"expected body and signature within `timeout`"
        ) from None
    except BaseException:
        await sink.discard()
        raise
    return Fetched(sink.path, sink.length, sink.sha256, taken.encoding, signature, taken.validators)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What is known of a body that is now in the sink; `url` is that of the file really taken."""

    url: str
    encoding: str
    validators: Validators


class _Sink:
    """A new file in `folder`, written off the loop in pieces of about CHUNK bytes, of at most `max_bytes` in all."""

    def __init__(self, folder: Path, request: Request) -> None:
        self.path = folder / secrets.token_hex(8)
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

    async def finish(self) -> None:
        await self._flush()
        await self._in_thread(self._close)

    async def discard(self) -> None:
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


async def _body(web: Web, request: Request, sink: _Sink) -> _Taken | NotModified:
    if request.url.startswith("file:"):
        return await _file_body(request, sink)
    return await _http_body(web, request, sink)


async def _file_body(request: Request, sink: _Sink) -> _Taken | NotModified:
    found = await asyncio.to_thread(dropped.take, request.url)
    try:
        tag = found.tag()
        if tag == request.validators.etag:
            return NotModified()
        sink.expect(found.size)
        while data := await asyncio.to_thread(found.read, PIECE):
            await sink.write(data)
        if found.tag() != tag or sink.length != found.size:
            raise FetchError(
                f"{dropped.named(found.path)}: changed while it was read: expected whole files, moved into place"
            )
    finally:
        await asyncio.to_thread(found.close)
    return _Taken(found.path.as_uri(), "identity", Validators(etag=tag))


async def _http_body(web: Web, request: Request, sink: _Sink) -> _Taken | NotModified:
    known = request.validators
    headers = {"Accept-Encoding": "gzip, zstd"}
    if known.etag:
        headers["If-None-Match"] = known.etag
    if known.last_modified:
        headers["If-Modified-Since"] = known.last_modified
    async with web.answer(request.url, headers) as (response, where, redirected):
        if response.status == 304:
            if known.etag or (known.last_modified and not redirected):
                return NotModified()
            raise FetchError(f"{where}: status 304, not modified, to an unconditional request: expected 200 and a body")
        _expect_ok(response, where, "url")
        encoding = _coding(response)
        if encoding is None:
            raise FetchError(f"{where}: a content coding that was not asked for: expected identity, gzip or zstd")
        # RFC 9112 section 6.3, rule 8: such a body ends where the connection does, wherever that is. A signature tells.
        chunked = response.headers.getall("Transfer-Encoding", [""])[-1].lower().endswith("chunked")
        framed = chunked or "Content-Length" in response.headers
        if not framed and request.signature is None:
            raise FetchError(f"{where}: no length and not chunked: expected a body that can be told from a cut one")
        sink.expect(response.content_length or 0)
        async for data in response.content.iter_any():
            await sink.write(data)
        return _Taken(request.url, encoding, _validators(response, redirected))


async def _signature(web: Web, url: str) -> bytes:
    if url.startswith("file:"):
        where = shown(url)
        signature = await asyncio.to_thread(dropped.read_beside, url, MAX_SIGNATURE_BYTES + 1)
    else:
        signature = b""
        async with web.answer(url, {"Accept-Encoding": "identity"}) as (response, where, _):
            _expect_ok(response, where, "signature")
            if _coding(response) != "identity":
                raise FetchError(f"{where}: a signature with a content coding: expected none")
            async for data in response.content.iter_chunked(MAX_SIGNATURE_BYTES):
                signature += data
                if len(signature) > MAX_SIGNATURE_BYTES:
                    break
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise FetchError(f"{where}: more than {MAX_SIGNATURE_BYTES} bytes: expected a signature")
    return signature


def _session() -> aiohttp.ClientSession:
    """Bytes as they are sent; no cookies; no proxies or passwords from the environment; `fetch` has the one timeout."""
    return aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "blocklistd"},
        read_bufsize=CHUNK,
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
        trust_env=False,
    )


def _expect_ok(response: aiohttp.ClientResponse, where: str, key: str) -> None:
    """`key` is the one of the source's configuration that says where the answer comes from."""
    if response.status != 200:
        hint = HINTS.get(response.status, "the next pull tries again").format(key)
        raise FetchError(f"{where}: status {response.status}: expected 200, {hint}")


def _coding(response: aiohttp.ClientResponse) -> str | None:
    """None for one that was not asked for, several of them included."""
    return CODINGS.get(",".join(response.headers.getall("Content-Encoding", [])).strip().lower())


def _validators(response: aiohttp.ClientResponse, redirected: bool) -> Validators:
    """The answer's own, where they are bytes that can be kept and sent back.

    After a redirect the date is left out: that of another file, behind the next redirect, may be older and yet new.
    """

    def header(name: str, pattern: str) -> str | None:
        value = response.headers.get(name, "")
        return value if re.fullmatch(pattern, value) else None

    etag = header("ETag", r"[\x21-\x7e]{1,256}")
    return Validators(etag, None if redirected else header("Last-Modified", r"[A-Za-z0-9,: ]{1,40}"))
