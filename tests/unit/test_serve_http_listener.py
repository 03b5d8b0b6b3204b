"""The bounds of an HTTP connection, on real sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from blocklistd.config import Address
from blocklistd.serve.accept import AcceptedConnection
from blocklistd.serve.connections import Connections
from blocklistd.serve.http import connection
from blocklistd.serve.http.authentication import Unauthorized
from blocklistd.serve.http.connection import Connection, while_connected
from blocklistd.serve.http.listener import Listener, bind

REQUEST = b"GET / HTTP/1.1\r\nHost: feed.example\r\n\r\n"
WITHIN = 30.0  # seconds for everything

Serve = Callable[[Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]], Awaitable[Listener]]
Connect = Callable[[Listener], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def hello(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="hello")


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    started = []

    async def start(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> Listener:
        made = Listener("feed", handler)
        started.append(made)
        await made.start([bind(Address("127.0.0.1", 0), "feed.listen")], None)
        return made

    async with asyncio.timeout(WITHIN):
        yield start
        for made in started:
            await made.stop()


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    writers = []

    async def open_(to: Listener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", to.addresses[0].port)
        writers.append(writer)
        return reader, writer

    yield open_
    for writer in writers:
        writer.close()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Sends a request and returns the body of its answer."""
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nserver:" not in head.lower()
    return await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The levels of the log lines, without asyncio's warnings of slow callbacks: the machine may be busy."""
    return [record.levelname for record in caplog.records if record.name != "asyncio" or record.levelname != "WARNING"]


