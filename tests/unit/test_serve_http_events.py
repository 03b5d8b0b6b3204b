"""Server-Sent Events on real sockets: what a client gets, what it gets again, and what it costs if it does not read."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from blocklistd.change import ChangeKind, VersionInfo
from blocklistd.config import Address
from blocklistd.model import ListId, Sha256, SubscriberId, Version
from blocklistd.serve.http import connection, events
from blocklistd.serve.http.access import Access
from blocklistd.serve.http.events import EventStreams
from blocklistd.serve.http.listener import Listener, bind
from blocklistd.serve.http.live_lists import Document, ListView, LiveLists
from blocklistd.serve.http.routes import Routes
from blocklistd.store.credentials import digest
from blocklistd.store.subscribers import Subscriber

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
WITHIN = 30.0  # seconds
ISP = Subscriber(
    SubscriberId("isp"), frozenset({ListId("a"), ListId("b")}), frozenset(), (), (), (), NOW, "root", revoked=None
)


def view(list_id: str, version: int, padding: int = 0) -> ListView:
    live = VersionInfo(
        list=ListId(list_id), session="s", version=Version(version), time=NOW, entries=0, length=0,
        sha256=Sha256("0" * 64), added=0, removed=0, changed=0, canonicaliser=1, kind=ChangeKind.SOURCE,
        cause="hotline", released_by="auto", delta=None,
    )  # fmt: skip
    status = Document.of(json.dumps({"list": list_id, "version": version, "padding": "x" * padding}).encode())
    return ListView(ListId(list_id), "s", live, Version(1), status, {}, {}, NOW)


class Got(NamedTuple):
    """An event as a client sees it."""

    id: str
    list: str
    version: int


class Stream:
    """A client of the events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def block(self) -> bytes:
        """The next block of lines, or b"" at the end of the stream. Undoes the chunked coding, of one block each."""
        while True:
            size = int(await self.reader.readline(), 16)
            data = await self.reader.readexactly(size)
            assert await self.reader.readline() == b"\r\n"
            if not data.startswith(b"retry:"):
                return data

    async def events(self) -> list[Got]:
        """The events of the next chunk."""
        found = []
        for block in (await self.block()).removesuffix(b"\n\n").split(b"\n\n"):
            lines = dict(line.split(": ", 1) for line in block.decode().split("\n"))
            assert lines.pop("event") == "version"
            status: dict[str, Any] = json.loads(lines.pop("data"))
            found.append(Got(lines.pop("id"), status["list"], status["version"]))
            assert not lines
        return found


class Scene:
    """A listener with the events, and two lists of one subscriber, beside a third list."""

    def __init__(self) -> None:
        self.live_lists, self.access = LiveLists(), Access()
        self.admit(ISP)
        self.streams: list[Stream] = []

    def admit(self, subscriber: Subscriber) -> None:
        self.access.replace({digest("t"): subscriber})

    def publish(self, list_id: str, version: int, padding: int = 0) -> None:
        self.live_lists.publish(view(list_id, version, padding))

    async def start(self) -> None:
        routes = Routes(self.access.enter, EventStreams(self.live_lists, self.access).routes())
        self.listener = Listener(
            "feed", routes.answer, connections=self.access.connections, holder_of=self.access.holder_of
        )
        await self.listener.start([bind(Address("127.0.0.1", 0), "feed.listen")], None)

    async def connect(self, last: str | None = None, method: str = "GET", protocol: str = "HTTP/1.1") -> Stream:
        stream = Stream(*await asyncio.open_connection("127.0.0.1", self.listener.addresses[0].port))
        self.streams.append(stream)
        lines = [f"{method} /v1/events {protocol}", "Host: feed.example", "Authorization: Bearer t"]
        if last is not None:
            lines.append(f"Last-Event-ID: {last}")
        stream.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        return stream

    async def open(self, last: str | None = None) -> Stream:
        stream = await self.connect(last)
        head = await stream.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        return stream

    async def no_streams(self) -> None:
        while self.live_lists.watching or self.listener.connections:  # noqa: ASYNC110 - told by nobody
            await asyncio.sleep(0.01)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    async with asyncio.timeout(WITHIN):
        await made.start()
        made.publish("a", 1)
        made.publish("foreign", 1)
        made.publish("b", 7)
        yield made
        for stream in made.streams:
            stream.writer.close()
        made.live_lists.close()
        await made.listener.stop()


async def test_a_client_gets_the_state_of_its_lists_and_each_change(scene: Scene) -> None:
    stream = await scene.connect()
    head = (await stream.reader.readuntil(b"\r\n\r\n")).decode().lower()
    for line in ("content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"):
        assert f"\r\n{line}\r\n" in head
    first = await stream.events()
    assert [(one.list, one.version) for one in first] == [("a", 1), ("b", 7)]
    scene.publish("foreign", 2)
    scene.live_lists.publish(replace(view("a", 1), status=Document.of(b"{}")))  # signed again: no event
    scene.publish("b", 8)
    (second,) = await stream.events()
    assert second[1:] == ("b", 8)
    ids = [one.id for one in (*first, second)]
    assert len(set(ids)) == 3
    assert all(re.fullmatch("[0-9a-f-]+", one) for one in ids)


