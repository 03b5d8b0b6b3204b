"""Identical polls of one connection: each answer is that of the usual way, and what has changed in between counts."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, cast

import pytest
from aiohttp import web

from blocklistd.config import Address, RateLimit
from blocklistd.model import ListId
from blocklistd.serve.http import repeats
from blocklistd.serve.http.access import Access
from blocklistd.serve.http.feed import FeedHandler
from blocklistd.serve.http.listener import Listener, bind
from blocklistd.serve.http.live_lists import Document, LiveLists
from blocklistd.serve.http.repeats import Repeat
from blocklistd.serve.http.routes import ROUTE, Routes
from blocklistd.store.credentials import OldToken, digest
from tests.unit.test_serve_http_events import ISP, NOW, view

WITHIN = 30.0  # seconds
ROLE = "timestamp.json"


class Client:
    """A client with one connection, which counts the requests that were not parsed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, *lines: str, times: int = 1, path: str = "/v1/lists/a", method: str = "GET") -> list[str]:
        """Sends one request so many times at once; the answers, without their dates."""
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: feed.example", "Authorization: Bearer t", *lines])
        self.writer.write(f"{head}\r\n\r\n".encode() * times)
        return [await self.answer() for _ in range(times)]

    async def answer(self) -> str:
        """The next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        if (length := re.search(r"(?i)content-length: (\d+)", head)) is not None:
            head += (await self.reader.readexactly(int(length[1]))).decode()
        assert len(re.findall("\r\nDate: [^\r]+GMT\r\n", head)) == 1
        return re.sub("Date: [^\r]+\r\n", "", head)


class Scene:
    """A feed with the list `a`. `now`: the clock of the access."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        self.live_lists, self.access = LiveLists(), Access(clock=lambda: self.now)
        self.access.replace({digest("t"): ISP})
        self.observed: list[tuple[int, str]] = []
        self.repeated = 0
        self.clients: list[Client] = []
        usual = Repeat.answer

        def counted(repeat: Repeat) -> bytes | None:
            answer = usual(repeat)
            self.repeated += answer is not None
            return answer

        monkeypatch.setattr(Repeat, "answer", counted)

    def publish(self, version: int) -> str:
        """Publishes a version; the ETag of its STATUS."""
        new = view("a", version)
        self.live_lists.publish(dataclasses.replace(new, metadata={ROLE: Document.of(b'{"version":%d}' % version)}))
        return new.status.etag

    def observe(self, request: web.BaseRequest, answer: web.StreamResponse, seconds: float) -> None:
        assert 0 <= seconds < WITHIN
        self.observed.append((answer.status, request[ROUTE].name))

    async def start(self) -> None:
        handler = FeedHandler(self.live_lists, self.access, cast(Any, None))
        routes = Routes(self.access.enter, handler.routes())
        connections = {"connections": self.access.connections, "holder_of": self.access.holder_of}
        self.listener = Listener("feed", routes.answer, self.observe, **cast(Any, connections))
        await self.listener.start([bind(Address("127.0.0.1", 0), "feed.listen")], None)

    async def connect(self) -> Client:
        made = Client(*await asyncio.open_connection("127.0.0.1", self.listener.addresses[0].port))
        self.clients.append(made)
        return made


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    made = Scene(monkeypatch)
    async with asyncio.timeout(WITHIN):
        await made.start()
        yield made
        for client in made.clients:
            client.writer.close()
        await made.listener.stop()


async def test_an_identical_poll_gets_the_same_answer_without_being_parsed(scene: Scene) -> None:
    etag = scene.publish(1)
    client = await scene.connect()
    for path, known in (("/v1/lists/a", etag), (f"/v1/lists/a/metadata/{ROLE}", Document.of(b'{"version":1}').etag)):
        before = scene.repeated
        (first,) = await client.ask(f"If-None-Match: {known}", path=path)
        assert first.startswith("HTTP/1.1 304 Not Modified\r\n")
        assert f"\r\nETag: {known}\r\n" in first
        assert scene.repeated == before, "the first one is parsed"
        assert await client.ask(f"If-None-Match: {known}", path=path) == [first]
        assert await client.ask(f"If-None-Match: {known}", path=path, times=20) == [first] * 20, "pipelined"
        assert scene.repeated == before + 21
    assert scene.observed == [(304, "status")] * 22 + [(304, "timestamp")] * 22


