"""Accepting and counting connections, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from blocklistd.config import Address, ConnectionBounds
from blocklistd.serve import accept
from blocklistd.serve.accept import file_ceiling
from blocklistd.serve.connections import Connections, Holder
from blocklistd.serve.http.connection import accepted_of, while_connected
from blocklistd.serve.http.listener import Listener, bind
from tests.certificates import context_of, make_certificate
from tests.unit.test_serve_http_listener import REQUEST, WITHIN, answer, end, hello, said

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Made = tuple[Listener, Connections]
Serve = Callable[..., Awaitable[Made]]
Connect = Callable[..., Awaitable[Streams]]
HOST = Holder("address", "127.0.0.1")


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    started = []

    async def start(handler: Any = hello, tls: ssl.SSLContext | None = None, **more: Any) -> Made:
        connections = Connections(ConnectionBounds(per_address=3, per_subscriber=3, total=5))
        made = Listener("feed", handler, connections=connections, **more)
        started.append(made)
        await made.start([bind(Address("127.0.0.1", 0), "feed.listen")], tls)
        return made, connections

    async with asyncio.timeout(WITHIN):
        yield start
        for made in started:
            await made.stop()


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    writers = []

    async def open_(to: Listener, source: str = "127.0.0.1") -> Streams:
        port = to.addresses[0].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        writers.append(writer)
        return reader, writer

    yield open_
    for writer in writers:
        writer.close()


@pytest.fixture
def without_gaps() -> Iterator[Callable[[], int]]:
    """Opens all free descriptors below the highest open one, and returns the lowest free one: all above are free."""
    with contextlib.ExitStack() as taken:

        def take() -> int:
            highest = max(map(int, os.listdir("/proc/self/fd")))
            while (lowest := os.dup(0)) < highest:
                taken.callback(os.close, lowest)
            os.close(lowest)
            return lowest

        yield take


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    cert, key = make_certificate(tmp_path, "feed")
    return context_of(cert, key)


async def test_at_its_bound_an_address_loses_its_longest_idle_connection(serve: Serve, connect: Connect) -> None:
    served, connections = await serve()
    elsewhere = await connect(served, "127.0.0.2")
    assert await answer(*elsewhere) == b"hello"
    own = []
    for _ in range(3):
        own.append(await connect(served))
        assert await answer(*own[-1]) == b"hello"
    fourth = await connect(served)
    assert await answer(*fourth) == b"hello"
    assert await end(own[0][0]) == b""
    assert connections.of(HOST) == 3
    for streams in (elsewhere, own[1], own[2], fourth):
        assert await answer(*streams) == b"hello"


async def test_a_connection_with_a_long_poll_is_not_idle(serve: Serve, connect: Connect) -> None:
    released, under_way = asyncio.Event(), 0

    async def wait() -> None:
        nonlocal under_way
        under_way += 1
        await released.wait()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        await while_connected(request, wait())
        return await hello(request)

    served, connections = await serve(handler)
    waiting = [await connect(served) for _ in range(3)]
    for _, writer in waiting:
        writer.write(REQUEST)
    await until(lambda: under_way == 3)
    with contextlib.suppress(ConnectionError):
        assert await end((await connect(served))[0]) == b"", "none of the three is idle"
    released.set()
    for reader, _ in waiting:
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    assert connections.of(HOST) == 3


async def test_a_connection_is_counted_for_its_subscriber_after_authentication(serve: Serve, connect: Connect) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        assert accepted_of(request).move(Holder("subscriber", "isp"), 3)
        return await hello(request)

    served, connections = await serve(handler)
    for _ in range(3):
        assert await answer(*await connect(served)) == b"hello"
    assert (connections.of(HOST), connections.of(Holder("subscriber", "isp"))) == (0, 3)


async def test_tls_handshakes_are_counted_and_end_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, connect: Connect, tls: ssl.SSLContext
) -> None:
    monkeypatch.setattr(accept, "TLS_HANDSHAKE", 1.0)
    served, connections = await serve(tls=tls)
    silent = [await connect(served) for _ in range(4)]
    await until(lambda: served.connections == 3)
    assert await end(silent[0][0]) == b"", "the first was closed for the fourth"
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    port = served.addresses[0].port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, local_addr=("127.0.0.2", 0))
    assert await answer(reader, writer) == b"hello"
    writer.close()
    for streams in silent[1:]:
        assert await end(streams[0]) == b""
    await until(lambda: connections.of(HOST) == 0)


async def test_failed_tls_handshakes_log_no_error(
    caplog: pytest.LogCaptureFixture, serve: Serve, connect: Connect, tls: ssl.SSLContext
) -> None:
    served, connections = await serve(tls=tls)
    for sent in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\xff" + bytes(50), b"\x15\x03\x01\x00\x02\x02\x28"):
        _, writer = await connect(served)
        writer.write(sent)
        writer.transport.abort()
    await until(lambda: len(connections) == 0)
    assert not said(caplog)


async def test_the_reserved_descriptors_are_for_operators(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    serve: Serve,
    connect: Connect,
    without_gaps: Callable[[], int],
) -> None:
    operators, _ = await serve(reserved=True)
    lowest = without_gaps()
    monkeypatch.setattr(accept, "file_ceiling", lambda: lowest + 4)
    served, connections = await serve()
    first = await connect(served, "127.0.0.2")
    assert await answer(*first) == b"hello"
    for number in range(3, 9):
        streams = await connect(served, f"127.0.0.{number}")
        assert await answer(*streams) == b"hello", "one that was idle has made room"
    assert await end(first[0]) == b""
    assert len(connections) < 5, "the bound of connections was not reached"
    assert await answer(*await connect(operators)) == b"hello"
    assert said(caplog) == ["ERROR"]
    assert "LimitNOFILE" in caplog.text


async def test_a_shortage_of_descriptors_is_logged_once_and_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, serve: Serve, connect: Connect
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(accept, "ACCEPT_PAUSE", 0.01)
    monkeypatch.setattr(accept, "SHORTAGE_OVER", 0.0)
    served, _ = await serve()
    idle = await connect(served)
    assert await answer(*idle) == b"hello"
    failures = iter([errno.EMFILE, errno.ENFILE, errno.EMFILE])
    real = socket.socket.accept

    def short(bound: socket.socket) -> Any:
        if (code := next(failures, None)) is not None:
            raise OSError(code, os.strerror(code))
        return real(bound)

    monkeypatch.setattr(socket.socket, "accept", short)
    late = await connect(served)
    assert await answer(*late) == b"hello"
    assert await end(idle[0]) == b"", "it made room"
    assert said(caplog) == ["ERROR", "INFO"]


def test_the_reserve_is_at_most_a_quarter_of_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, ceiling in ((16384, 15360), (1024, 768)):
        monkeypatch.setattr("resource.getrlimit", lambda _, limit=limit: (limit, limit))
        assert file_ceiling() == ceiling