async def test_a_client_that_comes_back_gets_what_it_missed(scene: Scene) -> None:
    a, b = await (await scene.open()).events()
    for version in (8, 9):
        scene.publish("b", version)
    (missed,) = await (await scene.open(b.id)).events()
    assert missed[1:] == ("b", 9), "the newest of the two"
    assert [one[1:] for one in await (await scene.open(a.id)).events()] == [("b", 9)]
    back = await scene.open(missed.id)
    scene.publish("a", 2)
    assert [one[1:] for one in await back.events()] == [("a", 2)], "nothing was missed, so nothing is repeated"


async def test_a_client_whose_id_says_nothing_gets_the_present_state(scene: Scene) -> None:
    known = (await (await scene.open()).events())[-1].id
    process, lists, _ = known.split("-")
    ahead, other_process, other_lists = f"{process}-{lists}-99", f"{'0' * 16}-{lists}-3", f"{process}-{'0' * 16}-3"
    for last in ("", "x", ahead, other_process, other_lists, known + "1" * 40, known + "\tx", "\xff", known + "-1"):
        found = await (await scene.open(last)).events()
        assert [one[1:] for one in found] == [("a", 1), ("b", 7)], last
        assert found[-1].id == known, "nothing of what the client sent"
    scene.admit(replace(ISP, lists=frozenset({ListId("a"), ListId("foreign")})))
    found = await (await scene.open(known)).events()
    assert [one.list for one in found] == ["a", "foreign"], "another set of lists"


async def test_a_comment_is_sent_while_nothing_changes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.05)
    stream = await scene.open()
    await stream.events()
    for _ in range(3):
        assert await stream.block() == b":\n\n"
    scene.publish("a", 2)
    while (block := await stream.block()) == b":\n\n":
        pass
    assert b'"version": 2' in block


async def test_a_stream_ends_if_the_subscriber_or_its_lists_change(scene: Scene) -> None:
    for changed in (replace(ISP, revoked=NOW), replace(ISP, lists=ISP.lists | {ListId("foreign")})):
        scene.admit(ISP)
        stream = await scene.open()
        await stream.events()
        scene.admit(changed)
        scene.publish("b", 8)
        scene.publish("b", 7)
        assert await stream.reader.read() == b"0\r\n\r\n", "and no event of what is no longer its own"
        await scene.no_streams()


async def test_a_stop_ends_each_stream_with_its_last_chunk(scene: Scene) -> None:
    stream = await scene.open()
    await stream.events()
    scene.live_lists.close()
    assert await stream.reader.read() == b"0\r\n\r\n"
    await scene.no_streams()
    late = await scene.open()
    assert (await late.reader.read()).endswith(b"0\r\n\r\n")


async def test_head_has_the_headers_and_does_not_wait(scene: Scene) -> None:
    stream = await scene.connect(method="HEAD")
    said = await stream.reader.read()
    assert b"Content-Type: text/event-stream\r\n" in said
    assert said.endswith(b"\r\n\r\n")
    assert b"version" not in said
    await scene.no_streams()


async def test_a_proxy_of_http_1_0_gets_events_without_chunks(scene: Scene) -> None:
    stream = await scene.connect(protocol="HTTP/1.0")
    head = await stream.reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in head
    assert (await stream.reader.readuntil(b"\n\n")).startswith(b"retry: ")
    assert (await stream.reader.readuntil(b"\n\n")).startswith(b"event: version\n")


async def test_a_client_that_leaves_is_no_longer_counted(scene: Scene) -> None:
    stream = await scene.open()
    await stream.events()
    assert scene.live_lists.watching == 1
    stream.writer.close()
    await scene.no_streams()


async def test_a_client_that_does_not_read_holds_one_event_of_each_list(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's buffer takes some events, the daemon's none beyond those that are being written."""
    monkeypatch.setattr(connection, "WRITE_STALL", 60)
    stream = await scene.open()
    await stream.events()
    stream.reader._transport.pause_reading()  # type: ignore[attr-defined]
    (server,) = (one for one in scene.access.connections._holders)
    sizes, padding = [], 1 << 18
    for version in range(100, 200):
        scene.publish("b", version, padding)
        await asyncio.sleep(0.01)
        sizes.append(server.transport.get_write_buffer_size())  # type: ignore[attr-defined]
    assert 0 < sizes[-1] <= max(sizes) < 2 * padding
    stream.reader._transport.resume_reading()  # type: ignore[attr-defined]
    got: list[int] = []
    while not got or got[-1] < 199:
        (event,) = await stream.events()
        got.append(event.version)
    assert got == sorted(set(got)), "in order, and none twice"
    assert len(got) < 90, "most were replaced by newer ones"


async def test_a_client_that_does_not_read_is_closed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_STALL", 0.2)
    stream = await scene.open()
    await stream.events()
    stream.reader._transport.pause_reading()  # type: ignore[attr-defined]
    version = 100
    while scene.live_lists.watching:
        version += 1
        scene.publish("b", version, 1 << 20)
        await asyncio.sleep(0.01)
    await scene.no_streams()