async def test_another_request_between_two_polls_is_answered_in_its_order(scene: Scene) -> None:
    known = f"If-None-Match: {scene.publish(1)}"
    client = await scene.connect()
    for path in ("/v1/lists/a", "/v1/lists/a", "/v1/lists/foreign", "/v1/lists/a", "/v1/lists/a"):
        (answer,) = await client.ask(known, path=path)
        assert answer.startswith("HTTP/1.1 404 " if path.endswith("foreign") else "HTTP/1.1 304 ")
    assert scene.repeated == 2, "only the last request is known"
    (whole,) = await client.ask()
    assert (await client.ask())[0] == whole, "an answer with a body is never repeated"
    assert scene.repeated == 2


async def test_a_new_version_is_seen_at_once(scene: Scene) -> None:
    known = f"If-None-Match: {scene.publish(1)}"
    client = await scene.connect()
    await client.ask(known)
    await client.ask(known, times=2)
    assert scene.repeated == 2
    scene.publish(2)
    (answer,) = await client.ask(known)
    assert answer.startswith("HTTP/1.1 200 ")
    assert '"version": 2' in answer
    scene.live_lists.withdraw(ListId("a"))
    assert (await client.ask(known))[0].startswith("HTTP/1.1 404 ")


async def test_each_poll_is_authenticated(scene: Scene) -> None:
    """An old token that expires is no event: nothing but the next request finds out."""
    replaced = OldToken(digest("t"), NOW.replace(hour=13))
    scene.access.replace({digest("new"): dataclasses.replace(ISP, old_tokens=(replaced,))})
    known = f"If-None-Match: {scene.publish(1)}"
    client = await scene.connect()
    await client.ask(known)
    await client.ask(known, times=2)
    assert scene.repeated == 2
    scene.now = NOW.replace(hour=14)
    (answer,) = await client.ask(known)
    assert answer.startswith("HTTP/1.1 401 ")
    assert await client.reader.read() == b"", "and the connection ends"


async def test_each_poll_counts_for_the_limit_of_requests_and_as_seen(scene: Scene) -> None:
    scene.access.rates.limit = RateLimit(10, 3600)
    known = f"If-None-Match: {scene.publish(1)}"
    client = await scene.connect()
    await client.ask(known)
    later: datetime = NOW.replace(hour=15)
    scene.now = later
    await client.ask(known, times=9)
    assert scene.access.seen == {ISP.id: later}
    (refused,) = await client.ask(known)
    assert refused.startswith("HTTP/1.1 429 ")
    assert "\r\nRetry-After: " in refused


async def test_a_poll_is_parsed_again_after_some_seconds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "REPEATS_FOR", -1.0)
    known = f"If-None-Match: {scene.publish(1)}"
    client = await scene.connect()
    await client.ask(known)
    await client.ask(known)
    assert scene.repeated == 0


async def test_a_halted_daemon_answers_no_poll(scene: Scene) -> None:
    known = f"If-None-Match: {scene.publish(1)}"
    client = await scene.connect()
    await client.ask(known)
    await client.ask(known)
    scene.access.halted = "its state is older than what it served"
    assert (await client.ask(known))[0].startswith("HTTP/1.1 503 ")


async def test_a_connection_that_repeats_polls_is_idle_between_them(scene: Scene) -> None:
    known = f"If-None-Match: {scene.publish(1)}"
    client, other = await scene.connect(), await scene.connect()
    for _ in range(3):
        await client.ask(known)
    for _ in range(3):
        await other.ask(known)
    assert scene.repeated == 4
    assert scene.access.connections.make_room(), "the connection that was idle for longer ends"
    assert await client.reader.read() == b""
    assert (await other.ask(known))[0].startswith("HTTP/1.1 304 ")