async def end(reader: asyncio.StreamReader) -> bytes:
    """All bytes that arrive until the server closes the connection."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_a_connection_without_a_complete_request_is_closed(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, connect: Connect
) -> None:
    served = await serve(hello)
    speaks = await connect(served)
    assert await answer(*speaks) == b"hello"
    monkeypatch.setattr(connection, "FIRST_REQUEST", 0.2)
    silent, slow = await connect(served), await connect(served)
    slow[1].write(REQUEST[:-2])
    assert (await end(silent[0]), await end(slow[0])) == (b"", b"")
    assert await answer(*speaks) == b"hello", "it has sent a request before"


async def test_a_long_poll_ends_with_its_connection(serve: Serve, connect: Connect) -> None:
    waits, ended = asyncio.Event(), asyncio.Event()

    async def forever() -> None:
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        await while_connected(request, forever())
        raise AssertionError

    _, writer = await connect(await serve(handler))
    writer.write(REQUEST)
    await waits.wait()
    writer.close()
    await ended.wait()


async def test_a_malformed_request_is_not_quoted(
    caplog: pytest.LogCaptureFixture, serve: Serve, connect: Connect
) -> None:
    reader, writer = await connect(await serve(hello))
    writer.write(b"secret.example is no request\r\n\r\n")
    said = await end(reader)
    assert b" 400 Bad Request\r\n" in said
    assert b"application/problem+json" in said
    assert b"secret" not in said
    assert b"\r\nserver:" not in said.lower()
    assert "secret" not in caplog.text


async def test_a_client_that_reads_nothing_is_cut_off_except_on_the_control_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connection, "WRITE_STALL", 0.3)
    large = bytes(2**24)
    failed = asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(large)
        await response.prepare(request)
        try:
            for start in range(0, len(large), 2**18):
                await response.write(large[start : start + 2**18])
        except ConnectionError:
            failed.set()
            raise
        return response

    local = socket.socket(socket.AF_UNIX)
    local.bind(str(tmp_path / "s"))
    local.setblocking(False)
    made = Listener("feed", handler)
    async with asyncio.timeout(WITHIN):
        await made.start([local, bind(Address("127.0.0.1", 0), "feed.listen")], None)
        operator = await asyncio.open_unix_connection(str(tmp_path / "s"))
        operator[1].write(REQUEST)
        feed_client = await asyncio.open_connection("127.0.0.1", made.addresses[0].port)
        feed_client[1].write(REQUEST)
        await failed.wait()
        head = await operator[0].readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert await operator[0].readexactly(len(large)) == large
        for _, writer in (operator, feed_client):
            writer.close()
        await made.stop()


class GoneTransport(asyncio.Transport):
    """The transport of a client that has left before it is accepted."""

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


async def test_a_connection_that_is_lost_at_once_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    connections = Connections()
    server = web.Server(hello)
    for _ in range(3):
        accepted = AcceptedConnection(connections, "192.0.2.1")
        connection = Connection(server, accepted, loop=asyncio.get_running_loop(), tcp_keepalive=False)
        connection.connection_made(GoneTransport())
        connection.connection_lost(ConnectionResetError())
        del connection
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert not said(caplog)
    assert not server.connections


async def test_pipelined_requests_are_read_after_the_answer_to_the_one_before(serve: Serve, connect: Connect) -> None:
    asked, first, go_on = 0, asyncio.Event(), asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        first.set()
        await go_on.wait()
        return await hello(request)

    reader, writer = await connect(await serve(handler))
    for piece in (REQUEST[:9], REQUEST[9:-3], REQUEST[-3:] + REQUEST + REQUEST[:-2]):
        writer.write(piece)
        await asyncio.sleep(0)
    await first.wait()
    writer.write(REQUEST[-2:])
    assert asked == 1
    go_on.set()
    for _ in range(3):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert await reader.readexactly(5) == b"hello"
    assert asked == 3


@pytest.mark.parametrize(
    "sent",
    [
        REQUEST * 100,
        b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 1000,
        b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9999\r\n\r\n" + b"a" * 9999,
    ],
    ids=["requests", "chunks", "a body"],
)
async def test_nothing_is_read_after_a_request_that_ends_its_connection(
    serve: Serve, connect: Connect, sent: bytes
) -> None:
    asked = 0

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        raise Unauthorized("it sent no token")

    reader, writer = await connect(await serve(handler))
    writer.write(sent)
    answered = await end(reader)
    assert answered.count(b"HTTP/1.1 401") == 1
    assert asked == 1


@pytest.mark.parametrize("sent", [REQUEST * 1000, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9000, b"\0" * 100_000])
async def test_too_many_bytes_end_the_connection(serve: Serve, connect: Connect, sent: bytes) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    reader, writer = await connect(await serve(handler))
    writer.write(sent)
    assert (await end(reader))[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 431")


async def accepted(serve: Serve, connect: Connect) -> tuple[Listener, asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that was accepted, and has sent nothing."""
    listener = await serve(hello)
    reader, writer = await connect(listener)
    for _ in range(100_000):
        if listener.connections:
            break
        await asyncio.sleep(0)
    assert listener.connections == 1
    return listener, reader, writer


async def test_an_accepted_connection_is_answered_while_the_listener_stops(serve: Serve, connect: Connect) -> None:
    listener, reader, writer = await accepted(serve, connect)
    stopping = asyncio.ensure_future(listener.stop())
    await asyncio.sleep(0)
    writer.write(REQUEST)
    assert (await end(reader)).startswith(b"HTTP/1.1 200 OK\r\n")
    await stopping


async def test_a_connection_that_sends_nothing_delays_the_stop_for_a_moment_only(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocklistd.serve.accept.DRAIN", 0.01)
    listener, reader, _ = await accepted(serve, connect)
    await listener.stop()
    assert await end(reader) == b""


async def test_a_failure_outside_of_the_handler_is_a_problem_that_quotes_nothing(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    listed = ".".join(("a", "example"))  # the record has the line of code, too

    def fails(request: web.BaseRequest, answer: web.StreamResponse, seconds: float) -> None:
        raise ValueError(listed)

    served = Listener("feed", hello, fails)
    await served.start([bind(Address("127.0.0.1", 0), "feed.listen")], None)
    try:
        reader, writer = await connect(served)
        writer.write(REQUEST)
        head, _, body = (await end(reader)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 500 ")
        assert b"\r\nContent-Type: application/problem+json\r\n" in head + b"\r\n"
        assert json.loads(body)["status"] == 500
        assert "a.example" not in caplog.text
        assert "ValueError" in caplog.text
    finally:
        await served.stop()
