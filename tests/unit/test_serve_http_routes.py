"""The table of routes: dispatch, the methods of a path, and bodies of requests, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus

import pytest
from aiohttp import web

from blocklistd.config import Address
from blocklistd.model import SubscriberId
from blocklistd.serve.http import connection
from blocklistd.serve.http.listener import Listener, bind
from blocklistd.serve.http.problems import Problem
from blocklistd.serve.http.routes import Answer, Cache, Parameter, RequestBody, Route, RouteCall, Routes
from blocklistd.store.subscribers import Subscriber

WITHIN = 30.0  # seconds
MOST = 30_000
CREATED = datetime(2026, 11, 1, tzinfo=UTC)
ISP = Subscriber(SubscriberId("isp"), frozenset(), frozenset(), (), (), (), CREATED, "root", revoked=None)
DIGITS = {"type": "string", "pattern": "^[0-9]+$"}


async def echo(call: RouteCall) -> web.StreamResponse:
    return web.json_response([call.route.name, dict(call.values), len(call.body)])


def allow(subscriber: Subscriber, values: Mapping[str, str]) -> None:
    if values["list"] == "foreign":
        raise Problem(HTTPStatus.NOT_FOUND, "no such list for this subscriber")


def route(name: str, method: str, pattern: str, body: RequestBody | None = None) -> Route:
    parameters = tuple(Parameter(one, "a number", DIGITS) for one in ("from", "to"))
    listed = Parameter("list", "a list", {"type": "string"})
    return Route(
        name, method, pattern, echo, "A test.", {HTTPStatus.OK: Answer("an echo")}, Cache.NEVER,
        (*parameters, listed), body=body, allow=allow,
    )  # fmt: skip


TABLE = (
    route("all", "GET", "/v1/lists"),
    route("diffs", "GET", "/v1/lists/{list}/diffs/{from}-{to}"),
    route("receipts", "POST", "/v1/lists/{list}/receipts", RequestBody(MOST, "application/json", {})),
    route("sent", "GET", "/v1/lists/{list}/receipts"),
)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    routes = Routes(lambda request: ISP, TABLE)
    served = Listener("feed", routes.answer, largest_body=routes.largest_body)
    async with asyncio.timeout(WITHIN):
        await served.start([bind(Address("127.0.0.1", 0), "feed.listen")], None)
        yield served.addresses[0].port
        await served.stop()


class Client:
    """One connection to the listener, with raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self, *, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = raw.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = 0 if head_only else int(headers.get("content-length", 0))
        return int(first.split()[1]), headers, await self.reader.readexactly(length)

    async def ask(self, method: str, path: str, *headers: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        self.send(method, path, *headers, body=body)
        return await self.answer(head_only=method == "HEAD")

    def send(self, method: str, path: str, *headers: str, body: bytes = b"") -> None:
        lines = (f"{method} {path} HTTP/1.1", "Host: feed.example", *headers, "", "")
        self.writer.write("\r\n".join(lines).encode() + body)

    async def ended(self) -> bool:
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


@pytest.fixture
async def client(port: int) -> AsyncIterator[Client]:
    made = Client(*await asyncio.open_connection("127.0.0.1", port))
    yield made
    made.writer.close()


async def test_a_path_leads_to_its_route(client: Client) -> None:
    for path, wanted in (
        ("/v1/lists", b'["all", {}, 0]'),
        ("/v1/lists/a/diffs/1-22", b'["diffs", {"list": "a", "from": "1", "to": "22"}, 0]'),
        ("/v1/lists/a/receipts", b'["sent", {"list": "a"}, 0]'),
    ):
        assert (await client.ask("GET", path))[::2] == (200, wanted)
        status, headers, body = await client.ask("HEAD", path)
        assert (status, headers["content-length"], body) == (200, str(len(wanted)), b"")
    for path in ("/", "/v1/lists/", "/v1/lists/a/diffs/1-x", "/v1/lists/a/diffs/1", "/v1/lists//diffs/1-2", "/v1/x"):
        for method in ("GET", "OPTIONS", "POST"):
            assert (await client.ask(method, path))[0] == 404, path


async def test_the_methods_of_a_path_follow_from_the_table(client: Client) -> None:
    for path, allowed in (
        ("/v1/lists", "GET, HEAD, OPTIONS"),
        ("/v1/lists/a/receipts", "POST, GET, HEAD, OPTIONS"),
        ("*", "GET, HEAD, POST, OPTIONS"),
    ):
        status, headers, body = await client.ask("OPTIONS", path)
        assert (status, headers["allow"], body) == (204, allowed, b"")
        if path == "*":
            continue
        status, headers, body = await client.ask("DELETE", path)
        assert (status, headers["allow"]) == (405, allowed)
        assert headers["content-type"] == "application/problem+json"
        assert b'"status":405' in body


async def test_a_body_is_read_where_the_route_has_one(client: Client) -> None:
    for length in (0, 1, 20, MOST):
        body = (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n" * 2000)[:length]
        client.send("POST", "/v1/lists/a/receipts", f"Content-Length: {length}", body=body[: length // 2])
        await asyncio.sleep(0)
        client.writer.write(body[length // 2 :])
        client.send("GET", "/v1/lists")  # it waits behind the body
        assert (await client.answer())[2] == b'["receipts", {"list": "a"}, %d]' % length
        assert (await client.answer())[2] == b'["all", {}, 0]'


async def test_a_client_that_waits_for_100_is_told_to_go_on(client: Client) -> None:
    client.send("POST", "/v1/lists/a/receipts", "Content-Length: 2", "Expect: 100-continue")
    assert (await client.answer())[0] == 100
    client.writer.write(b"{}")
    assert (await client.answer())[::2] == (200, b'["receipts", {"list": "a"}, 2]')


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/lists/a/receipts", [f"Content-Length: {MOST + 1}"], 413),
        ("/v1/lists/a/receipts", [f"Content-Length: {10**15}", "Expect: 100-continue"], 413),
        ("/v1/lists/a/receipts", ["Transfer-Encoding: chunked"], 411),
        ("/v1/lists/a/receipts", ["Content-Length: 9", "Content-Encoding: gzip"], 415),
        ("/v1/lists/foreign/receipts", ["Content-Length: 9"], 404),
        ("/v1/lists", ["Content-Length: 9"], 405),
    ],
)
async def test_a_refused_body_is_not_read_and_ends_the_connection(
    client: Client, path: str, headers: list[str], status: int
) -> None:
    client.send("POST", path, *headers, body=b"GET /v1/lists HTTP/1.1\r\n\r\n" * 3)
    found, said, body = await client.answer()
    assert (found, said["content-type"], said["connection"]) == (status, "application/problem+json", "close")
    assert b'"detail":' in body
    assert await client.ended(), "what follows the head is no request"


async def test_a_body_that_does_not_arrive_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_REQUEST", 0.1)
    client.send("POST", "/v1/lists/a/receipts", "Content-Length: 2", body=b"{")
    assert (await client.answer())[0] == 408
    assert await client.ended()


async def test_a_body_larger_than_any_route_takes_is_not_kept(client: Client) -> None:
    client.send("POST", "/v1/lists/a/receipts", "Content-Length: 900000", body=b"x" * 900_000)
    try:
        said = await client.reader.read()
    except ConnectionError:  # closed while the client still sent
        said = b""
    assert said[:12] in (b"", b"HTTP/1.1 413")
