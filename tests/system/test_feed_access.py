"""Access to the feed that ends: what is under way for a subscriber ends with it, and nothing of the others."""

from __future__ import annotations

import contextlib
import http.client
import select
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.daemon import Answer, Daemon
from tests.system.test_operations import reload
from tests.system.test_zones_hard import long_names

WITHIN = 1.0
"""Seconds in which all ends."""
LARGE = 40_000
"""Entries of a snapshot of 11 MB: more than the sockets between two processes hold."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("access")
    (folder / "national.txt").write_text("".join(f"{name}\n" for name in long_names(LARGE)))
    (folder / "foreign.txt").write_text("a.example\n")
    common = {"format": "text", "defaults": {"type": "domain"}, "schedule": "every 1d", "verify": {"method": "none"}}
    lists = ("national", "foreign")
    made = Daemon(
        folder,
        {
            "sources": {name: {"url": f"file:{folder}/{name}.txt", **common} for name in lists},
            "lists": {name: {"sources": [name]} for name in lists},
        },
    )
    with made:
        for name in lists:
            made.first_pull(name)
        yield made


class UnderWay:
    """A subscriber's wait for a list, and its download of the snapshot of `national`, of which it reads little."""

    def __init__(self, daemon: Daemon, token: str, waits_for: str = "national") -> None:
        self.daemon, self.token = daemon, token
        self.stack = contextlib.ExitStack()
        self.answered: list[tuple[int, float]] = []
        etag = daemon.get(f"/v1/lists/{waits_for}", token).headers["etag"]
        status = daemon.get("/v1/lists/national", token).json
        self.length: int = status["length"]
        before = self.waiting
        self.thread = threading.Thread(target=self._wait, args=(waits_for, etag))
        self.thread.start()
        daemon.wait_for(lambda: self.waiting == before + 1)
        self.download = self.stack.enter_context(self.connect())
        self.ask(self.download, f"/v1/lists/national/targets/{status['sha256']}.national.ndjson")
        self.body = self.download.getresponse()
        self.body.read(1000)

    @property
    def waiting(self) -> float:
        """The long polls under way."""
        lines = self.daemon.ops("/metrics").body.decode().splitlines()
        return float(next(line for line in lines if line.startswith("blocklistd_feed_long_polls ")).split()[1])

    def connect(self) -> contextlib.closing[http.client.HTTPConnection]:
        return contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.daemon.feed_port, timeout=60))

    def ask(self, connection: http.client.HTTPConnection, path: str, **headers: str) -> None:
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}", **headers})

    def _wait(self, waits_for: str, etag: str) -> None:
        with self.connect() as connection:
            self.ask(connection, f"/v1/lists/{waits_for}?wait=55", **{"If-None-Match": etag})
            self.answered.append((connection.getresponse().status, time.monotonic()))

    def ended(self, since: float) -> int:
        """Checks that both have ended within WITHIN of `since` (monotonic seconds); the status of the wait."""
        self.thread.join(WITHIN + since - time.monotonic())
        assert self.answered, "the wait goes on"
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            self.body.read()
        assert time.monotonic() - since < WITHIN
        self.stack.close()
        return self.answered[0][0]

    def finished(self) -> int:
        """Reads the snapshot; returns its length, and lets the wait end."""
        length = 1000 + len(self.body.read())
        self.stack.close()
        return length


def revoke(daemon: Daemon) -> None:
    assert daemon.ask("subscriber revoke", id="isp").status == 200


def rotate(daemon: Daemon) -> None:
    assert daemon.ask("subscriber rotate", id="isp", grace="0s").status == 200


def remove_list(daemon: Daemon) -> None:
    assert daemon.ask("subscriber set", id="isp", remove_list=["national"]).status == 200


