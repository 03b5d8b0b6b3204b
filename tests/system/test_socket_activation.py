"""The daemon on sockets that another process keeps, as systemd does: a restart refuses no client."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import pytest

from tests.certificates import make_certificate
from tests.system.daemon import Daemon, free_port
from tests.system.test_zones import ORIGIN, ZONE, Scene
from tests.system.test_zones_hard import read_exactly

PATIENCE = 60.0  # seconds: a client waits for the next daemon
QUERY = dns.message.make_query(ORIGIN, "SOA").to_wire() or b""


def bound(where: tuple[str, int] | Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    made = socket.socket(socket.AF_UNIX if isinstance(where, Path) else socket.AF_INET, kind)
    if not isinstance(where, Path):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(str(where) if isinstance(where, Path) else where)
    if kind == socket.SOCK_STREAM:
        made.listen(1024)
    return made


class TlsScene(Scene):
    """With zone transfers over TLS on the port `xot`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.xot = free_port()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[TlsScene]:
    """A daemon all of whose sockets are passed to it."""
    made = TlsScene(tmp_path)
    daemon = made.daemon
    cert, key = make_certificate(tmp_path, "dns")
    tls = ("127.0.0.1", made.xot)
    daemon.config["dns"]["tls"] = {"listen": [f"127.0.0.1:{made.xot}"], "cert": str(cert), "key": {"file": str(key)}}
    daemon.write_config()
    with contextlib.ExitStack() as stack:
        daemon.passed = [
            ("feed", bound(("127.0.0.1", daemon.feed_port))),
            ("dns", bound(("127.0.0.1", made.port), socket.SOCK_DGRAM)),
            ("dns", bound(("127.0.0.1", made.port))),
            ("dns-tls", bound(tls)),
            ("dns-tls", bound(tls, socket.SOCK_DGRAM)),
            ("ops", bound(("127.0.0.1", daemon.ops_port))),
            ("control", bound(tmp_path / "c.sock")),
            ("status", bound(tmp_path / "status.sock")),
        ]
        for _, one in daemon.passed:
            stack.enter_context(one)
        with daemon:
            daemon.first_pull("hotline")
            daemon.wait_for(lambda: ZONE in daemon.ask("status").json["zones"])
            yield made


def ask_feed(port: int, token: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/v1/lists/national", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["version"] == 1


def ask_tcp(port: int, tls: ssl.SSLContext | None = None) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain, contextlib.ExitStack() as stack:
        stream = plain if tls is None else stack.enter_context(tls.wrap_socket(plain))
        stream.sendall(struct.pack("!H", len(QUERY)) + QUERY)
        (size,) = struct.unpack("!H", read_exactly(stream, 2))
        assert read_exactly(stream, size)[:2] == QUERY[:2]


def ask_udp(port: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as asking:
        asking.settimeout(PATIENCE)
        asking.connect(("127.0.0.1", port))
        asking.send(QUERY)
        assert asking.recv(4096)[:2] == QUERY[:2]


def ask_local(path: Path) -> None:
    connection = http.client.HTTPConnection("localhost")
    with contextlib.closing(connection):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect(str(path))
        connection.request("POST", "/status", b"{}")
        assert connection.getresponse().status == 200


class Client(threading.Thread):
    """Asks again and again, each time over a new connection, until it is stopped or an answer is missing."""

    def __init__(self, name: str, ask: Callable[[], None]) -> None:
        super().__init__(name=name)
        self.ask = ask
        self.answers = 0
        self.error: Exception | None = None
        self.ends = threading.Event()

    def run(self) -> None:
        while not self.ends.is_set() and self.error is None:
            try:
                self.ask()
                self.answers += 1
            except Exception as error:
                self.error = error


def trusting_anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["dot"])
    return context


def test_a_restart_refuses_nobody_and_loses_no_request(scene: TlsScene, tmp_path: Path) -> None:
    daemon, tls = scene.daemon, trusting_anybody()
    token = daemon.subscriber("provider", "national")
    clients = [
        Client("feed", lambda: ask_feed(daemon.feed_port, token)),
        Client("tcp", lambda: ask_tcp(scene.port)),
        Client("tls", lambda: ask_tcp(scene.xot, tls)),
        Client("udp", lambda: ask_udp(scene.port)),
        Client("control", lambda: ask_local(tmp_path / "c.sock")),
        Client("status", lambda: ask_local(tmp_path / "status.sock")),
    ]
    for client in clients:
        client.start()
    daemon.wait_for(lambda: all(client.answers > 3 for client in clients))
    half = socket.create_connection(("127.0.0.1", daemon.feed_port), timeout=PATIENCE)
    half.sendall(f"GET /v1/lists/national HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n".encode())
    with half:
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for(lambda: daemon.logged("stopping") > 0)
        half.sendall(b"\r\n")
        assert half.recv(4096).startswith(b"HTTP/1.1 200"), "a request that had begun is answered"
    assert daemon.stop() == 0
    asked = [client.answers for client in clients]  # nobody answers now
    with socket.socket(type=socket.SOCK_DGRAM) as asking:
        asking.settimeout(PATIENCE)
        asking.connect(("127.0.0.1", scene.port))
        asking.send(QUERY)
        daemon.start()
        assert asking.recv(4096)[:2] == QUERY[:2], "asked while no daemon ran"
    daemon.wait_for(lambda: all(new.answers > old + 3 or new.error for new, old in zip(clients, asked, strict=True)))
    for client in clients:
        client.ends.set()
        client.join()
    assert [(client.name, client.error) for client in clients if client.error is not None] == []
    assert daemon.ops("/readyz").status == 200
    assert (tmp_path / "c.sock").exists(), "systemd's socket is not removed"


def test_sockets_that_differ_from_the_configuration_are_its_error(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {})
    daemon.init_keys()
    with bound(("127.0.0.1", 0)) as other:
        daemon.passed = [("feed", other)]
        daemon.launch()
        assert daemon.process is not None
        try:
            assert daemon.process.wait(60) == 2, "RestartPreventExitStatus=2: systemd does not start it again"
        except subprocess.TimeoutExpired:
            daemon.kill()
            raise
    assert f"ListenStream=127.0.0.1:{daemon.feed_port}" in daemon.log
    assert not (tmp_path / "state" / "blocklistd.sqlite").exists(), "nothing was touched"
