"""A hotline whose behaviour a test changes between requests.

    hotline.publish(["one.example", "two.example"])    # a body and its signature, replaced together
    hotline.fault = Fault.TRUNCATED                     # from the next request on, until it is None again
    assert hotline.bodies_asked == 2

`HotlineSimulator` runs in the test's own loop (`async with`); `HotlineThread` has a loop of its own in a thread
(`with`), for tests whose daemon is another process. Both listen on two loopback ports: `url` is on the first, the
second is the other origin that Fault.REDIRECT_ELSEWHERE sends to.
"""

from __future__ import annotations

import asyncio
import enum
import gzip
import hashlib
import ssl
import threading
import time
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import minisign
import zstandard
from aiohttp import web
from yarl import URL

LIST: Final = "/list.txt"
WAIT: Final = 30.0  # seconds that a test waits for the simulator, or it for a test
FILE_CHUNK: Final = 1 << 20  # bytes


class Fault(enum.Enum):
    """A fault of the hotline, until another one is set. Bodies have valid signatures, except in the signature faults.

    The bodies of EMPTY, HTML and SHRUNK are signed a second after the current publication. If a daemon accepts one,
    publish again before a step without the fault: the daemon would refuse the older signature.
    """

    TRUNCATED = "Content-Length is that of the complete body, half of it is sent"
    EMPTY = "a body of no bytes"
    HTML = "a page of HTML, with status 200"
    SHRUNK = "a tenth of the lines"
    STALE = "the body before the current one, with the signature that it had then"
    SLOW = "one byte each `slow_interval` seconds"
    BOMB = "gzip of `bomb_bytes` zero bytes, made while it is sent"
    UNASKED_304 = "status 304, also for a request without validators"
    UNAVAILABLE = "status 503"
    REDIRECT_CIRCLE = "two addresses that redirect to each other"
    REDIRECT_ELSEWHERE = "a redirect to the same path at the other origin, which answers without a fault"
    WRONG_CODING = "Content-Encoding is gzip, the body is not compressed"
    UNKNOWN_CODING = "Content-Encoding is br, the body is not compressed"
    NO_SIGNATURE = "status 404 for the signature"
    WRONG_SIGNATURE = "signed by another key"
    SIGNATURE_OF_OTHER_BODY = "signed by the right key, but it is another body's signature"
    SIGNATURE_LATE = "the previous signature for the first request, then the right one"


@dataclass(frozen=True, slots=True)
class Seen:
    """A received request. `elsewhere`: at the other origin. Header names are lower-case.

    `certificate`: the common name of the client's certificate, None if it sent none.
    """

    path: str
    headers: Mapping[str, str]
    elsewhere: bool
    certificate: str | None


@dataclass(frozen=True, slots=True)
class Publication:
    """A body and its signature; `signed_at` in Unix seconds."""

    body: bytes
    signature: bytes
    signed_at: int


