"""Real resolvers and secondaries, with the configuration that the daemon prints, block the listed names."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import dns.zone
import pytest

from tests.interop.programs import knot, named, nsd, unbound
from tests.interop.stub import Stub
from tests.peers import peer
from tests.system.daemon import free_port
from tests.system.test_zones import ORIGIN, ZONE, Scene, Secondary


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.publish("a.example", "b.example", hosts=("host.example", "x.b.example"))
        yield made


def test_bind_with_the_printed_configuration(scene: Scene, stub: Stub) -> None:
    port = free_port()
    made = scene.subscriber("isp", notify=[f"127.0.0.1:{port}"])
    with named(scene.folder, stub.port, port, made["config"]["bind"]) as bind:
        bind.wait(lambda: bind.blocked("a.example"))
        for name in ("deep.er.a.example", "host.example", "b.example", "x.b.example", "y.x.b.example"):
            assert bind.blocked(name), name
        for name in ("other.example", "below.host.example", "example"):
            assert not bind.blocked(name), name
        scene.publish("b.example", hosts=("host.example",))
        bind.wait(lambda: not bind.blocked("a.example"))
        assert bind.blocked("b.example")
        bind.wait(lambda: scene.held("isp") == 2)  # it requested an IXFR from its serial
        scene.publish("b.example", "c.example", hosts=("host.example",))
        bind.wait(lambda: bind.blocked("c.example"))
        scene.publish()
        bind.wait(lambda: not bind.blocked("b.example"))
        for kind in ("SOA", "AXFR"):
            refused = dns.query.tcp(dns.message.make_query(ZONE, kind), "127.0.0.1", port=port, timeout=5)
            assert refused.rcode() != dns.rcode.NOERROR or not refused.answer, "the policy answers no query"
        oracle = bind.ask(f"c.example.{ZONE}")
        assert oracle.rcode() == dns.rcode.REFUSED


def test_names_below_a_listed_domain_stay_blocked(scene: Scene, stub: Stub) -> None:
    """Rules for a host and a domain below a listed domain would unblock the names below these."""
    port = free_port()
    made = scene.subscriber("isp", notify=[f"127.0.0.1:{port}"])
    scene.publish("a.example", "d.c.a.example", hosts=("b.a.example",))
    below = ("x.b.a.example", "x.c.a.example", "b.a.example", "d.c.a.example", "y.d.c.a.example")
    with named(scene.folder, stub.port, port, made["config"]["bind"]) as bind:
        bind.wait(lambda: bind.blocked("a.example"))
        assert [name for name in below if not bind.blocked(name)] == []
        scene.publish("d.c.a.example", hosts=("b.a.example",))
        bind.wait(lambda: not bind.blocked("a.example"))
        assert [name for name in below if bind.blocked(name)] == ["b.a.example", "d.c.a.example", "y.d.c.a.example"]


def test_unbound_is_authorised_by_its_address(scene: Scene, stub: Stub) -> None:
    port = free_port()
    made = scene.subscriber("isp", address=["127.0.0.1"], notify=[f"127.0.0.1:{port}"])
    with unbound(scene.folder, stub.port, port, made["config"]["unbound"]) as resolver:
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

    complete = kdig("AXFR")
    assert f"a.example.{ZONE}." in complete
    assert ";; ERROR" not in complete
    assert "WARNING" not in complete
    before = scene.daemon.ask("status").json["zones"][ZONE]["serial"]
    scene.publish("b.example", hosts=("host.example",))
    step = kdig(f"IXFR={before}")
    assert ";; ERROR" not in step
    assert "WARNING" not in step
    assert step.count("SOA") >= 4
    assert f"a.example.{ZONE}." in step


@pytest.mark.parametrize(("software", "file"), [("knot", f"{ZONE}.zone"), ("nsd", f"{ZONE}.zone")])
def test_a_distribution_secondary_has_the_same_records(scene: Scene, software: str, file: str) -> None:
    port = free_port()
    made = scene.subscriber("isp", notify=[f"127.0.0.1:{port}"])
    start = {"knot": knot, "nsd": nsd}[software]
    with start(scene.folder, 0, port, made["config"][software]) as secondary:
        reference = Secondary(scene.port, scene.key(scene.subscriber("reference")))

        def identical() -> bool:
            """Whether its zone file has the same records as the last transfer by dnspython."""
            text = (scene.folder / software / file).read_text()
            return bool(dns.zone.from_text(text, ORIGIN, relativize=False) == reference.zone)

        reference.refresh("AXFR")
        secondary.wait(identical)
        assert reference.rules == {"a.example", "*.a.example", "b.example", "*.b.example", "host.example"}
        for step in (("b.example",), ("b.example", "c.example"), ()):
            scene.publish(*step)
            reference.zone = dns.zone.Zone(ORIGIN, relativize=False)
            reference.refresh("AXFR")
            secondary.wait(identical)
            assert reference.rules == {rule for name in step for rule in (name, f"*.{name}")}
        log = secondary.log.read_text()
        assert "malformed" not in log.lower()
        assert (software == "nsd") or "IXFR" in log
