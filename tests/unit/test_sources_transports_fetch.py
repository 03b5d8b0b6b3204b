"""Pulls from a hotline on loopback and from files: body and signature arrive completely and within bounds, or there is
an error and no file."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import gzip
import hashlib
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import minisign
import pytest
import pytest_asyncio
import zstandard
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from blocklistd.errors import FetchError, StoreError
from blocklistd.jobs.runner import Jobs
from blocklistd.limits import CHUNK, MAX_INTERIM_RESPONSES, MAX_REDIRECTS, MAX_SIGNATURE_BYTES
from blocklistd.model import Fetched, NotModified, Sha256, TlsPeer, Validators
from blocklistd.sources.proofs.minisign import verify_minisign
from blocklistd.sources.proofs.proof import Proven
from blocklistd.sources.transports import fetch as fetching
from blocklistd.sources.transports.fetch import signature_url
from blocklistd.sources.transports.peer import peer_of, peer_of_certificate
from blocklistd.sources.transports.sink import Sink
from blocklistd.sources.transports.transport import Arrived, Request, TransferMode
from tests.sim.hotline import Fault, HotlineSimulator, HotlineThread

LINES = [f"host-{number}.example" for number in range(100)]
MINISIG = "{url}.minisig"
NO_JOBS = Jobs()
SECRET = {"Authorization": "Bearer 0000"}


@pytest_asyncio.fixture(loop_scope="function")
async def hotline() -> AsyncIterator[HotlineSimulator]:
    async with HotlineSimulator() as simulator:
        simulator.publish([])
        simulator.publish(LINES)
        yield simulator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def request(url: str, **changes: Any) -> Request:
    return Request(**{"url": url, "signature": MINISIG, "timeout": 10.0, "max_bytes": 1 << 20, **changes})


async def fetch(asked: Request, folder: Path) -> Fetched | NotModified:
    return await fetching.fetch(asked, folder, NO_JOBS)


async def fetched(asked: Request, folder: Path) -> Fetched:
    found = await fetch(asked, folder)
    assert isinstance(found, Fetched)
    assert found.body.stat().st_size == found.length
    assert found.body.parent == folder
    return found


def left(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def verified(found: Fetched, public_key: str) -> Proven:
    assert found.signature is not None
    with open(found.body, "rb") as body:
        return verify_minisign(body, found.signature, minisign.PublicKey.from_bytes(public_key.encode()))


async def refused(asked: Request, folder: Path, match: str) -> str:
    """The text of the error. No file is left."""
    with pytest.raises(FetchError, match=match) as error:
        await fetch(asked, folder)
    assert left(folder) == []
    text = str(error.value)
    assert "aiohttp" not in text
    assert "<" not in text
    assert "host-1.example" not in text
    return text


@asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[str]:
    """Answers each connection's first request with these bytes, and closes it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/list"


# -- bodies that arrive --------------------------------------------------------------------------------------------


async def test_a_body_and_its_signature_are_fetched(hotline: HotlineSimulator, folder: Path) -> None:
    found = await fetched(request(hotline.url), folder)
    assert found.body.read_bytes() == hotline.current.body
    assert found.encoding == "identity"
    assert found.signature == hotline.current.signature
    assert verified(found, hotline.public_key_text).signed_at == hotline.current.signed_at
    assert [seen.path for seen in hotline.requests] == ["/list.txt", "/list.txt.minisig"]
    assert hotline.requests[0].headers["accept-encoding"] == "gzip, zstd"
    assert hotline.requests[1].headers["accept-encoding"] == "identity"


async def test_no_signature_is_fetched_if_none_is_configured(hotline: HotlineSimulator, folder: Path) -> None:
    assert (await fetched(request(hotline.url, signature=None), folder)).signature is None
    assert hotline.signatures_asked == 0


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_body_is_kept_as_it_was_sent(hotline: HotlineSimulator, folder: Path, coding: str) -> None:
    hotline.coding = coding
    found = await fetched(request(hotline.url), folder)
    unpack = gzip.decompress if coding == "gzip" else zstandard.decompress
    assert found.encoding == coding
    assert unpack(found.body.read_bytes()) == hotline.current.body