class HotlineSimulator:
    """Serves the last publication at `url`, and its signature at `url` + ".minisig". Answers conditional requests.

    `etag` and `last_modified` (whether it sends these validators), `coding` (identity, gzip or zstd, if the client
    accepts it), `prehashed` (the form of minisign's signature) and `fault` may be set at any time, from any thread.
    `requests` are the received requests.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.etag = True
        self.last_modified = False
        self.coding = "identity"
        self.prehashed = True
        self.slow_interval = 0.05
        self.bomb_bytes = 1 << 30
        self.requests: list[Seen] = []
        self.url = ""
        self.elsewhere = ""
        self._tls = tls
        self._keys = minisign.KeyPair.generate()
        self._other_keys = minisign.KeyPair.generate()
        self._wrong: dict[bytes, bytes] = {}
        self._fault: Fault | None = None
        self._late = False
        self._signed_at = int(time.time())
        self._history: list[Publication] = []
        self._arrived = threading.Condition()
        self._runner: web.AppRunner | None = None
        self.publish([])

    # -- what a test says ------------------------------------------------------------------------------------------

    def publish(self, lines: Iterable[str] | bytes, *, signed_at: int | None = None) -> Publication:
        """Publishes a list, signed a second after the previous one, so that no two signatures are the same."""
        self._history.append(self._sign(_joined(lines), signed_at))
        return self._history[-1]

    def republish(self, publication: Publication) -> None:
        """Serves an earlier publication again, with its signature: a replay."""
        self._history.append(publication)

    def rotate_key(self) -> None:
        """Signs later publications with a new key, and sets `public_key_text` to it."""
        self._keys = minisign.KeyPair.generate()

    @property
    def fault(self) -> Fault | None:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self._late = fault is Fault.SIGNATURE_LATE
        self._fault = fault

    # -- what a test asks ------------------------------------------------------------------------------------------

    @property
    def public_key_text(self) -> str:
        """The public key as the two lines of a .pub file."""
        return bytes(self._keys.public_key).decode() + "\n"

    @property
    def current(self) -> Publication:
        return self._history[-1]

    @property
    def bodies_asked(self) -> int:
        return sum(seen.path == LIST for seen in self.requests)

    @property
    def signatures_asked(self) -> int:
        return sum(seen.path == f"{LIST}.minisig" for seen in self.requests)

    def wait_for_bodies(self, count: int, within: float = WAIT) -> None:
        """Waits for `count` requests for the body since the start. Raises AssertionError after `within` seconds.

        It blocks: in the simulator's own loop `await asyncio.to_thread(hotline.wait_for_bodies, 1)`.
        """
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: self.bodies_asked >= count, within)
        assert arrived, f"{self.bodies_asked} requests within {within} s, expected {count}"

    # -- the server ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        server = web.Application()
        server.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(server, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        for _ in range(2):
            await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        scheme = "https" if self._tls else "http"
        here, there = (f"{scheme}://127.0.0.1:{address[1]}" for address in self._runner.addresses)
        self.url, self.elsewhere = f"{here}{LIST}", f"{there}{LIST}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        elsewhere = request.url.port != URL(self.url).port
        headers = {name.lower(): value for name, value in request.headers.items()}
        with self._arrived:
            self.requests.append(Seen(request.path, headers, elsewhere, _common_name(request)))
            self._arrived.notify_all()
        fault = None if elsewhere else self._fault
        match fault:
            case Fault.UNAVAILABLE:
                return web.Response(status=503, text="try again later")
            case Fault.REDIRECT_CIRCLE:
                other = "/circle" if request.path == LIST else LIST
                return web.Response(status=302, headers={"Location": other})
            case Fault.REDIRECT_ELSEWHERE:
                return web.Response(status=302, headers={"Location": self.elsewhere.replace(LIST, request.path)})
        if request.path == f"{LIST}.minisig":
            return self._answer_signature(fault)
        if request.path != LIST:
            return web.Response(status=404)
        return await self._answer_body(request, fault)

    def _answer_signature(self, fault: Fault | None) -> web.Response:
        signature = self._served(fault).signature
        match fault:
            case Fault.NO_SIGNATURE:
                return web.Response(status=404)
            case Fault.WRONG_SIGNATURE:
                body = self.current.body  # a signature has its time: the second request gets the first one's
                signature = self._wrong.setdefault(body, bytes(self._other_keys.secret_key.sign(body)))
            case Fault.SIGNATURE_OF_OTHER_BODY:
                signature = bytes(self._keys.secret_key.sign(self.current.body + b"# another\n"))
            case Fault.SIGNATURE_LATE if self._late:
                self._late = False
                signature = self._before().signature
        return web.Response(body=signature, content_type="application/octet-stream")

    async def _answer_body(self, request: web.Request, fault: Fault | None) -> web.StreamResponse:
        served = self._served(fault)
        validators = self._validators(served)
        if fault is Fault.UNASKED_304 or _unchanged(request.headers, validators):
            return web.Response(status=304, headers=validators)
        headers = {"Content-Type": "text/html" if fault is Fault.HTML else "text/plain", **validators}
        match fault:
            case Fault.TRUNCATED:
                headers["Content-Length"] = str(len(served.body))
                return await _send(request, headers, _pieces([served.body[: len(served.body) // 2]]), cut=True)
            case Fault.SLOW:
                headers["Content-Length"] = str(len(served.body))
                return await _send(request, headers, self._slowly(served.body))
            case Fault.BOMB:
                headers["Content-Encoding"] = "gzip"
                return await _send(request, headers, _pieces(_gzip_of_zeros(self.bomb_bytes)))
            case Fault.WRONG_CODING:
                return web.Response(body=served.body, headers={**headers, "Content-Encoding": "gzip"})
            case Fault.UNKNOWN_CODING:
                return web.Response(body=served.body, headers={**headers, "Content-Encoding": "br"})
        body = served.body
        if self.coding != "identity" and self.coding in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = self.coding
            body = gzip.compress(body, mtime=0) if self.coding == "gzip" else zstandard.compress(body)
        return web.Response(body=body, headers=headers)

    async def _slowly(self, body: bytes) -> AsyncIterator[bytes]:
        for byte in body:
            yield bytes([byte])
            await asyncio.sleep(self.slow_interval)

    # -- what is served --------------------------------------------------------------------------------------------

    def _served(self, fault: Fault | None) -> Publication:
        """The publication to serve with this fault. The same for the body and its signature."""
        current = self.current
        match fault:
            case Fault.STALE:
                return self._before()
            case Fault.EMPTY:
                return self._sign(b"", current.signed_at + 1)
            case Fault.HTML:
                page = b"<!DOCTYPE html>\n<title>Maintenance</title>\n<p>Back soon.</p>\n"
                return self._sign(page, current.signed_at + 1)
            case Fault.SHRUNK:
                lines = current.body.splitlines(keepends=True)
                return self._sign(b"".join(lines[: len(lines) // 10]), current.signed_at + 1)
        return current

    def _before(self) -> Publication:
        return self._history[-2]

    def _sign(self, body: bytes, signed_at: int | None) -> Publication:
        if signed_at is None:
            signed_at = self._signed_at = self._signed_at + 1
        comment = f"timestamp:{signed_at}\tfile:list.txt{chr(9) + 'hashed' if self.prehashed else ''}"
        signature = self._keys.secret_key.sign(body, prehash=self.prehashed, trusted_comment=comment)
        return Publication(body, bytes(signature) + b"\n", signed_at)

    def _validators(self, served: Publication) -> dict[str, str]:
        validators = {}
        if self.etag:
            validators["ETag"] = f'"{hashlib.sha256(served.body).hexdigest()[:16]}"'
        if self.last_modified:
            validators["Last-Modified"] = formatdate(served.signed_at, usegmt=True)
        return validators


class HotlineThread(HotlineSimulator):
    """A HotlineSimulator with a loop and a thread of its own: `with HotlineThread() as hotline:`."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls=tls)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._up = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), name="hotline", daemon=True)

    def source(self, folder: Path) -> dict[str, Any]:
        """The configuration of a source with the hotline's list. Its key is written to the configuration's folder."""
        (folder / "hotline.pub").write_text(self.public_key_text)
        return {
            "url": self.url,
            "format": "text",
            "defaults": {"type": "domain"},
            "schedule": "every 1d",
            "verify": {"method": "minisign", "key": "hotline.pub"},
        }

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(WAIT), "the hotline did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._down.set)
        self._thread.join(WAIT)
        assert not self._thread.is_alive(), "the hotline did not stop"

    async def _serve(self) -> None:
        self._loop, self._down = asyncio.get_running_loop(), asyncio.Event()
        async with self:
            self._up.set()
            await self._down.wait()


