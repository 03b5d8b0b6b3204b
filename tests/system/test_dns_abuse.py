"""Clients that abuse the name server all at once, and one good secondary that is served as if they were not there."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import dns.tsig
import dns.zone
import pytest

from blocklistd.limits import REFUSALS_AT_ONCE
from tests.fuzz.queries import mutations
from tests.system.test_xot import XotScene, client_hello, receive, send, transfer
from tests.system.test_zones import ORIGIN
from tests.system.test_zones_hard import LARGE, long_names

PER_ADDRESS, PER_SUBSCRIBER = 24, 3
ABUSER, GOOD = "127.0.0.66", "127.0.0.2"
MEMORY = 64 * 1024
"""KiB that the daemon may grow by: a connection of a slow reader holds a few hundred KiB, and nothing else grows."""
ROUNDS = 5
PREFIX = struct.pack("!H", 40)


class AbuseScene(XotScene):
    """A large zone, narrow bounds, and a feed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        bounds = {"per_address": PER_ADDRESS, "per_subscriber": PER_SUBSCRIBER}
        self.daemon.config["dns"]["connections"] = bounds
        self.daemon.write_config()
        self.names = long_names(LARGE)
        self.write(*self.names)

    def stream(self, stack: contextlib.ExitStack, source: str = ABUSER, *, tls: bool = False) -> socket.socket:
        made = stack.enter_context(socket.socket())
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(60)
        made.bind((source, 0))
        made.connect(("127.0.0.1", self.tls_port if tls else self.port))
        return made

    def connect_tls(self, stack: contextlib.ExitStack, source: str = ABUSER) -> ssl.SSLSocket:
        stream = self.stream(stack, source, tls=True)
        return stack.enter_context(self.context().wrap_socket(stream, server_hostname="127.0.0.1"))

    def memory(self) -> int:
        """The resident memory of the daemon without the zone's mapped file, in KiB."""
        assert self.daemon.process is not None
        for line in Path(f"/proc/{self.daemon.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1])
        raise AssertionError("no RssAnon")

    def refused(self) -> list[str]:
        """The reasons of refusals in the log."""
        lines = (json.loads(line)["message"] for line in self.daemon.log.splitlines() if line.startswith("{"))
        return [line for line in lines if "was refused" in line]

    def in_progress(self) -> int:
        found = self.daemon.ops("/metrics").body.decode()
        return int(float(found.partition('transfers_in_progress{type="AXFR"} ')[2].split()[0]))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AbuseScene]:
    made = AbuseScene(tmp_path_factory.mktemp("abuse"))
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.daemon.wait_for(lambda: bool(made.daemon.ask("status").json["zones"]))
        yield made


def axfr(key: dns.tsig.Key) -> dns.message.Message:
    query = dns.message.make_query(ORIGIN, "AXFR")
    query.use_tsig(key)
    return query


def test_connections_of_an_address_and_of_a_subscriber_are_bounded_on_tcp_and_tls_together(scene: AbuseScene) -> None:
    key = scene.key(scene.subscriber("greedy"))
    with contextlib.ExitStack() as stack:
        opened = [scene.stream(stack, "127.0.0.67", tls=bool(number % 2)) for number in range(2 * PER_ADDRESS)]
        alive = 0
        for stream in opened:
            stream.settimeout(0.2)
            with contextlib.suppress(ConnectionError):
                try:
                    assert stream.recv(1) == b""
                except TimeoutError:
                    alive += 1
        assert alive == PER_ADDRESS, "the oldest were closed for the newest"
    with contextlib.ExitStack() as stack:
        busy = [*(scene.stream(stack) for _ in range(PER_SUBSCRIBER - 1)), scene.connect_tls(stack)]
        for one in busy:
            send(one, axfr(key))
            receive(one)
        for one in (scene.stream(stack), scene.connect_tls(stack)):
            send(one, axfr(key))
            with contextlib.suppress(ConnectionError):
                assert one.recv(1) == b"", "no connection left"
        scene.daemon.wait_for(lambda: any("it has no connection left" in one for one in scene.refused()))
        scene.daemon.ask("subscriber revoke", id="greedy")
    scene.daemon.wait_for(lambda: scene.in_progress() == 0)


