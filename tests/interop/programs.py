"""Name servers of other projects, each run with the configuration under test pasted into its own."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode

from tests.interop.stub import ADDRESS
from tests.peers import peer

WITHIN = 60.0  # seconds that a resolver may take to load a new version


@contextlib.contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Resolver:
    """Sends queries to a resolver under test, and waits until it has loaded a change."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log

    def ask(self, name: str, kind: str = "A") -> dns.message.Message:
        for _ in range(3):  # a resolver that reads a new zone may answer late (RFC 1035 4.2.1 expects repeated queries)
            with contextlib.suppress(dns.exception.Timeout):
                return dns.query.udp(dns.message.make_query(name, kind), "127.0.0.1", port=self.port, timeout=5)
        raise AssertionError(f"no answer within 15 s to a query of type {kind}")

    def blocked(self, name: str) -> bool:
        """Whether the answer is NXDOMAIN. Raises AssertionError unless it is that or the stub's address."""
        answer = self.ask(name)
        if answer.rcode() == dns.rcode.NXDOMAIN:
            return True
        assert answer.rcode() == dns.rcode.NOERROR, answer
        assert answer.answer[0][0].to_text() == ADDRESS
        return False

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN
        while True:
            with contextlib.suppress(AssertionError, OSError, dns.exception.DNSException):
                if condition():
                    return
            assert time.monotonic() < deadline, self.log.read_text(errors="replace")[-4000:]
            threading.Event().wait(0.1)


