"""Real resolvers with the printed configuration do what the list says, and go on while the publisher is away."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from tests.interop.absent import Absent
from tests.interop.guides import says
from tests.interop.programs import Peers, Resolver
from tests.interop.stub import ADDRESS, Stub
from tests.peers import peer
from tests.system.daemon import free_port
from tests.system.test_zones import ZONE, Scene

FOLLOWS = 5.0  # seconds from a new version to the resolver's new answers
each_resolver = pytest.mark.parametrize("software", ["bind", "unbound", "powerdns"])


def scene_of(folder: Path, peers: Peers, software: str, **soa: str) -> Scene:
    return Scene(folder, soa={**peers.soa(software), **soa})


def discloses_nothing(resolver: Resolver) -> bool:
    """Whether the answers below the zone's name are the same for listed and for other names, and hold no rules."""
    listed, other = (
        (answer.rcode(), [rrset.to_rdataset() for rrset in answer.answer])
        for answer in (resolver.ask(f"{name}.{ZONE}") for name in ("b.example", "other.example"))
    )
    found = []
    for kind in ("AXFR", "SOA"):
        answer = dns.query.tcp(dns.message.make_query(ZONE, kind), "127.0.0.1", port=resolver.port, timeout=5)
        found += [rrset for rrset in answer.answer if rrset.rdtype in (dns.rdatatype.SOA, dns.rdatatype.CNAME)]
    return listed == other and not found


@each_resolver
def test_a_resolver_follows_the_list(tmp_path: Path, stub: Stub, peers: Peers, software: str) -> None:
    scene, port = scene_of(tmp_path, peers, software), free_port()
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        scene.publish()
        text = peers.printed(scene, software, port)
        with peers.start(software, scene.folder, stub, port, text) as resolver:

            def follows(blocked: tuple[str, ...], others: tuple[str, ...]) -> None:
                """Waits until exactly these names of them are blocked."""
                resolver.wait(
                    lambda: all(map(resolver.blocked, blocked)) and not any(map(resolver.blocked, others)), FOLLOWS
                )

            resolver.wait(lambda: scene.sent("AXFR") > 0 and not resolver.blocked("a.example"))
            scene.publish("a.example", "b.example", hosts=("host.example", "x.b.example"))  # it was empty
            follows(
                ("a.example", "deep.er.a.example", "host.example", "b.example", "x.b.example", "y.x.b.example"),
                ("other.example", "below.host.example", "example"),
            )
            scene.publish("b.example", "c.example", hosts=("host.example",))
            follows(("b.example", "c.example", "host.example"), ("a.example", "deep.er.a.example"))
            assert scene.sent("IXFR") >= 2
            scene.publish("a.example", "d.c.a.example", hosts=("b.a.example",))  # a.example covers the others
            below = ("b.a.example", "d.c.a.example", "y.d.c.a.example")
            follows((*below, "a.example", "x.b.a.example", "x.c.a.example"), ("b.example",))
            scene.publish("d.c.a.example", hosts=("b.a.example",))
            follows(below, ("a.example", "x.b.a.example", "x.c.a.example"))
            scene.publish()
            follows((), below)
            scene.publish("b.example")
            follows(("b.example",), ())
            scene.daemon.stop()
            scene.daemon.start()
            scene.publish("b.example", "e.example")
            follows(("b.example", "e.example"), ("a.example",))
            assert discloses_nothing(resolver)


@each_resolver
def test_a_resolver_keeps_blocking_while_the_publisher_is_away(
    tmp_path: Path, stub: Stub, peers: Peers, software: str
) -> None:
    """Past refresh and retry, and over its own restart."""
    scene, port = scene_of(tmp_path, peers, software, refresh="1s", retry="1s"), free_port()
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        text = hasty(peers.printed(scene, software, port))
        with peers.start(software, scene.folder, stub, port, text) as resolver:
            resolver.wait(lambda: resolver.blocked("a.example"))
            assert extended_errors(resolver, "a.example") == censored(peers, software)
            assert extended_errors(resolver, "other.example") == []
            scene.publish("a.example", "b.example")
            resolver.wait(lambda: resolver.blocked("b.example"), FOLLOWS)
            scene.daemon.stop()
            with Absent(scene.port) as publisher:
                resolver.wait(lambda: publisher.requests >= 3)
                assert resolver.blocked("x.a.example")
                assert not resolver.blocked("other.example")
        with peers.start(software, scene.folder, stub, port, text) as resolver:
            resolver.wait(lambda: resolver.blocked("b.example") and resolver.blocked("x.a.example"))
            assert not resolver.blocked("other.example")
            assert discloses_nothing(resolver)
            scene.daemon.start()
            scene.publish("c.example")
            resolver.wait(lambda: resolver.blocked("c.example") and not resolver.blocked("b.example"))


