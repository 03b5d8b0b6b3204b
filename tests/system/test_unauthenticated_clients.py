"""Unauthenticated clients take all connections that they can get, on every listener; the others are served as before.

The others are subscribers, secondaries and operators at other addresses.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.tsig
import pytest

from tests.certificates import make_certificate
from tests.system.daemon import Daemon
from tests.system.test_zones import ORIGIN, Scene

UNAUTHENTICATED = "127.0.0.66"
ELSEWHERE = "127.0.0.2"
OPENED = 200
"""More connections than an address may have."""
DESCRIPTORS = 400
LONG_POLL = "/v1/lists/national?wait=55"


class Feed:
    """A subscriber at the address ELSEWHERE."""

    def __init__(self, daemon: Daemon, token: str, cert: Path | None) -> None:
        self._daemon = daemon
        self._authorization = {"Authorization": f"Bearer {token}"}
        self._tls = ssl.create_default_context(cafile=cert) if cert is not None else None

    def connect(self) -> http.client.HTTPConnection:
        port, source = self._daemon.feed_port, (ELSEWHERE, 0)
        if self._tls is None:
            return http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=source)
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=60, source_address=source, context=self._tls)

    def ask(self, connection: http.client.HTTPConnection, path: str, **headers: str) -> None:
        connection.request("GET", path, headers=self._authorization | headers)

    def status(self) -> tuple[int, Any]:
        with contextlib.closing(self.connect()) as connection:
            self.ask(connection, "/v1/lists/national")
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())


def open_connections(
    port: int, stack: contextlib.ExitStack, count: int, *sent: bytes, source: str = UNAUTHENTICATED
) -> None:
    """Opens connections from `source`; the server may close each at any moment."""
    for number in range(count):
        stream = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
        stack.enter_context(stream)
        with contextlib.suppress(OSError):
            stream.sendall(sent[number % len(sent)] if sent else b"")


def open_local_connections(path: Path, stack: contextlib.ExitStack, count: int) -> None:
    for _ in range(count):
        stream = stack.enter_context(socket.socket(socket.AF_UNIX))
        stream.settimeout(20)
        stream.connect(str(path))


def transfer(port: int, key: Any) -> Iterator[bytes]:
    """The messages of an AXFR to the address ELSEWHERE."""
    query = dns.message.make_query(ORIGIN, "AXFR")
    query.use_tsig(key)
    wire = query.to_wire()
    with socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(ELSEWHERE, 0)) as stream:
        stream.sendall(struct.pack("!H", len(wire)) + wire)
        stream.shutdown(socket.SHUT_WR)
        data = b""
        while chunk := stream.recv(65536):
            data += chunk
    while data:
        (size,) = struct.unpack_from("!H", data)
        yield data[2 : 2 + size]
        data = data[2 + size :]


@pytest.fixture(params=["plain", "tls", "asking"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """With "asking", the feed asks its clients for a certificate."""
    made = Scene(tmp_path)
    if request.param != "plain":
        make_certificate(tmp_path, "feed")
        made.daemon.config["feed"]["tls"] = {"cert": "feed.pem", "key": {"file": "feed.key"}}
        if request.param == "asking":
            made.daemon.config["feed"]["tls"]["client_ca"] = "feed.pem"
        made.daemon.write_config()
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.daemon.wait_for(lambda: made.daemon.ask("status").json["zones"].get(ORIGIN.to_text(True)) is not None)
        yield made


def test_clients_elsewhere_are_served_while_one_address_takes_all_connections(scene: Scene) -> None:
    daemon = scene.daemon
    cert = scene.folder / "feed.pem"
    feed = Feed(daemon, daemon.subscriber("isp", "national"), cert if cert.exists() else None)
    key = scene.key(scene.subscriber("resolvers"))
    half, question = b"GET /v1/lists HTTP/1.1\r\n", struct.pack("!H", 40)
    with contextlib.ExitStack() as stack, contextlib.closing(feed.connect()) as waiting:
        feed.ask(waiting, "/v1/lists/national")
        etag = waiting.getresponse()
        etag.read()
        feed.ask(waiting, LONG_POLL, **{"If-None-Match": str(etag.headers["ETag"])})
        open_connections(daemon.feed_port, stack, OPENED, b"", half)
        open_connections(scene.port, stack, OPENED, b"", question)
        open_local_connections(scene.folder / "status.sock", stack, OPENED)
        assert feed.status()[0] == 200
        assert [message[3] & 15 for message in transfer(scene.port, key)][:1] == [0]
        assert daemon.ask("status").status == 200
        assert daemon.ask("subscriber revoke", id="resolvers").status == 200
        scene.publish("a.example", "b.example")
        answer = waiting.getresponse()
        assert json.loads(answer.read())["version"] == 2, "a connection with a long poll is not idle"
        assert daemon.ops("/readyz").status == 200
        with contextlib.closing(local(scene.folder / "status.sock")) as anybody:
            anybody.request("POST", "/status", "{}")
            assert anybody.getresponse().status == 200
    assert '"level":"error"' not in daemon.log
    assert "Traceback" not in daemon.log


def local(path: Path) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(str(path))
    return connection


def test_operators_and_pulls_work_while_many_addresses_take_all_descriptors(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.daemon.prefix = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
    daemon = scene.daemon
    with daemon, contextlib.ExitStack() as stack:
        daemon.first_pull("hotline")
        feed = Feed(daemon, daemon.subscriber("isp", "national"), None)
        for number in range(100, 110):
            open_connections(daemon.feed_port, stack, 60, source=f"127.0.0.{number}")
        assert feed.status()[1]["version"] == 1
        assert daemon.ask("status").status == 200
        scene.publish("a.example", "b.example")
        assert feed.status()[1]["version"] == 2
        assert daemon.log.count("no descriptors are left") == 1
        assert "Traceback" not in daemon.log


def test_connections_that_are_aborted_at_once_log_no_error(scene: Scene) -> None:
    daemon = scene.daemon
    reset = struct.pack("ii", 1, 0)
    for port in (daemon.feed_port, daemon.ops_port, scene.port):
        for sent in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0"):
            for _ in range(30):
                with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                    with contextlib.suppress(OSError):
                        stream.sendall(sent)
    for name in ("c.sock", "status.sock"):
        for _ in range(30):
            with contextlib.closing(local(scene.folder / name)) as connection, contextlib.suppress(OSError):
                connection.request("POST", "/status", "{}")
    assert daemon.ask("status").status == 200
    assert daemon.stop() == 0
    assert '"level":"error"' not in daemon.log
    assert "Traceback" not in daemon.log


def test_each_kind_of_refused_client_is_logged_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    daemon = scene.daemon
    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("leaver", "national")
        assert daemon.ask("subscriber revoke", id="leaver").status == 200
        for sent in (token, token, "nobody-s", None):
            assert daemon.get("/v1/lists", sent).status == 401
        for name in (ORIGIN, dns.name.from_text("entry.example")):
            for _ in range(20):
                assert scene.ask(dns.message.make_query(name, "SOA")).rcode() == 5
        wrong = dns.message.make_query(ORIGIN, "SOA")
        wrong.use_tsig(dns.tsig.Key("Not-Ours.example", os.urandom(32), "hmac-sha256"))
        with pytest.raises(dns.tsig.PeerBadKey):
            scene.ask(wrong)
        lines = [json.loads(line)["message"] for line in daemon.log.splitlines() if "was refused" in line]
        assert [line.partition(" (")[0] for line in lines] == [
            "feed: 127.0.0.1 as leaver was refused: the subscriber was revoked",
            "feed: 127.0.0.1 was refused: its token is unknown",
            "feed: 127.0.0.1 was refused: it sent no token",
            "dns: 127.0.0.1 was refused: it is not entitled to the zone",
            "dns: 127.0.0.1 was refused: there is no such zone",
            "dns: 127.0.0.1 as the unknown key not-ours.example was refused: there is no such key, or it is of another "
            "algorithm",
        ]
        assert "entry.example" not in daemon.log