def _joined(lines: Iterable[str] | bytes) -> bytes:
    return lines if isinstance(lines, bytes) else "".join(f"{line}\n" for line in lines).encode()


def _common_name(request: web.Request) -> str | None:
    shown = request.get_extra_info("peercert") or {}
    return next((value for part in shown.get("subject", ()) for name, value in part if name == "commonName"), None)


def _unchanged(asked: Mapping[str, str], validators: Mapping[str, str]) -> bool:
    """Whether a validator matches: If-None-Match before If-Modified-Since (RFC 9110 13.2.2).

    Dates are compared as text, because they are the simulator's own.
    """
    if "If-None-Match" in asked:
        return asked["If-None-Match"] == validators.get("ETag")
    return "If-Modified-Since" in asked and asked["If-Modified-Since"] == validators.get("Last-Modified")


async def _send(
    request: web.Request, headers: Mapping[str, str], pieces: AsyncIterator[bytes], *, cut: bool = False
) -> web.StreamResponse:
    """Streams, with chunked coding if `headers` have no length. `cut`: closes the connection after the last piece."""
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    async for piece in pieces:
        await response.write(piece)
    if cut:
        assert request.transport is not None
        request.transport.close()
        return response
    await response.write_eof()
    return response


async def _pieces(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _gzip_of_zeros(length: int) -> Iterator[bytes]:
    """One valid gzip member of zeros. A full flush after each MiB lets one compressed MiB be repeated."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    zeros = bytes(FILE_CHUNK)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    whole, rest = divmod(length, FILE_CHUNK)
    yield b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    yield from repeat(block, whole)
    yield packer.compress(bytes(rest)) + packer.flush()
    crc = 0
    for _ in range(whole):
        crc = zlib.crc32(zeros, crc)
    crc = zlib.crc32(bytes(rest), crc)
    yield crc.to_bytes(4, "little") + (length & 0xFFFFFFFF).to_bytes(4, "little")


__all__ = ["Fault", "HotlineSimulator", "HotlineThread", "Publication", "Seen"]