@pytest.mark.parametrize(("end", "status"), [(revoke, 401), (rotate, 401), (remove_list, 404)])
def test_what_is_under_way_ends_with_the_access(daemon: Daemon, end: Callable[[Daemon], None], status: int) -> None:
    token = daemon.subscriber("isp", "national", "foreign")
    other = UnderWay(daemon, daemon.subscriber("other", "national"))
    under_way = UnderWay(daemon, token)
    began = time.monotonic()
    end(daemon)
    assert under_way.ended(began) == status
    assert not other.answered, "that of others goes on"
    assert other.finished() == other.length
    for name in ("isp", "other"):
        daemon.ask("subscriber revoke", id=name)
    other.thread.join()


@pytest.mark.parametrize("end", [revoke, rotate, remove_list])
def test_a_stream_of_events_ends_with_the_access(daemon: Daemon, end: Callable[[Daemon], None]) -> None:
    tokens = daemon.subscriber("isp", "national", "foreign"), daemon.subscriber("other", "national")
    with contextlib.ExitStack() as stack:
        streams = []
        for token in tokens:
            connection = http.client.HTTPConnection("127.0.0.1", daemon.feed_port, timeout=60)
            stack.enter_context(contextlib.closing(connection))
            connection.request("GET", "/v1/events", headers={"Authorization": f"Bearer {token}"})
            streams.append(connection.getresponse())
            while b"data:" not in streams[-1].readline():
                pass
        began = time.monotonic()
        end(daemon)
        with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
            streams[0].read()
        assert time.monotonic() - began < WITHIN
        assert select.select([streams[1].fileno()], [], [], 0.2)[0] == [], "that of others goes on"
    for name in ("isp", "other"):
        daemon.ask("subscriber revoke", id=name)


def test_a_wait_for_another_list_ends_as_unchanged(daemon: Daemon) -> None:
    under_way = UnderWay(daemon, daemon.subscriber("isp", "national", "foreign"), waits_for="foreign")
    began = time.monotonic()
    remove_list(daemon)
    assert under_way.ended(began) == 304
    revoke(daemon)


def test_requests_go_on_while_nothing_is_taken(daemon: Daemon) -> None:
    under_way = UnderWay(daemon, daemon.subscriber("isp", "national"))
    assert daemon.ask("subscriber set", id="isp", add_list=["foreign"]).status == 200
    assert daemon.ask("subscriber rotate", id="isp", grace="1h").status == 200
    assert not under_way.answered
    assert under_way.finished() == under_way.length
    revoke(daemon)
    under_way.thread.join()


def test_more_requests_than_the_limit_get_429_until_the_time_that_it_says(daemon: Daemon) -> None:
    token, others = daemon.subscriber("isp", "national"), daemon.subscriber("other", "national")
    daemon.config["feed"]["rate_limit"] = "3/s"
    daemon.write_config()
    reload(daemon)

    def ask(source: str, token: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.feed_port, source_address=(source, 0))
        with contextlib.closing(connection):
            connection.request("GET", "/v1/lists", headers={"Authorization": f"Bearer {token}"})
            got = connection.getresponse()
            return Answer(got.status, dict(got.headers.items()), got.read())

    def until_refused(source: str, token: str) -> Answer:
        return next(answer for answer in (ask(source, token) for _ in range(1000)) if answer.status != 200)

    refused = until_refused("127.0.0.1", token)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert "3/s requests of one address" in refused.json["detail"]
    assert ask("127.0.0.2", token).status == 200, "another node"
    assert ask("127.0.0.1", others).status == 200, "another subscriber"
    assert ask("127.0.0.1", "wrong").status == 401
    daemon.wait_for(lambda: ask("127.0.0.1", token).status == 200, within=5)
    daemon.config["feed"]["rate_limit"] = "off"
    daemon.write_config()
    reload(daemon)
    assert [ask("127.0.0.1", token).status for _ in range(20)] == [200] * 20
    for name in ("isp", "other"):
        daemon.ask("subscriber revoke", id=name)


