"""Real resolvers and secondaries, with the configuration that the daemon prints: what is listed is blocked there."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import dns.zone
import pytest

from tests.interop.stub import ADDRESS, Stub
from tests.peers import peer
from tests.system.daemon import free_port
from tests.system.test_zones import ORIGIN, ZONE, Scene, Secondary

WITHIN = 60.0  # seconds that a resolver may take to follow


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
    """Asks a resolver under test; waits for what it has to learn."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log

    def ask(self, name: str) -> dns.message.Message:
        return dns.query.udp(dns.message.make_query(name, "A"), "127.0.0.1", port=self.port, timeout=5)

    def blocked(self, name: str) -> bool:
        """NXDOMAIN, or the stub's answer; anything else is no answer yet."""
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


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()
    yield made
    made.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.publish("a.example", "b.example", hosts=("host.example", "x.b.example"))
        yield made


@contextlib.contextmanager
def named(scene: Scene, stub: Stub, port: int, printed: str) -> Iterator[Resolver]:
    """BIND with what was printed, pasted: its options block is where ours is."""
    program = peer("/usr/sbin/named", "bind9")
    policy = re.search(r"options \{[^\n]*\n(.*?)\n\};", printed, re.S)
    assert policy is not None
    others = printed.replace(policy[0], "")
    folder = scene.folder / "bind"
    folder.mkdir()
    (folder / "named.conf").write_text(
        f'options {{ directory "{folder}"; pid-file "{folder}/pid"; session-keyfile "{folder}/key";\n'
        f"  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion yes;\n"
        f"  forward only; forwarders {{ 127.0.0.1 port {stub.port}; }}; dnssec-validation no;\n{policy[1]}\n}};\n"
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


def test_bind_with_the_printed_configuration(scene: Scene, stub: Stub) -> None:
    port = free_port()
    made = scene.subscriber("isp", notify=[f"127.0.0.1:{port}"])
    with named(scene, stub, port, made["config"]["bind"]) as bind:
        bind.wait(lambda: bind.blocked("a.example"))
        for name in ("deep.er.a.example", "host.example", "b.example", "x.b.example", "y.x.b.example"):
            assert bind.blocked(name), name
        for name in ("other.example", "below.host.example", "example"):
            assert not bind.blocked(name), name
        scene.publish("b.example", hosts=("host.example",))
        bind.wait(lambda: not bind.blocked("a.example"))
        assert bind.blocked("b.example")
        bind.wait(lambda: scene.held("isp") == 2)  # it asked for the difference, from what it had
        scene.publish("b.example", "c.example", hosts=("host.example",))
        bind.wait(lambda: bind.blocked("c.example"))
        scene.publish()
        bind.wait(lambda: not bind.blocked("b.example"))
        for kind in ("SOA", "AXFR"):
            refused = dns.query.tcp(dns.message.make_query(ZONE, kind), "127.0.0.1", port=port, timeout=5)
            assert refused.rcode() != dns.rcode.NOERROR or not refused.answer, "the policy answers no query"
        oracle = bind.ask(f"c.example.{ZONE}")
        assert oracle.rcode() == dns.rcode.REFUSED


def test_covered_as_a_resolver_sees_it(scene: Scene, stub: Stub) -> None:
    """The host and the domain below a listed domain: they would unblock what is below them."""
    port = free_port()
    made = scene.subscriber("isp", notify=[f"127.0.0.1:{port}"])
    scene.publish("a.example", "d.c.a.example", hosts=("b.a.example",))
    below = ("x.b.a.example", "x.c.a.example", "b.a.example", "d.c.a.example", "y.d.c.a.example")
    with named(scene, stub, port, made["config"]["bind"]) as bind:
        bind.wait(lambda: bind.blocked("a.example"))
        assert [name for name in below if not bind.blocked(name)] == []
        scene.publish("d.c.a.example", hosts=("b.a.example",))
        bind.wait(lambda: not bind.blocked("a.example"))
        assert [name for name in below if bind.blocked(name)] == ["b.a.example", "d.c.a.example", "y.d.c.a.example"]


@contextlib.contextmanager
def unbound(scene: Scene, stub: Stub, port: int) -> Iterator[Resolver]:
    """Unbound, which can't sign: it is known by its address."""
    program = peer("/usr/sbin/unbound", "unbound")
    folder = scene.folder / "unbound"
    folder.mkdir()
    (folder / "unbound.conf").write_text(
        f'server:\n  directory: "{folder}"\n  chroot: ""\n  username: ""\n  pidfile: "{folder}/pid"\n'
        f"  interface: 127.0.0.1@{port}\n  do-not-query-localhost: no\n  use-syslog: no\n  verbosity: 2\n"
        f'  module-config: "respip iterator"\n'
        f"rpz:\n  name: {ZONE}\n  primary: 127.0.0.1@{scene.port}\n  allow-notify: 127.0.0.1\n"
        f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{stub.port}\n'
        f"remote-control:\n  control-enable: no\n"
    )
    with running([program, "-d", "-c", str(folder / "unbound.conf")], folder / "log"):
        yield Resolver(port, folder / "log")


def test_unbound_by_address(scene: Scene, stub: Stub) -> None:
    port = free_port()
    scene.subscriber("isp", address=["127.0.0.1"], notify=[f"127.0.0.1:{port}"])
    with unbound(scene, stub, port) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
        for name in ("deep.er.a.example", "host.example", "b.example", "y.x.b.example"):
            assert resolver.blocked(name), name
        for name in ("other.example", "below.host.example"):
            assert not resolver.blocked(name), name
        scene.publish("b.example", hosts=("host.example",))
        resolver.wait(lambda: not resolver.blocked("a.example"))
        assert resolver.blocked("b.example")
        scene.publish()
        resolver.wait(lambda: not resolver.blocked("b.example"))


@pytest.mark.parametrize("algorithm", ["hmac-sha256", "hmac-sha512"])
def test_kdig_transfers_with_tsig(scene: Scene, algorithm: str) -> None:
    program = peer("kdig", "knot-dnsutils")
    made = scene.subscriber("isp", algorithm=algorithm)
    tsig = made["tsig"]
    key = f"{tsig['algorithm']}:{tsig['name']}:{tsig['secret']}"

    def kdig(kind: str) -> str:
        command = [program, "@127.0.0.1", "-p", str(scene.port), ZONE, kind, "-y", key, "+tcp"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    whole = kdig("AXFR")
    assert f"a.example.{ZONE}." in whole
    assert ";; ERROR" not in whole
    assert "WARNING" not in whole
    before = scene.daemon.ask("status").json["zones"][ZONE]["serial"]
    scene.publish("b.example", hosts=("host.example",))
    step = kdig(f"IXFR={before}")
    assert ";; ERROR" not in step
    assert "WARNING" not in step
    assert step.count("SOA") >= 4
    assert f"a.example.{ZONE}." in step


def test_knot_as_a_plain_secondary_ends_with_the_same_content(scene: Scene) -> None:
    program = peer("/usr/sbin/knotd", "knot")
    port = free_port()
    made = scene.subscriber("isp", notify=[f"127.0.0.1:{port}"])
    tsig = made["tsig"]
    folder = scene.folder / "knot"
    folder.mkdir()
    (folder / "knot.conf").write_text(
        f"server:\n  listen: 127.0.0.1@{port}\n  rundir: {folder}\n"
        f"log:\n  - target: stderr\n    any: info\n"
        f"database:\n  storage: {folder}\n"
        f"key:\n  - id: {tsig['name']}\n    algorithm: {tsig['algorithm']}\n    secret: {tsig['secret']}\n"
        f"remote:\n  - id: primary\n    address: 127.0.0.1@{scene.port}\n    key: {tsig['name']}\n"
        f"acl:\n  - id: primary\n    address: 127.0.0.1\n    key: {tsig['name']}\n    action: notify\n"
        f"zone:\n  - domain: {ZONE}\n    storage: {folder}\n    file: zone.txt\n    master: primary\n    acl: primary\n"
        f"    zonefile-sync: 0\n    semantic-checks: on\n"
    )
    with running([program, "-c", str(folder / "knot.conf")], folder / "log"):
        knot = Resolver(port, folder / "log")

        judge = Secondary(scene.port, scene.key(made))

        def identical() -> bool:
            """Its zone file, record by record, against what dnspython transferred."""
            judge.zone = dns.zone.Zone(ORIGIN, relativize=False)
            judge.refresh("AXFR")
            text = (folder / "zone.txt").read_text()
            return bool(dns.zone.from_text(text, ORIGIN, relativize=False) == judge.zone)

        knot.wait(identical)
        assert judge.rules == {"a.example", "*.a.example", "b.example", "*.b.example", "host.example"}
        for step in (("b.example",), ("b.example", "c.example"), ()):
            scene.publish(*step)
            knot.wait(identical)
            assert judge.rules == {rule for name in step for rule in (name, f"*.{name}")}
        log = (folder / "log").read_text()
        assert "IXFR" in log
        assert "malformed" not in log.lower()
