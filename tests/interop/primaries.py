"""Primaries of other projects on loopback, whose zone a test rewrites."""

from __future__ import annotations

import contextlib
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import dns.message
import dns.query

from tests.interop.programs import made, running
from tests.peers import peer
from tests.system.daemon import free_port

ZONE = "rpz.hotline.example"
KEY = ("blocklistd.example", "hmac-sha256", "c2VjcmV0IG9mIHRoZSB0ZXN0cywgbm90IG9mIGFueWJvZHk=")
WITHIN = 30.0  # seconds until a server has loaded a zone


class Primary:
    """A running server. `write` replaces the zone, and returns when the server has it. `log`: its output."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def put(self, serial: int, *rules: str) -> None:
        head = f"$TTL 60\n@ IN SOA localhost. hostmaster.hotline.example. {serial} 60 30 600 60\n@ NS localhost.\n"
        (self.folder / "zone").write_text(head + "".join(f"{rule}\n" for rule in rules))

    def write(self, serial: int, *rules: str) -> None:
        self.put(serial, *rules)
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        self.wait_for(serial)

    def wait_for(self, serial: int) -> None:
        query, deadline = dns.message.make_query(ZONE, "SOA"), time.monotonic() + WITHIN
        while True:
            with contextlib.suppress(OSError, dns.exception.DNSException, IndexError):
                answer = dns.query.tcp(query, "127.0.0.1", port=self.port, timeout=5)
                if answer.answer[0][0].serial == serial:
                    return
            assert time.monotonic() < deadline, self.log[-4000:]
            threading.Event().wait(0.05)


@contextlib.contextmanager
def named(folder: Path, serial: int, *rules: str, tsig: bool = False, port: int = 0) -> Iterator[Primary]:
    """BIND, which makes differences of the zone files that it reads."""
    program, primary = peer("/usr/sbin/named", "bind9"), Primary(port or free_port(), made(folder, "bind"))
    primary.put(serial, *rules)
    name, algorithm, secret = KEY
    (primary.folder / "named.conf").write_text(
        f'options {{ directory "{primary.folder}"; pid-file "pid"; session-keyfile "key"; recursion no; notify no;\n'
        f"  listen-on port {primary.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; dnssec-validation no;\n"
        f"  ixfr-from-differences yes; max-ixfr-ratio unlimited; }};\ncontrols {{ }};\n"
        f'key "{name}" {{ algorithm {algorithm}; secret "{secret}"; }};\n'
        f'zone "{ZONE}" {{ type primary; file "zone"; journal "journal";\n'
        f"  allow-transfer {{ {f'key {name}' if tsig else 'any'}; }}; }};\n"
    )
    with running([program, "-g", "-c", str(primary.folder / "named.conf")], primary.folder / "log") as primary.process:
        primary.wait_for(serial)
        yield primary


@contextlib.contextmanager
def knot(folder: Path, serial: int, *rules: str, tsig: bool = False, port: int = 0) -> Iterator[Primary]:
    """Knot DNS, which makes differences of the zone files that it reads."""
    program, primary = peer("/usr/sbin/knotd", "knot"), Primary(port or free_port(), made(folder, "knot"))
    primary.put(serial, *rules)
    name, algorithm, secret = KEY
    (primary.folder / "knot.conf").write_text(
        f"server:\n  listen: 127.0.0.1@{primary.port}\n  rundir: {primary.folder}\n"
        f"log:\n  - target: stderr\n    any: info\ndatabase:\n  storage: {primary.folder}\n"
        f"key:\n  - id: {name}\n    algorithm: {algorithm}\n    secret: {secret}\n"
        f"acl:\n  - id: out\n    action: transfer\n    {f'key: {name}' if tsig else 'address: 127.0.0.1'}\n"
        f"zone:\n  - domain: {ZONE}\n    storage: {primary.folder}\n    file: zone\n    acl: out\n"
        f"    zonefile-load: difference\n    zonefile-sync: -1\n    journal-content: changes\n"
    )
    with running([program, "-c", str(primary.folder / "knot.conf")], primary.folder / "log") as primary.process:
        primary.wait_for(serial)
        yield primary


@contextlib.contextmanager
def nsd(folder: Path, serial: int, *rules: str, tsig: bool = False, port: int = 0) -> Iterator[Primary]:
    """NSD, which keeps no differences: it answers IXFR with the complete zone."""
    program, primary = peer("/usr/sbin/nsd", "nsd"), Primary(port or free_port(), made(folder, "nsd"))
    primary.put(serial, *rules)
    name, algorithm, secret = KEY
    (primary.folder / "nsd.conf").write_text(
        f'server:\n  ip-address: 127.0.0.1@{primary.port}\n  username: ""\n  chroot: ""\n'
        f"  pidfile: {primary.folder}/pid\n  xfrdfile: {primary.folder}/xfrd.state\n  xfrdir: {primary.folder}\n"
        f'  zonelistfile: {primary.folder}/zone.list\n  zonesdir: {primary.folder}\n  database: ""\n  verbosity: 2\n'
        f"remote-control:\n  control-enable: no\n"
        f'key:\n  name: "{name}"\n  algorithm: {algorithm}\n  secret: "{secret}"\n'
        f'zone:\n  name: "{ZONE}"\n  zonefile: zone\n  provide-xfr: 127.0.0.1 {name if tsig else "NOKEY"}\n'
    )
    with running([program, "-d", "-c", str(primary.folder / "nsd.conf")], primary.folder / "log") as primary.process:
        primary.wait_for(serial)
        yield primary


class Relay:
    """Forwards connections to a server on loopback. After `limit` bytes of an answer it closes the connection, or holds
    it open without another byte if `holds`. `reached` is then set."""

    def __init__(self, upstream: int) -> None:
        self.limit = sys.maxsize
        self.holds = False
        self.reached = threading.Event()
        relay = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", upstream)) as server:
                    server.sendall(self.request.recv(65536))
                    sent = 0
                    while data := server.recv(1024):
                        if sent + len(data) > relay.limit:
                            relay.reached.set()
                            if relay.holds:
                                self.request.recv(1)  # until the client has gone
                            return
                        self.request.sendall(data)
                        sent += len(data)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Relay:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


Start = Callable[..., AbstractContextManager[Primary]]