class Opened:
    """A connection from an address of loopback."""

    def __init__(self, daemon: Daemon, source: str, stack: contextlib.ExitStack) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.feed_port, timeout=30, source_address=(source, 0))
        self.connection = stack.enter_context(contextlib.closing(connection))
        connection.connect()

    def ask(self, token: str, path: str = "/v1/lists", **headers: str) -> int:
        self.send(token, path, **headers)
        return self.status()

    def send(self, token: str, path: str, **headers: str) -> None:
        self.connection.request("GET", path, headers={"Authorization": f"Bearer {token}", **headers})

    def status(self) -> int:
        answer = self.connection.getresponse()
        answer.read()
        return answer.status

    @property
    def closed(self) -> bool:
        """Whether the daemon has closed it, or closes it within a second."""
        self.connection.sock.settimeout(1)
        try:
            return self.connection.sock.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


@pytest.fixture
def bounded(daemon: Daemon) -> Iterator[Daemon]:
    """With small bounds: 3 connections of an address, 4 of a subscriber, 8 in total."""
    daemon.config["feed"]["connections"] = {"per_address": 3, "per_subscriber": 4, "total": 8}
    daemon.write_config()
    reload(daemon)
    yield daemon
    del daemon.config["feed"]["connections"]
    daemon.write_config()
    reload(daemon)
    for name in ("isp", "other"):
        daemon.ask("subscriber revoke", id=name)


def test_at_each_bound_the_oldest_idle_connection_is_closed(bounded: Daemon) -> None:
    daemon, isp, other = bounded, bounded.subscriber("isp", "national"), bounded.subscriber("other", "national")
    with contextlib.ExitStack() as stack:

        def opened(source: str, token: str = "") -> Opened:
            made = Opened(daemon, source, stack)
            assert not token or made.ask(token) == 200
            return made

        of_address = [opened("127.0.0.5") for _ in range(4)]
        assert [one.closed for one in of_address] == [True, False, False, False]
        of_isp = [opened("127.0.0.6", isp) for _ in range(5)]
        assert [one.closed for one in of_isp] == [True, False, False, False, False], "five of one address: it has none"
        opened("127.0.0.7", other)
        # eight in all: three of an address, four of isp, one of other
        ninth = opened("127.0.0.7", other)
        assert of_isp[1].closed, "the oldest idle one of the largest holder"
        assert not any(one.closed for one in (*of_address[1:], *of_isp[2:], ninth))


def test_a_connection_that_waits_is_not_idle(bounded: Daemon) -> None:
    daemon, isp = bounded, bounded.subscriber("isp", "national")
    etag = daemon.get("/v1/lists/national", isp).headers["etag"]
    with contextlib.ExitStack() as stack:
        waiting = [Opened(daemon, "127.0.0.5", stack) for _ in range(3)]
        for one in waiting:
            one.send(isp, "/v1/lists/national?wait=55", **{"If-None-Match": etag})
        idle = Opened(daemon, "127.0.0.6", stack)
        assert idle.ask(isp) == 200
        daemon.wait_for(lambda: b"blocklistd_feed_long_polls 3.0" in daemon.ops("/metrics").body)
        fifth = Opened(daemon, "127.0.0.6", stack)
        fifth.send(isp, "/v1/lists/national?wait=55", **{"If-None-Match": etag})
        assert idle.closed, "the only idle one, although it is the newest"
        daemon.wait_for(lambda: b"blocklistd_feed_long_polls 4.0" in daemon.ops("/metrics").body)
        refused = Opened(daemon, "127.0.0.6", stack)
        assert refused.ask(isp) == 429, "none is idle"
        assert not any(one.closed for one in (*waiting, fifth))


def test_a_token_counts_in_the_header_alone(daemon: Daemon) -> None:
    token = daemon.subscriber("isp", "national")
    for query in (f"token={token}", f"access_token={token}", f"authorization=Bearer%20{token}"):
        assert daemon.get(f"/v1/lists/national?{query}").status == 401
    assert daemon.get("/v1/lists/national", Cookie=f"token={token}", X_Authorization=f"Bearer {token}").status == 401
    for scheme in ("Basic", "Token", ""):
        assert daemon.get("/v1/lists/national", Authorization=f"{scheme} {token}").status == 401
    assert token not in daemon.log
    revoke(daemon)
