"""The guide's configurations, pasted into the real programs.

Each program keeps blocking over its own restart while the publisher is down, answers transfers to its own secondaries,
and does not disclose to other clients whether a name is listed.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import dns.edns
import dns.message
import dns.query
import dns.rcode
import dns.zone
import pytest

from blocklistd.daemon.profiles.request import OWN_SECONDARY
from tests.interop.catalog import CATALOG, CatalogScene, serves
from tests.interop.programs import Resolver, knot, named, nsd, recursor, unbound
from tests.interop.stub import Stub
from tests.system.daemon import free_port
from tests.system.test_zones import ORIGIN, ZONE, Scene

GUIDE = Path(__file__).parents[2] / "docs" / "resolvers.md"
OPENS = {
    "bind": 'key "',
    "unbound": "server:\n  module",
    "knot": "key:\n  - id",
    "knot with a catalog": "template:\n  - id",
    "nsd": "key:\n  name",
    "powerdns": "rpzPrimary(",
}
"""The beginning of each program's block in the guide."""
PUBLISHER = "198.51.100.1"
Start = Callable[[Path, int, int, str], AbstractContextManager[Resolver]]
CLIENT, OWN = "127.0.0.1", "127.0.0.2"
"""The address of an ordinary client, and of the resolver's own secondary."""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        yield made


def block(software: str) -> str:
    """The guide's first block for a program; one with TLS follows later."""
    texts = map(textwrap.dedent, re.findall(r"(?:^    .*\n)+", GUIDE.read_text(), re.M))
    return next(text for text in texts if text.startswith(OPENS[software]))


def pasted(scene: Scene, software: str, port: int) -> str:
    """The guide's block with its placeholders replaced."""
    address = {"address": [CLIENT]} if software == "unbound" else {}
    tsig = scene.subscriber("isp", notify=[f"{CLIENT}:{port}"], **address)["tsig"]
    text = re.sub(rf"((?:primary|address|request-xfr): ){PUBLISHER}", rf"\g<1>{CLIENT}@{scene.port}", block(software))
    text = text.replace(f"{PUBLISHER} port 53", f"{CLIENT} port {scene.port}")
    text = text.replace(f'"{PUBLISHER}"', f'"{CLIENT}:{scene.port}"').replace(PUBLISHER, CLIENT)
    return text.replace(OWN_SECONDARY, OWN).replace("NAME", tsig["name"]).replace("SECRET", tsig["secret"])


def asked(port: int, name: str, kind: str, source: str) -> dns.message.Message:
    return dns.query.tcp(dns.message.make_query(name, kind), "127.0.0.1", port=port, source=source, timeout=10)


CENSORED = (16, f"Blocked by the list {ZONE}")


def extended_errors(port: int, name: str) -> list[tuple[int, str | None]]:
    """The extended DNS errors (RFC 8914) of an answer."""
    answer = dns.query.udp(dns.message.make_query(name, "A", use_edns=0), CLIENT, port=port, timeout=10)
    errors = [option for option in answer.options if isinstance(option, dns.edns.EDEOption)]
    return [(int(one.code), one.text) for one in errors]


@pytest.mark.parametrize(
    ("software", "start"),
    [("bind", named), ("unbound", unbound), ("powerdns", recursor)],
    ids=["bind", "unbound", "powerdns"],
)
def test_a_resolver_keeps_blocking_over_its_restart_without_the_publisher(
    scene: Scene, stub: Stub, software: str, start: Start
) -> None:
    port = free_port()
    text = pasted(scene, software, port).replace("refresh = 60", "refresh = 1")
    scene.publish("a.example", "b.example")

    def blocks(resolver: Resolver) -> None:
        resolver.wait(lambda: resolver.blocked("b.example") and resolver.blocked("x.a.example"))
        assert not resolver.blocked("other.example")
        listed, other = (
            (answer.rcode(), [rrset.to_rdataset() for rrset in answer.answer])
            for answer in (resolver.ask(f"{name}.{ZONE}") for name in ("a.example", "other.example"))
        )
        assert listed == other, "the answer does not disclose whether a name is listed"
        for kind in ("AXFR", "SOA"):
            answer = asked(port, ZONE, kind, CLIENT)
            assert not [rrset for rrset in answer.answer if rrset.rdtype in (dns.rdatatype.SOA, dns.rdatatype.CNAME)]

    with start(scene.folder, stub.port, port, text) as resolver:
        blocks(resolver)
        assert extended_errors(port, "a.example") == ([CENSORED] if software == "powerdns" else [])
        assert extended_errors(port, "other.example") == []
        scene.publish("a.example", "b.example", "c.example")
        resolver.wait(lambda: resolver.blocked("c.example"))
    scene.daemon.stop()
    with start(scene.folder, stub.port, port, text) as resolver:
        blocks(resolver)
        assert resolver.blocked("c.example")


def names(zone: dns.zone.Zone) -> set[str]:
    """The names of the zone's rules."""
    return {name.relativize(ORIGIN).to_text() for name in zone.nodes if name != ORIGIN}