async def test_a_large_body_is_written_in_chunks(hotline: HotlineSimulator, folder: Path) -> None:
    hotline.publish(bytes(range(256)) * (5 * CHUNK // 256) + b"end")
    found = await fetched(request(hotline.url, max_bytes=5 * CHUNK + 3), folder)
    assert found.body.read_bytes() == hotline.current.body


async def test_an_empty_body_is_a_body(hotline: HotlineSimulator, folder: Path) -> None:
    hotline.fault = Fault.EMPTY
    found = await fetched(request(hotline.url), folder)
    assert (found.length, found.body.read_bytes()) == (0, b"")


async def test_a_hotline_in_a_thread_serves_a_body(folder: Path) -> None:
    with HotlineThread() as hotline:
        hotline.publish(LINES)
        found = await fetched(request(hotline.url), folder)
        await asyncio.to_thread(hotline.wait_for_bodies, 1)
    assert found.body.read_bytes() == hotline.current.body


# -- conditional requests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["etag", "last_modified"])
async def test_conditional_requests_fetch_a_body_only_if_it_changed(
    hotline: HotlineSimulator, folder: Path, kind: str
) -> None:
    hotline.etag, hotline.last_modified = kind == "etag", kind == "last_modified"
    first = await fetched(request(hotline.url), folder)
    assert bool(first.validators)
    again = request(hotline.url, validators=first.validators)
    assert await fetch(again, folder) == NotModified()
    assert hotline.signatures_asked == 1
    hotline.publish(LINES[1:])
    changed = await fetched(again, folder)
    assert changed.validators != first.validators
    assert hotline.signatures_asked == 2
    assert not {"if-none-match", "if-modified-since"} & hotline.requests[-1].headers.keys()


async def test_a_304_to_an_unconditional_request_is_refused(hotline: HotlineSimulator, folder: Path) -> None:
    hotline.fault = Fault.UNASKED_304
    await refused(request(hotline.url), folder, "status 304, not modified, to an unconditional request")


@pytest.mark.parametrize("value", ['"\xff"', '"a b"', '"' + "a" * 300 + '"', ""])
async def test_validators_with_unexpected_characters_are_dropped(folder: Path, value: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nETag: {value}\r\nLast-Modified: {value}\r\n\r\n1"
    async with raw_server(head.encode("latin-1")) as url:
        assert (await fetched(request(url, signature=None), folder)).validators == Validators()


# -- bounds --------------------------------------------------------------------------------------------------------


async def test_max_bytes_is_exact(hotline: HotlineSimulator, folder: Path) -> None:
    size = len(hotline.current.body)
    found = await fetched(request(hotline.url, max_bytes=size), folder)
    assert found.length == size
    found.body.unlink()
    await refused(
        request(hotline.url, max_bytes=size - 1), folder, f"{size} bytes or more: expected at most {size - 1}"
    )


async def test_a_body_without_a_length_is_bounded_by_max_bytes(hotline: HotlineSimulator, folder: Path) -> None:
    hotline.fault = Fault.BOMB
    hotline.bomb_bytes = 1 << 40
    await refused(request(hotline.url), folder, "expected at most 1048576, raise `max_bytes`")


async def test_a_slow_hotline_ends_by_the_timeout(hotline: HotlineSimulator, folder: Path) -> None:
    hotline.fault = Fault.SLOW
    began = time.monotonic()
    text = await refused(request(hotline.url, timeout=2), folder, "incomplete after 2 s, [1-9][0-9]* bytes")
    assert time.monotonic() - began < 20
    assert hotline.url in text


async def test_a_cancelled_pull_leaves_no_file(hotline: HotlineSimulator, folder: Path) -> None:
    hotline.fault = Fault.SLOW
    pull = asyncio.create_task(fetch(request(hotline.url), folder))
    await asyncio.to_thread(hotline.wait_for_bodies, 1)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert left(folder) == []


async def test_a_cancelled_pull_leaves_no_file_if_a_write_still_runs_in_a_thread(
    hotline: HotlineSimulator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, released, ended = threading.Event(), threading.Event(), threading.Event()
    write = Sink._write

    def late(sink: Sink, data: bytes) -> None:
        started.set()
        assert released.wait(10)
        write(sink, data)
        ended.set()

    monkeypatch.setattr(Sink, "_write", late)
    pull = asyncio.create_task(fetch(request(hotline.url), folder))
    assert await asyncio.to_thread(started.wait, 10)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    released.set()
    assert await asyncio.to_thread(ended.wait, 10)
    assert left(folder) == []


async def test_the_timeout_includes_the_signature(folder: Path) -> None:
    done, asked = asyncio.Event(), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if len(asked) == 1:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
        else:
            await done.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/list"
        await refused(request(url, timeout=1.5), folder, "incomplete after 1.5 s, 3 bytes of the body arrived")
        done.set()


async def test_a_long_signature_is_refused(folder: Path) -> None:
    body = b"x" * (MAX_SIGNATURE_BYTES + 1)
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as url:
        await refused(request(url), folder, f"more than {MAX_SIGNATURE_BYTES} bytes: expected a signature")


# -- incomplete bodies, and other responses ------------------------------------------------------------------------


async def test_a_body_that_was_cut_short_is_refused(hotline: HotlineSimulator, folder: Path) -> None:
    hotline.fault = Fault.TRUNCATED
    await refused(request(hotline.url), folder, "the body was cut short")


async def test_a_chunked_body_that_was_cut_short_is_refused(folder: Path) -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n") as url:
        await refused(request(url, signature=None), folder, "the body was cut short")


async def test_a_body_without_a_length_needs_a_signature(folder: Path) -> None:
    for length in (b"", b"Content-Length: 3\r\n"):
        head = b"HTTP/1.1 200 OK\r\n" + length + b"Transfer-Encoding: identity\r\n"
        async with raw_server(head + b"\r\nabc") as url:
            await refused(request(url, signature=None), folder, "no length and not chunked|not an HTTP answer")
    async with raw_server(b"HTTP/1.1 200 OK\r\n\r\nabc") as url:
        await refused(request(url, signature=None), folder, "no length and not chunked")
        assert (await fetched(request(url), folder)).length == 3


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        (Fault.UNAVAILABLE, "status 503: expected 200, the next pull tries again"),
        (Fault.NO_SIGNATURE, r"list\.txt\.minisig: status 404: expected 200, check `signature`"),
        (Fault.UNKNOWN_CODING, "content coding that was not requested"),
    ],
)
async def test_faults_of_the_hotline_are_refused(
    hotline: HotlineSimulator, folder: Path, fault: Fault, match: str
) -> None:
    hotline.fault = fault
    await refused(request(hotline.url), folder, match)
    hotline.fault = None
    await fetched(request(hotline.url), folder)


@pytest.mark.parametrize("status", [201, 204, 206, 401, 418, 500])
async def test_every_other_status_is_named(folder: Path, status: int) -> None:
    async with raw_server(b"HTTP/1.1 %d Odd secret.example\r\nContent-Length: 0\r\n\r\n" % status) as url:
        assert "secret" not in await refused(request(url), folder, f"status {status}: expected 200")


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"SSH-2.0-secret.example\r\n", "not an HTTP answer"),
        (b"", "the connection was closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Encoding: gzip\r\nContent-Encoding: br\r\n\r\n1", "coding"),
    ],
)
async def test_responses_that_are_no_http_are_refused(folder: Path, answer: bytes, match: str) -> None:
    async with raw_server(answer) as url:
        assert "secret" not in await refused(request(url), folder, match)


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
async def test_a_few_interim_responses_are_accepted_and_endless_ones_refused(folder: Path, status: bytes) -> None:
    """aiohttp reads interim responses without yielding to other tasks, so endless ones would starve the event loop."""
    interim, final = b"HTTP/1.1 " + status + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na\n"
    async with raw_server(interim * MAX_INTERIM_RESPONSES + final) as url:
        assert (await fetched(request(url, signature=None), folder)).length == 2
        left(folder)[0].unlink()
    for answer in (interim * (MAX_INTERIM_RESPONSES + 1) + final, interim * 100_000):
        async with raw_server(answer) as url:
            await refused(request(url, signature=None), folder, "interim responses")