def test_a_recursor_follows_notify_or_gets_none(tmp_path: Path, stub: Stub, peers: Peers) -> None:
    says("powerdns", "Before version 5.1 it ignores NOTIFY, and has a change after `refresh`.")
    scene, port, versions = Scene(tmp_path, soa={"refresh": "1h"}), free_port(), iter(range(1000))
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        text = peers.printed(scene, "powerdns", port)
        with peers.start("powerdns", scene.folder, stub, port, text) as resolver:
            resolver.wait(lambda: resolver.blocked("a.example"))

            def follows() -> bool:
                """Publishes another version: the recursor ignores NOTIFY for five seconds after a transfer."""
                scene.publish("a.example", f"n{next(versions)}.example")
                return resolver.blocked("n0.example") or scene.sent("IXFR") > 0

            if peers.takes_notify("powerdns"):
                resolver.wait(follows)
            else:
                assert not follows()
        metrics = scene.daemon.ops("/metrics").body.decode()
        sent = [line for line in metrics.splitlines() if line.startswith("blocklistd_dns_notifies_total{")]
        assert any(float(line.split()[-1]) for line in sent) == peers.takes_notify("powerdns")


def extended_errors(resolver: Resolver, name: str) -> list[tuple[int, str | None]]:
    """The extended DNS errors (RFC 8914) of an answer."""
    errors = [option for option in resolver.ask(name).options if isinstance(option, dns.edns.EDEOption)]
    return [(int(one.code), one.text) for one in errors]


def censored(peers: Peers, software: str) -> list[tuple[int, str | None]]:
    """The extended DNS errors with which a resolver of this version says that it blocks a name."""
    text = {"bind": None, "powerdns": f"Blocked by the list {ZONE}"}.get(software)
    says_so = software == "powerdns" or peers.release.software(software) == "bind:9.20"
    return [(int(dns.edns.EDECode.CENSORED), text)] if says_so else []


def hasty(text: str) -> str:
    """The configuration with BIND's own bounds of refresh and retry, 300 and 500 s, lowered."""
    return text.replace("    notify no;\n", "    notify no; min-refresh-time 1; min-retry-time 1;\n")


ACTIONS = {
    "nxdomain": "nxdomain",
    "nodata": "nodata",
    "drop": "drop",
    "passthru": "passthru",
    "tcp-only": "tcp-only",
    "cname": {"cname": "stop.isp.example"},
}


@each_resolver
def test_each_action_is_taken(tmp_path: Path, stub: Stub, peers: Peers, software: str) -> None:
    scene, port = scene_of(tmp_path, peers, software), free_port()
    zones = {f"{name}.{ZONE}": action for name, action in ACTIONS.items()}
    order = sorted(zones, key=lambda zone: not zone.startswith("passthru"))  # the first zone with a rule wins
    scene.daemon.config["zones"] = {
        zone: {**scene.daemon.config["zones"][ZONE], "action": zones[zone], "categories": [zone.partition(".")[0]]}
        for zone in order
    }
    scene.daemon.write_config()
    entries = [{"t": "domain", "v": f"{name}.example", "c": name} for name in ACTIONS]
    entries.append({"t": "host", "v": "www.passthru.example", "c": "nxdomain"})
    (scene.folder / "list.ndjson").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        text = peers.printed(scene, software, port, zones=order)
        with peers.start(software, scene.folder, stub, port, text) as resolver:
            for name in ACTIONS:
                resolver.wait(lambda name=name: action_of(resolver, f"{name}.example") == name)  # type: ignore[misc]
                assert action_of(resolver, f"x.y.{name}.example") == name
            assert action_of(resolver, "www.passthru.example") == "passthru", "also where another zone blocks it"
            assert action_of(resolver, "other.example") == "passthru"


def action_of(resolver: Resolver, name: str) -> str:
    """The action that the resolver takes for a name that exists."""
    query = dns.message.make_query(name, "A")
    try:
        answer = dns.query.udp(query, "127.0.0.1", port=resolver.port, timeout=1)
    except dns.exception.Timeout:
        return "drop"
    if answer.flags & dns.flags.TC:
        answer = dns.query.tcp(query, "127.0.0.1", port=resolver.port, timeout=5)
        return "tcp-only" if answer.answer[0][0].to_text() == ADDRESS else "other"
    if answer.rcode() == dns.rcode.NXDOMAIN:
        return "nxdomain"
    texts = [rdata.to_text() for rrset in answer.answer for rdata in rrset]
    return {(): "nodata", (ADDRESS,): "passthru", ("stop.isp.example.", ADDRESS): "cname"}.get(tuple(texts), "other")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.publish("a.example", "b.example", hosts=("host.example",))
        yield made


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