@pytest.mark.parametrize(("software", "start"), [("knot", knot), ("nsd", nsd)], ids=["knot", "nsd"])
def test_a_distribution_secondary_refuses_clients_and_serves_its_own_secondaries(
    scene: Scene, software: str, start: Start
) -> None:
    port = free_port()
    text = pasted(scene, software, port)
    file = scene.folder / software / f"{ZONE}.zone"

    def transfers() -> set[str]:
        asking = dns.query.xfr("127.0.0.1", ZONE, port=port, source=OWN, lifetime=10, relativize=False)
        return names(dns.zone.from_xfr(asking, relativize=False))

    def refuses(name: str, kind: str) -> bool:
        answer = asked(port, name, kind, CLIENT)
        return answer.rcode() in (dns.rcode.REFUSED, dns.rcode.NOTAUTH) and not answer.answer

    rules = {"a.example", "*.a.example", "b.example", "*.b.example"}
    with start(scene.folder, 0, port, text) as secondary:
        secondary.wait(lambda: transfers() == {"a.example", "*.a.example"})
        scene.publish("a.example", "b.example")
        secondary.wait(lambda: transfers() == rules)
        secondary.wait(lambda: names(dns.zone.from_file(str(file), ORIGIN, relativize=False)) == rules)
    scene.daemon.stop()
    with start(scene.folder, 0, port, text) as secondary:
        secondary.wait(lambda: transfers() == rules)
        for kind in ("A", "CNAME", "ANY"):
            for name in ("a.example", "x.a.example", "other.example"):
                assert refuses(f"{name}.{ZONE}", kind), (name, kind)
        assert refuses(ZONE, "SOA")
        assert refuses(ZONE, "AXFR")
        assert asked(port, ZONE, "SOA", OWN).answer, "its own secondaries poll"


def test_knot_takes_its_zones_from_the_catalog_and_refuses_clients(tmp_path: Path) -> None:
    scene, port = CatalogScene(tmp_path), free_port()
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        head, _, _ = pasted(scene, "knot", port).partition("zone:\n")
        text = head + block("knot with a catalog").replace(OWN_SECONDARY, OWN)
        with knot(scene.folder, 0, port, text) as secondary:
            secondary.wait(lambda: serves(port, ZONE, OWN))
            scene.publish("a.example", "b.example")
            asking = functools.partial(dns.query.xfr, "127.0.0.1", ZONE, port=port, source=OWN, lifetime=10)
            rules = {"a.example", "*.a.example", "b.example", "*.b.example"}
            secondary.wait(lambda: names(dns.zone.from_xfr(asking(relativize=False), relativize=False)) == rules)
        scene.daemon.stop()
        with knot(scene.folder, 0, port, text) as secondary:
            secondary.wait(lambda: serves(port, ZONE, OWN))
            for name, kind in ((f"a.example.{ZONE}", "A"), (ZONE, "SOA"), (ZONE, "AXFR"), (CATALOG, "AXFR")):
                answer = asked(port, name, kind, CLIENT)
                assert answer.rcode() in (dns.rcode.REFUSED, dns.rcode.NOTAUTH), (name, kind)
                assert not answer.answer, (name, kind)


def test_unbound_with_a_damaged_copy_logs_the_guides_lines(scene: Scene, stub: Stub) -> None:
    port = free_port()
    text = pasted(scene, "unbound", port)
    file = scene.folder / "unbound" / f"{ZONE}.zone"
    with unbound(scene.folder, stub.port, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
    file.write_text("half of a li")
    with unbound(scene.folder, stub.port, port, text) as resolver:
        for said in ("error parsing zonefile", "auth_zones could not be setup"):
            assert f"`{said}`" in GUIDE.read_text()
            resolver.wait(lambda said=said: said in resolver.log.read_text())  # type: ignore[misc]
    file.unlink()
    with unbound(scene.folder, stub.port, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_recursor_without_its_copy_logs_the_guides_lines(scene: Scene, stub: Stub, damage: str) -> None:
    port = free_port()
    text = pasted(scene, "powerdns", port).replace("refresh = 60", "refresh = 1")
    file = scene.folder / "powerdns" / f"{ZONE}.zone"
    with recursor(scene.folder, stub.port, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
    scene.daemon.stop()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:40])
    guide = GUIDE.read_text()
    with recursor(scene.folder, stub.port, port, text) as resolver:
        for said in ("Exception while pre-loadin RPZ zone", "Unable to load RPZ zone, will retry"):
            assert f"`{said}`" in guide
            resolver.wait(lambda said=said: said in resolver.log.read_text())  # type: ignore[misc]
        resolver.wait(lambda: not resolver.blocked("a.example"))
        scene.daemon.start()
        resolver.wait(lambda: resolver.blocked("a.example"))
        assert "`RPZ load completed`" in guide
        assert "RPZ load completed" in resolver.log.read_text()