async def test_each_request_closes_its_connection(hotline: HotlineSimulator, folder: Path) -> None:
    await fetched(request(hotline.url), folder)
    assert [seen.headers.get("connection") for seen in hotline.requests] == ["close", "close"]


async def test_a_refused_connection_is_reported(folder: Path) -> None:
    async with raw_server(b"") as url:
        pass
    await refused(request(url), folder, "Connection refused")


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that knows no name, so that no query leaves this machine."""

    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", unknown)


@pytest.mark.usefixtures("no_names")
async def test_a_name_that_does_not_resolve_is_reported(folder: Path) -> None:
    await refused(request("https://hotline.invalid/list"), folder, "its name does not resolve")


@pytest.mark.parametrize(
    "head",
    [
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: notchunked\r\nContent-Length: 4",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked, xchunked",
    ],
)
async def test_only_a_transfer_coding_that_is_chunked_frames_a_body(folder: Path, head: bytes) -> None:
    """Another coding whose name ends in `chunked` does not mark the end of the body, so it may be truncated."""
    async with raw_server(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n4\r\na.ex\r\n0\r\n\r\n") as url:
        for signature in (None, MINISIG):
            await refused(request(url, signature=signature), folder, "transfer coding|not an HTTP answer")


async def test_http_1_0_has_no_chunks(folder: Path) -> None:
    async with raw_server(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na.ex\r\n0\r\n\r\n") as url:
        await refused(request(url, signature=None), folder, "no length and not chunked|not an HTTP answer")


@pytest.mark.parametrize(
    "rest", [b"", b"4\r\na.ex\r\n", b"4\r\na.ex\r\n0\r\n", b"ff\r\na.ex", b"4;x=" + b"y" * 20000 + b"\r\n"]
)
async def test_chunks_without_an_end_are_a_truncated_body(folder: Path, rest: bytes) -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + rest) as url:
        await refused(request(url, signature=None), folder, "cut short|not an HTTP answer|connection")


# -- the disk ------------------------------------------------------------------------------------------------------


async def test_a_full_disk_is_a_store_error(
    hotline: HotlineSimulator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(sink: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Sink, "_write", full)
    with pytest.raises(StoreError, match=f"{folder}: No space left on device"):
        await fetch(request(hotline.url), folder)
    assert left(folder) == []


async def test_a_missing_folder_is_a_store_error(hotline: HotlineSimulator, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"{tmp_path}/none: No such file or directory"):
        await fetch(request(hotline.url), tmp_path / "none")


# -- redirects and credentials -------------------------------------------------------------------------------------


async def test_a_circle_of_redirects_is_refused(hotline: HotlineSimulator, folder: Path) -> None:
    hotline.fault = Fault.REDIRECT_CIRCLE
    await refused(request(hotline.url), folder, "redirects in a circle")
    assert len(hotline.requests) == 2


async def test_credentials_are_only_sent_to_their_origin(hotline: HotlineSimulator, folder: Path) -> None:
    hotline.fault = Fault.REDIRECT_ELSEWHERE
    hotline.last_modified = True
    found = await fetched(request(hotline.url, headers=SECRET), folder)
    assert found.body.read_bytes() == hotline.current.body
    assert found.signature == hotline.current.signature
    assert [(seen.elsewhere, "authorization" in seen.headers) for seen in hotline.requests] == [
        (False, True),
        (True, False),
        (False, True),
        (True, False),
    ]
    assert found.validators.etag is not None
    assert found.validators.last_modified is None, "the next redirect may lead to an older, other file"
    assert await fetch(request(hotline.url, validators=found.validators), folder) == NotModified()


async def test_a_date_is_not_sent_to_the_target_of_a_redirect(hotline: HotlineSimulator, folder: Path) -> None:
    hotline.etag, hotline.last_modified = False, True
    known = (await fetched(request(hotline.url), folder)).validators
    hotline.fault = Fault.REDIRECT_ELSEWHERE
    await fetched(request(hotline.url, validators=known), folder)
    assert "if-modified-since" not in hotline.requests[-3].headers


@pytest.mark.parametrize(
    ("location", "match"),
    [
        (b"http://hotline.example/secret", "its redirect: http: to another machine"),
        (b"file:///secret", "its redirect: not a URL that can be fetched"),
        (b"http://secret:secret@127.0.0.1/", "its redirect: a user or password in the URL"),
        (b"http://[secret", "redirects to a text that is no URL"),
        (b"", "redirects without a Location"),
    ],
)
async def test_redirects_to_targets_that_are_not_allowed_are_refused(folder: Path, location: bytes, match: str) -> None:
    async with raw_server(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n") as url:
        assert "secret" not in await refused(request(url), folder, match)


async def redirected(folder: Path, location: bytes, hosts: frozenset[str] = frozenset()) -> str:
    async with raw_server(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n") as url:
        with pytest.raises(FetchError) as error:
            await fetch(request(url, redirects=hosts), folder)
        return str(error.value)


@pytest.mark.usefixtures("no_names")
async def test_redirects_to_other_hosts_are_refused_unless_configured(folder: Path) -> None:
    """Otherwise anyone could serve a list through an open redirect of a hotline."""
    elsewhere = b"http://localhost:1/list"
    assert "redirects to another host" in await redirected(folder, elsewhere)
    assert "redirects to another host" in await redirected(folder, elsewhere, frozenset({"other.example"}))
    assert "redirects to another host" in await redirected(folder, b"//localhost:1/list")
    named = frozenset({"localhost"})
    for location in (elsewhere, b"http://LOCALHOST:1/list", b"//localhost:1/list"):
        assert "its name does not resolve" in await redirected(folder, location, named)
    assert "Connection refused" in await redirected(folder, b"http://127.0.0.1:1/list"), "the same, another port"
    assert "redirects from http to another scheme" in await redirected(folder, b"https://127.0.0.1:1/list")


async def test_too_many_redirects_are_refused(folder: Path) -> None:
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split()[1])
        writer.write(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %d\r\n\r\n" % len(asked))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await refused(request(f"http://127.0.0.1:{port}/0"), folder, f"redirects more than {MAX_REDIRECTS} times")
    assert len(asked) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "url",
    [
        "http://hotline.example/list",
        "http://192.0.2.1/list",
        "http://[2001:db8::1]/list",
        "ftp://hotline.example/list",
        "axfr://hotline.example",
        "https:///list",
        "list.txt",
        "https://user:secret@hotline.example/list",
        "https://[secret/",
        "file:secret.txt",
        "file://hotline.example/list",
        "file:///list%00",
    ],
)
async def test_urls_that_are_not_allowed_are_refused(folder: Path, url: str) -> None:
    await refused(request(url), folder, "expected ")


@pytest.mark.usefixtures("no_names")
async def test_no_error_contains_a_secret_of_a_url(folder: Path) -> None:
    text = await refused(request("https://user:secret@hotline.invalid/list?key=secret#secret"), folder, "in `auth`")
    assert "secret" not in text
    text = await refused(request("https://hotline.invalid/list?key=secret"), folder, "does not resolve")
    assert "secret" not in text
    assert "secret" not in repr(request("https://hotline.invalid/", headers={"Authorization": "Bearer secret"}))


# -- https ---------------------------------------------------------------------------------------------------------


class Authority:
    """A certification authority for 127.0.0.1, with a certificate for a server and one for a client."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._name = name
        self._folder = folder
        self.path = folder / "ca.pem"
        certificate = self._certificate(name, self._key, is_authority=True)
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _certificate(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _issue(self, context: ssl.SSLContext, common_name: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        certificate = self._certificate(name, key, is_authority=False)
        path = self._folder / f"{common_name}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(path)
        return context

    def server(self) -> ssl.SSLContext:
        """A context that accepts a client certificate, and requires none."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.path)
        context.verify_mode = ssl.CERT_OPTIONAL
        return self._issue(context, "server")

    def client(self) -> ssl.SSLContext:
        """A context that trusts only this authority, and has a client certificate."""
        return self._issue(self.bare_client(), "client")

    def bare_client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.path)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_pinned_authority_verifies_the_server(folder: Path, authority: Authority) -> None:
    async with HotlineSimulator(tls=authority.server()) as hotline:
        hotline.publish(LINES)
        found = await fetched(request(hotline.url, ssl=authority.client()), folder)
        assert found.body.read_bytes() == hotline.current.body
        found.body.unlink()
        await refused(request(hotline.url), folder, "its certificate is not trusted: ")


def by_openssl(path: Path) -> tuple[str, str]:
    """The SHA-256 of a certificate and of its public key."""

    def openssl(*arguments: str, given: bytes = b"") -> bytes:
        return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True).stdout

    shown = openssl("x509", "-in", str(path), "-noout", "-fingerprint", "-sha256").decode()
    public = openssl("x509", "-in", str(path), "-noout", "-pubkey")
    encoded = openssl("pkey", "-pubin", "-outform", "DER", given=public)
    return shown.strip().partition("=")[2].replace(":", "").lower(), hashlib.sha256(encoded).hexdigest()


async def test_the_server_of_a_body_is_named_by_its_certificate_and_its_key(
    folder: Path, authority: Authority, hotline: HotlineSimulator, tmp_path: Path
) -> None:
    async with HotlineSimulator(tls=authority.server()) as safe:
        safe.publish(LINES)
        found = await fetched(request(f"{safe.url}?token=secret", ssl=authority.client()), folder)
        log = await fetched(
            request(safe.url, ssl=authority.client(), signature=None, transfer=TransferMode.LOG), folder
        )
    assert log.peer == found.peer
    certificate, public_key = by_openssl(tmp_path / "server.pem")
    assert found.peer is not None
    assert (found.peer.certificate, found.peer.public_key) == (certificate, public_key)
    assert found.url == safe.url, "redacted"
    hotline.publish(LINES)
    assert (await fetched(request(hotline.url), folder)).peer is None, "without TLS"


def test_the_server_of_a_body_survives_the_way_from_another_process() -> None:
    peer = TlsPeer(Sha256("a" * 64), Sha256("b" * 64))
    for arrived in (Arrived("https://hotline.example/", peer=peer), Arrived("file:/list")):
        assert Arrived.from_json(json.loads(json.dumps(arrived.to_json())), arrived.url) == arrived
    sent = Arrived("https://hotline.example/", peer=peer).to_json()
    assert (
        Arrived.from_json(sent | {"url": "file:/secret"}, "https://hotline.example/").url == "https://hotline.example/"
    )
    wrong: list[Any] = [["a" * 64], ["a" * 64, "B" * 64], [1, 2], "ab", 7, ["a" * 64, "b" * 65]]
    for found in wrong:
        with pytest.raises(FetchError):
            Arrived.from_json(sent | {"peer": found}, "https://hotline.example/")


def test_a_certificate_that_can_not_be_parsed_names_no_server() -> None:
    assert peer_of_certificate(b"0\x03\x02\x01\x01") is None
    assert peer_of(None) is None


async def test_other_origins_are_refused_with_a_pinned_authority_unless_allowed(
    folder: Path, authority: Authority
) -> None:
    async with HotlineSimulator(tls=authority.server()) as hotline:
        hotline.publish(LINES)
        hotline.fault = Fault.REDIRECT_ELSEWHERE
        await refused(request(hotline.url, ssl=authority.client()), folder, "another origin, for which the `ca`")
        assert [seen.elsewhere for seen in hotline.requests] == [False]
        assert [seen.certificate for seen in hotline.requests] == ["client"]
        allowed = request(hotline.url, ssl=authority.client(), redirect_ssl=authority.bare_client())
        assert (await fetched(allowed, folder)).body.read_bytes() == hotline.current.body
        assert [seen.certificate for seen in hotline.requests[1:]] == ["client", None, "client", None]


async def test_a_redirect_from_https_to_http_is_refused(
    folder: Path, authority: Authority, hotline: HotlineSimulator
) -> None:
    async with HotlineSimulator(tls=authority.server()) as safe:
        safe.publish(LINES)
        safe.fault = Fault.REDIRECT_ELSEWHERE
        safe.elsewhere = hotline.url
        await refused(request(safe.url, ssl=authority.client()), folder, "redirects from https to another scheme")
    assert hotline.requests == []


async def test_plain_http_on_an_https_port_is_a_tls_error(folder: Path, hotline: HotlineSimulator) -> None:
    await refused(request(hotline.url.replace("http:", "https:")), folder, "TLS failed: ")


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def drops(tmp_path: Path) -> Path:
    (tmp_path / "drop zone").mkdir()
    return tmp_path / "drop zone"


def drop(path: Path, body: bytes, mtime: int) -> None:
    path.write_bytes(body)
    os.utime(path, (mtime, mtime))


async def test_a_file_is_read_only_if_it_changed(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    url = f"file:{path}"
    drop(path, b"one.example\n", 1000)
    (tmp_path / "list.txt.minisig").write_bytes(b"of one")
    first = await fetched(request(url), folder)
    assert first.body.read_bytes() == b"one.example\n"
    assert (first.signature, first.encoding) == (b"of one", "identity")
    again = request(url, validators=first.validators)
    assert await fetch(again, folder) == NotModified()
    path.rename(tmp_path / "kept")
    drop(path, b"two.example\n", 1000)  # as long, as old
    assert (await fetched(again, folder)).body.read_bytes() == b"two.example\n"


async def test_the_newest_file_of_a_drop_folder_is_the_list(folder: Path, drops: Path) -> None:
    for name, mtime in [("b", 2000), ("a", 2000), ("c", 1000), (".d", 3000), ("b.minisig", 3000), ("e.part", 3000)]:
        drop(drops / name, name.encode(), mtime)
    drop(drops / "f.TMP", b"f", 3000)
    (drops / "g").mkdir()
    (drops / "link").symlink_to(drops / "c")
    os.mkfifo(drops / "pipe")
    found = await fetched(request(drops.as_uri()), folder)
    assert (found.body.read_bytes(), found.signature) == (b"b", b"b.minisig")
    again = request(drops.as_uri(), validators=found.validators)
    assert await fetch(again, folder) == NotModified()
    drop(drops / "50% #1?.csv", b"new", 4000)
    drop(drops / "50% #1?.csv.minisig", b"of new", 4000)
    newest = await fetched(again, folder)
    assert (newest.body.read_bytes(), newest.signature) == (b"new", b"of new")


async def test_of_dated_releases_the_last_date_is_the_list(folder: Path, drops: Path) -> None:
    for name, mtime in [("swiss_20261127.txt", 3000), ("swiss_20261128.txt", 1000), ("swiss_20261128.txt.SIGN", 4000)]:
        drop(drops / name, name.encode(), mtime)
    found = await fetched(request(drops.as_uri(), signature="{url}.SIGN"), folder)
    assert (found.body.read_bytes(), found.signature) == (b"swiss_20261128.txt", b"swiss_20261128.txt.SIGN")


async def test_the_signatures_of_a_drop_folder_are_never_the_list(folder: Path, drops: Path) -> None:
    for name, mtime in [("a.txt", 2000), ("a.txt.asc", 3000), ("b.ASC", 3000)]:
        drop(drops / name, name.encode(), mtime)
    found = await fetched(request(drops.as_uri(), signature="{url}.asc"), folder)
    assert (found.body.read_bytes(), found.signature) == (b"a.txt", b"a.txt.asc")
    inline = await fetched(request(drops.as_uri(), signature=None), folder)
    assert inline.body.read_bytes() == b"b.ASC", "an armored message may be a list"


@pytest.mark.parametrize(
    "ending", [".part", ".partial", ".filepart", ".crdownload", ".tmp", ".swp", ".bak", "~", ".minisig", ".FilePart"]
)
async def test_incomplete_uploads_and_backups_are_never_the_list(folder: Path, drops: Path, ending: str) -> None:
    drop(drops / f"list.txt{ending}", b"half", 2000)
    drop(drops / f".list.txt.{ending.strip('.')}", b"half", 2000)
    await refused(request(drops.as_uri(), signature=None), folder, r"no file in this drop folder: .*\.bak")
    drop(drops / "list.txt", b"whole", 1000)
    for pattern in ("*", "list*"):
        found = await fetched(request(drops.as_uri(), signature=None, pattern=pattern), folder)
        assert found.body.read_bytes() == b"whole"


async def test_only_files_that_match_the_pattern_are_the_list(folder: Path, drops: Path) -> None:
    for name, mtime in [("list-1.csv", 1000), ("list-2.csv", 2000), ("README.md", 3000), ("list-3.CSV", 3000)]:
        drop(drops / name, name.encode(), mtime)
    asked = request(drops.as_uri(), signature=None, pattern="list-?.csv")
    found = await fetched(asked, folder)
    assert found.body.read_bytes() == b"list-2.csv"
    found.body.unlink()
    await refused(replace(asked, pattern="*.txt"), folder, r"expected one whose name matches `pattern` \(\*\.txt\)")


async def test_files_that_can_not_be_the_list_are_refused(folder: Path, drops: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    await refused(request(drops.as_uri()), folder, "no file in this drop folder")
    await refused(request(f"file:{tmp_path}/none"), folder, "none: No such file or directory")
    await refused(request(f"file:{tmp_path}/pipe"), folder, "pipe: not a regular file")
    drop(drops / "list", b"one.example\n", 1000)
    await refused(request(drops.as_uri()), folder, r"list\.minisig: No such file or directory")
    await refused(request(drops.as_uri(), signature=None, max_bytes=11), folder, "12 bytes or more")


@pytest.mark.parametrize("body", [b"one.example\ntwo.example\n", b"", b"two.example\n"], ids=["longer", "cut", "other"])
async def test_a_file_that_changes_while_it_is_read_is_refused(
    folder: Path, drops: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    path = drops / "list"
    drop(path, b"one.example\n", 1000)
    write = Sink.write

    async def change(sink: Sink, data: bytes) -> None:
        drop(path, body, 2000)
        await write(sink, data)

    monkeypatch.setattr(Sink, "write", change)
    await refused(request(f"file:{path}", signature=None), folder, "list: changed while it was read")


async def test_the_signature_of_a_file_may_be_at_an_https_url(
    hotline: HotlineSimulator, folder: Path, tmp_path: Path
) -> None:
    drop(tmp_path / "list", hotline.current.body, 1000)
    asked = request(f"file://{tmp_path}/list", signature=f"{hotline.url}.minisig", headers=SECRET)
    assert (await fetched(asked, folder)).signature == hotline.current.signature
    assert "authorization" not in hotline.requests[0].headers


def test_the_url_of_a_signature_follows_its_template() -> None:
    assert signature_url("https://hotline.example/a?b", "{url}.minisig") == "https://hotline.example/a?b.minisig"
    assert signature_url("https://hotline.example/a", "https://keys.example/a.sig") == "https://keys.example/a.sig"


# -- the simulator's other faults, as the next stages see them -----------------------------------------------------


async def test_the_simulators_signatures_fit_unless_its_fault_concerns_them(
    hotline: HotlineSimulator, folder: Path
) -> None:
    key = minisign.PublicKey.from_bytes(hotline.public_key_text.encode())
    own = minisign.Signature.from_bytes(hotline.current.signature)

    async def proves_itself(fault: Fault) -> bool:
        hotline.fault = fault
        found = await fetched(request(hotline.url), folder)
        assert found.signature is not None
        try:
            key.verify(found.body.read_bytes(), minisign.Signature.from_bytes(found.signature))
        except minisign.VerifyError:
            return False
        return True

    hotline.publish(LINES[:50])
    for fault in (Fault.EMPTY, Fault.HTML, Fault.SHRUNK, Fault.STALE):
        assert await proves_itself(fault), fault
    found = await fetched(request(hotline.url), folder)
    assert found.signature is not None
    assert minisign.Signature.from_bytes(found.signature) == own
    for fault in (Fault.WRONG_SIGNATURE, Fault.SIGNATURE_OF_OTHER_BODY, Fault.SIGNATURE_LATE):
        assert not await proves_itself(fault), fault
    found = await fetched(request(hotline.url), folder)
    assert found.signature == hotline.current.signature, "the second time it is the right one"


async def test_the_bomb_is_one_valid_stream(hotline: HotlineSimulator, folder: Path) -> None:
    hotline.fault, hotline.bomb_bytes = Fault.BOMB, 3_000_000
    found = await fetched(request(hotline.url), folder)
    assert found.encoding == "gzip"
    assert gzip.decompress(found.body.read_bytes()) == bytes(3_000_000)
