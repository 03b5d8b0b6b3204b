"""News for many clients: 2,000 that wait, and 2,000 on the events; beside nginx, which serves 2,000 polls.

The clients are one process on one core, the server has the other. Memory: the growth of the daemon's resident memory
for each client. Time: from the first client that has the new STATUS to the last; of nginx, from the first request to
the last answer. Persistent connections without TLS. BENCH_CLIENTS sets another number of clients.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import bodies
from bench.compare import Row, Sample
from bench.polls import Nginx
from bench.zones import CLIENT, Ours, churned, pin
from tests.system.daemon import Daemon

CLIENTS = int(os.environ.get("BENCH_CLIENTS", "2000"))
WITHIN = 120.0  # seconds
ROUNDS = 3
CONNECTED_AT_ONCE = 100


class Client(asyncio.Protocol):
    """A connection that notes when `text` has arrived in what follows `expect`."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._text, self._seen = b"", b""
        self._arrived: Callable[[float], None] = lambda moment: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def expect(self, text: bytes, arrived: Callable[[float], None]) -> None:
        """Calls `arrived` with the time at which the text has arrived."""
        self._text, self._seen, self._arrived = text, b"", arrived

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if self._text and self._text in self._seen:
            self._text = b""
            self._arrived(time.monotonic())

    def send(self, request: bytes) -> None:
        """Sends a request."""
        assert self.transport is not None
        self.transport.write(request)


class Crowd:
    """All clients of one server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.clients: list[Client] = []
        self.moments: list[float] = []
        self._done = asyncio.Event()

    async def connect(self) -> None:
        """Connects all clients."""
        loop = asyncio.get_running_loop()
        for start in range(0, CLIENTS, CONNECTED_AT_ONCE):
            number = min(CONNECTED_AT_ONCE, CLIENTS - start)
            opened = (loop.create_connection(Client, "127.0.0.1", self._port) for _ in range(number))
            self.clients += [client for _, client in await asyncio.gather(*opened)]

    def send(self, request: bytes) -> None:
        """Sends the request of each client."""
        for client in self.clients:
            client.send(request)

    def expect(self, text: bytes) -> None:
        """Begins to note when the text arrives."""
        self.moments, self._done = [], asyncio.Event()
        for client in self.clients:
            client.expect(text, self._arrived)

    def _arrived(self, moment: float) -> None:
        self.moments.append(moment)
        if len(self.moments) == len(self.clients):
            self._done.set()

    async def all_have_it(self) -> None:
        """Waits until every client has the text."""
        async with asyncio.timeout(WITHIN):
            await self._done.wait()

    def close(self) -> None:
        """Closes all connections."""
        for client in self.clients:
            if client.transport is not None:
                client.transport.abort()


@dataclass(frozen=True)
class News:
    """Seconds from the first client to the last, and KiB of memory for each client."""

    seconds: Sample
    memory: Sample


def request(path: str, token: str, *headers: str) -> bytes:
    """A request of HTTP/1.1."""
    lines = (f"GET {path} HTTP/1.1", "Host: feed.example", f"Authorization: Bearer {token}", *headers, "", "")
    return "\r\n".join(lines).encode()


def resident(pid: int) -> float:
    """Resident memory of a process in KiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return float(found[1])


def waiting(daemon: Daemon) -> int:
    """The number of waits and of streams."""
    found = re.findall(
        r"^blocklistd_feed_(?:long_polls|event_streams) (\d+)", daemon.ops("/metrics").body.decode(), re.M
    )
    return sum(map(int, found))


async def of_feed(folder: Path, *, events: bool) -> News:
    """Measures the feed, whose clients wait, or are on the events."""
    ours = Ours(folder)
    bounds = {"per_address": 9999, "per_subscriber": 9999, "total": 9999}
    ours.daemon.config["feed"] |= {"connections": bounds, "rate_limit": "999999999/s"}
    ours.daemon.write_config()
    seconds = []
    crowd = Crowd(ours.daemon.feed_port)
    try:
        names = bodies.domains(1000)
        await asyncio.to_thread(ours.start, names)
        token = ours.daemon.subscriber("provider", "national")
        ours.pin()
        for number in range(50):  # the first requests allocate memory that stays
            ours.daemon.get("/v1/lists/national", token, Accept=str(number))
        before = resident(ours.pid)
        await crowd.connect()
        for number in range(ROUNDS):
            status = ours.daemon.get("/v1/lists/national", token)
            if not events:
                crowd.send(request("/v1/lists/national?wait=55", token, f"If-None-Match: {status.headers['etag']}"))
            elif not number:
                crowd.expect(b'"version":')
                crowd.send(request("/v1/events", token))
                await crowd.all_have_it()
            await asyncio.to_thread(ours.daemon.wait_for, lambda: waiting(ours.daemon) == CLIENTS, WITHIN)
            if not number:
                memory = (resident(ours.pid) - before) / CLIENTS
            crowd.expect(b'"version":%d,' % (status.json["version"] + 1))
            names = churned(names, number + 1)
            ours.write(names)
            await asyncio.to_thread(ours.daemon.pull, "hotline")
            await crowd.all_have_it()
            seconds.append(max(crowd.moments) - min(crowd.moments))
    finally:
        crowd.close()
        if ours.daemon.process is not None:
            await asyncio.to_thread(ours.daemon.stop)
    return News(Sample(tuple(seconds)), Sample((memory,)))


async def of_nginx(folder: Path) -> Sample:
    """Seconds in which nginx answers a poll of each client."""
    nginx, seconds = Nginx(folder, "t" * 43, b'{"list":"national","version":2,"end":""}', None), []
    crowd = Crowd(nginx.port)
    try:
        nginx.start()
        await crowd.connect()
        for _ in range(ROUNDS):
            crowd.expect(b'"version":2,')
            began = time.monotonic()
            crowd.send(request("/status", "t" * 43))
            await crowd.all_have_it()
            seconds.append(max(crowd.moments) - began)
    finally:
        crowd.close()
        nginx.stop()
    return Sample(tuple(seconds))


def rows() -> Iterator[Row]:
    """The rows of the table."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, CLIENTS + 1000)), hard))
    pin(os.getpid(), {CLIENT})
    with tempfile.TemporaryDirectory(prefix="bench-events-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        nginx = asyncio.run(of_nginx(folder))
        for where, events in (("in wait", False), ("on events", True)):
            own = folder / where.replace(" ", "-")
            own.mkdir()
            found, what = asyncio.run(of_feed(own, events=events)), f"{CLIENTS} clients {where}"
            title = f"{what}: until the last has the new STATUS"
            yield Row(title, found.seconds, nginx, "nginx, polls", "s")
            yield Row(f"{what}: memory a client", found.memory, None, "", "KiB")