@contextlib.contextmanager
def named(folder: Path, stub: int, port: int, pasted: str) -> Iterator[Resolver]:
    """BIND. The pasted options are merged into the test's own options block."""
    program = peer("/usr/sbin/named", "bind9")
    policy = re.search(r"options \{[^\n]*\n(.*?)\n\};", pasted, re.S)
    assert policy is not None
    others = pasted.replace(policy[0], "")
    folder = made(folder, "bind")
    (folder / "named.conf").write_text(
        f'options {{ directory "{folder}"; pid-file "{folder}/pid"; session-keyfile "{folder}/key";\n'
        f"  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion yes;\n"
        f"  forward only; forwarders {{ 127.0.0.1 port {stub}; }}; dnssec-validation no;\n{policy[1]}\n}};\n"
        f"controls {{ }};\n{others}"
    )
    checked = subprocess.run(
        [peer("/usr/bin/named-checkconf", "bind9-utils"), str(folder / "named.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    with running([program, "-g", "-c", str(folder / "named.conf")], folder / "log"):
        yield Resolver(port, folder / "log")


@contextlib.contextmanager
def named_secondary(folder: Path, port: int, primary: int, catalog: str, tsig: Mapping[str, str]) -> Iterator[Resolver]:
    """BIND as a distribution secondary of the zones in a catalog. `primary`: the port of the publisher."""
    program = peer("/usr/sbin/named", "bind9")
    folder = made(folder, "bind")
    key, where = tsig["name"], f"{{ 127.0.0.1 port {primary} key {tsig['name']}; }}"
    (folder / "named.conf").write_text(
        f'key "{key}" {{ algorithm {tsig["algorithm"]}; secret "{tsig["secret"]}"; }};\n'
        f'options {{ directory "{folder}"; pid-file "{folder}/pid"; session-keyfile "{folder}/key";\n'
        f"  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; dnssec-validation no;\n"
        f"  allow-query {{ 127.0.0.2; }}; allow-transfer {{ 127.0.0.2; }}; notify no;\n"
        f'  allow-notify {{ key "{key}"; }};\n'
        f'  catalog-zones {{ zone "{catalog}" default-primaries {where} in-memory no zone-directory "{folder}"\n'
        f"    min-update-interval 1; }};\n}};\n"
        f'controls {{ }};\nzone "{catalog}" {{ type secondary; primaries {where}; file "{folder}/catalog"; }};\n'
    )
    with running([program, "-g", "-c", str(folder / "named.conf")], folder / "log"):
        yield Resolver(port, folder / "log")


@contextlib.contextmanager
def unbound(folder: Path, stub: int, port: int, pasted: str) -> Iterator[Resolver]:
    program = peer("/usr/sbin/unbound", "unbound")
    folder = made(folder, "unbound")
    (folder / "unbound.conf").write_text(
        f'server:\n  directory: "{folder}"\n  chroot: ""\n  username: ""\n  pidfile: "{folder}/pid"\n'
        f"  interface: 127.0.0.1@{port}\n  do-not-query-localhost: no\n  use-syslog: no\n  verbosity: 2\n"
        f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{stub}\n'
        f"remote-control:\n  control-enable: no\n" + pasted.replace("/var/lib/unbound", str(folder))
    )
    with running([program, "-d", "-c", str(folder / "unbound.conf")], folder / "log"):
        yield Resolver(port, folder / "log")


@contextlib.contextmanager
def recursor(folder: Path, stub: int, port: int, pasted: str) -> Iterator[Resolver]:
    """PowerDNS Recursor."""
    program = peer("/usr/sbin/pdns_recursor", "pdns-recursor")
    folder = made(folder, "powerdns")
    sockets = tempfile.mkdtemp()  # its path is short: that of a Unix socket has at most 107 characters
    (folder / "rpz.lua").write_text(pasted.replace("/var/lib/pdns-recursor", str(folder)))
    (folder / "recursor.conf").write_text(
        f"local-address=127.0.0.1\nlocal-port={port}\nsocket-dir={sockets}\nlua-config-file={folder}/rpz.lua\n"
        f"forward-zones-recurse=.=127.0.0.1:{stub}\ndisable-packetcache=yes\nsecurity-poll-suffix=\ndnssec=off\n"
        f"daemon=no\nloglevel=6\n"
    )
    try:
        with running([program, f"--config-dir={folder}"], folder / "log"):
            yield Resolver(port, folder / "log")
    finally:
        shutil.rmtree(sockets)


@contextlib.contextmanager
def knot(folder: Path, stub: int, port: int, pasted: str) -> Iterator[Resolver]:
    """Knot DNS. Its copy of the zone is knot/rpz.blocklist.example.zone."""
    program = peer("/usr/sbin/knotd", "knot")
    folder = made(folder, "knot")
    (folder / "knot.conf").write_text(
        f"server:\n  listen: 127.0.0.1@{port}\n  rundir: {folder}\n  automatic-acl: on\n"
        f"log:\n  - target: stderr\n    any: info\n"
        f"database:\n  storage: {folder}\n"
        f'template:\n  - id: default\n    storage: {folder}\n    file: "%s.zone"\n    semantic-checks: on\n' + pasted
    )
    with running([program, "-c", str(folder / "knot.conf")], folder / "log"):
        yield Resolver(port, folder / "log")


@contextlib.contextmanager
def nsd(folder: Path, stub: int, port: int, pasted: str) -> Iterator[Resolver]:
    program = peer("/usr/sbin/nsd", "nsd")
    folder = made(folder, "nsd")
    (folder / "nsd.conf").write_text(
        f'server:\n  ip-address: 127.0.0.1@{port}\n  username: ""\n  chroot: ""\n  pidfile: {folder}/pid\n'
        f'  xfrdfile: {folder}/xfrd.state\n  xfrdir: {folder}\n  zonelistfile: {folder}/zone.list\n  database: ""\n'
        f"  verbosity: 2\nremote-control:\n  control-enable: no\n" + pasted.replace("/var/lib/nsd", str(folder))
    )
    with running([program, "-d", "-c", str(folder / "nsd.conf")], folder / "log"):
        yield Resolver(port, folder / "log")


def made(folder: Path, name: str) -> Path:
    found = folder / name
    found.mkdir(exist_ok=True)
    return found