@pytest.mark.slow  # a client that takes nothing is cut off after 30 s
def test_a_good_secondary_and_the_feed_are_served_meanwhile(scene: AbuseScene) -> None:
    good, slow = scene.key(scene.subscriber("good")), scene.key(scene.subscriber("slow"))
    token = scene.daemon.subscriber("reader", "national")
    zone: Any = dns.zone.Zone(ORIGIN, relativize=False)
    _transfer(scene, zone, good)
    before, began = scene.memory(), time.monotonic()
    with contextlib.ExitStack() as stack:
        # 1. a subscriber reads a byte a second, on TCP and on TLS
        slow_readers = [scene.stream(stack), scene.connect_tls(stack)]
        for one in slow_readers:
            send(one, axfr(slow))
            receive(one)
        assert scene.in_progress() == 2
        # 2. connections that say nothing, half a message, half a handshake
        hello = client_hello(scene.context())
        half_open = [
            _said(scene.stream(stack, tls=tls), first)
            for tls, first in ((False, b""), (False, PREFIX), (True, b""), (True, hello[:-1]), (True, hello))
            for _ in range(3)
        ]
        # 3. garbage over UDP, TCP and TLS, as fast as it can be sent
        slowly, flood = threading.Event(), threading.Event()
        _start(stack, slowly, _read_slowly(slow_readers))
        _start(stack, flood, _flood_udp(scene), _flood_tcp(scene))
        # 4. versions arrive at the secondary and at the feed
        for number in range(ROUNDS):
            started = time.monotonic()
            scene.publish(*scene.names[number + 1 :])
            _transfer(scene, zone, good)
            assert zone.find_rrset(ORIGIN, "SOA")[0].serial == number + 2
            assert scene.daemon.get("/v1/lists/national", token).json["version"] == number + 2
            assert time.monotonic() - started < 20
        flood.set()  # it has been answered; the slow clients are still there
        # 5. they are cut off, and nothing of them stays
        scene.daemon.wait_for(lambda: scene.in_progress() == 0, within=60)
        for one in half_open:
            with contextlib.suppress(ConnectionError):
                while one.recv(4096):  # the server's flight, if the hello was complete
                    pass
        assert scene.memory() - before < MEMORY
    minutes = 1 + (time.monotonic() - began) / 60
    kinds = {line.partition(" was refused: ")[2].partition(" (")[0] for line in scene.refused()}
    assert len(scene.refused()) <= (REFUSALS_AT_ONCE + len(kinds)) * (minutes + 1), "the log is bounded in rate"
    assert len(kinds) < 20
    assert any("TLS handshake took too long" in line for line in scene.refused())
    assert '"level":"error"' not in scene.daemon.log
    assert "Traceback" not in scene.daemon.log
    with scene.connect() as stream:
        query = dns.message.make_query(ORIGIN, "SOA")
        query.use_tsig(slow)
        send(stream, query)
        assert dns.message.from_wire(receive(stream), keyring=slow, request_mac=query.mac).rcode() == 0


class EagerStream:
    """A connection whose thread takes what arrives at once, as a real secondary does. The server cuts off a client that
    takes less than a third of its send buffer of 4 MiB in 30 s. On a busy machine dnspython may be so slow."""

    def __init__(self, port: int, source: str) -> None:
        self._stream = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(source, 0))
        self._arrived = bytearray()
        self._more = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._stream.recv(1 << 20):
                with self._more:
                    self._arrived += data
                    self._more.notify()
        with self._more:
            self._ended = True
            self._more.notify()

    def sendall(self, data: bytes) -> None:
        self._stream.sendall(data)

    def recv(self, size: int) -> bytes:
        with self._more:
            assert self._more.wait_for(lambda: self._arrived or self._ended, 60)
            data = bytes(self._arrived[:size])
            del self._arrived[:size]
            return data

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._stream.close()


def _transfer(scene: AbuseScene, zone: Any, key: dns.tsig.Key) -> None:
    """Brings the good secondary's copy of the zone to the newest serial."""
    with contextlib.closing(EagerStream(scene.port, GOOD)) as stream:
        transfer(stream, key, zone)  # type: ignore[arg-type]


def _said(stream: socket.socket, first: bytes) -> socket.socket:
    stream.sendall(first)
    return stream


Work = Callable[[threading.Event], None]


def _start(stack: contextlib.ExitStack, stop: threading.Event, *work: Work) -> None:
    """Runs each work in a thread until `stop` is set, at the latest by the end of the stack."""
    threads = [threading.Thread(target=one, args=(stop,)) for one in work]

    def join() -> None:
        stop.set()
        for thread in threads:
            thread.join(30)

    stack.callback(join)
    for thread in threads:
        thread.start()


def _flood_udp(scene: AbuseScene) -> Work:
    def work(stop: threading.Event) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            sender.bind((ABUSER, 0))
            sender.setblocking(False)
            sent = 0
            while not stop.is_set():
                for wire in mutations(sent, 500):
                    with contextlib.suppress(OSError):
                        sender.sendto(wire, ("127.0.0.1", scene.port))
                        sent += 1
                    with contextlib.suppress(OSError):
                        sender.recv(4096)
                stop.wait(0.01)  # the machine has to run the others, too

    return work


def _flood_tcp(scene: AbuseScene) -> Work:
    def work(stop: threading.Event) -> None:
        seed = 0
        while not stop.is_set():
            seed += 1
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                stream = scene.stream(stack, tls=seed % 3 == 0)
                stream.settimeout(5)
                for wire in mutations(seed, 20):
                    stream.sendall(struct.pack("!H", len(wire)) + wire)
                stream.shutdown(socket.SHUT_WR)
                while stream.recv(65536):
                    pass
            stop.wait(0.01)

    return work


def _read_slowly(streams: list[socket.socket]) -> Work:
    def work(stop: threading.Event) -> None:
        while not stop.wait(1):
            for one in streams:
                with contextlib.suppress(OSError):
                    one.recv(1)

    return work
