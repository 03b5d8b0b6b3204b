"""Real distribution secondaries with the printed configuration have the records of the zone, over their own restart
without the publisher as well. They answer their own secondaries, and tell no other client whether a name is listed."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import dns.zone
import pytest

from blocklistd.daemon.resolvers import OWN_SECONDARY
from tests.interop.catalog import CATALOG, CatalogScene, serves
from tests.interop.programs import Peers
from tests.system.daemon import free_port
from tests.system.test_zones import ORIGIN, ZONE, Scene

CLIENT, OWN = "127.0.0.1", "127.0.0.2"
"""The address of an ordinary client, and of the server's own secondary."""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.publish("a.example", "b.example", hosts=("host.example", "x.b.example"))
        yield made


def asked(port: int, name: str, kind: str, source: str) -> dns.message.Message:
    return dns.query.tcp(dns.message.make_query(name, kind), "127.0.0.1", port=port, source=source, timeout=10)


def refuses(port: int, name: str, kind: str) -> bool:
    """Whether an ordinary client gets no answer."""
    answer = asked(port, name, kind, CLIENT)
    return answer.rcode() in (dns.rcode.REFUSED, dns.rcode.NOTAUTH) and not answer.answer


def transferred(port: int) -> dns.zone.Zone:
    """The zone, as one of the server's own secondaries gets it."""
    asking = dns.query.xfr("127.0.0.1", ZONE, port=port, source=OWN, lifetime=10, relativize=False)
    return dns.zone.from_xfr(asking, relativize=False)


def names(zone: dns.zone.Zone) -> set[str]:
    """The names of the zone's rules."""
    return {name.relativize(ORIGIN).to_text() for name in zone.nodes if name != ORIGIN}


@pytest.mark.parametrize("software", ["knot", "nsd"])
def test_a_distribution_secondary_has_the_records_and_refuses_clients(
    scene: Scene, peers: Peers, software: str
) -> None:
    port = free_port()
    text = peers.printed(scene, software, port).replace(OWN_SECONDARY, OWN)
    file = scene.folder / software / f"{ZONE}.zone"
    reference = scene.secondary("reference")

    def follows() -> set[str]:
        """Waits until the secondary and its file have the records of a transfer by dnspython; returns its rules."""
        reference.zone = dns.zone.Zone(ORIGIN, relativize=False)
        reference.refresh("AXFR")
        secondary.wait(lambda: bool(transferred(port) == reference.zone))
        secondary.wait(lambda: bool(dns.zone.from_file(str(file), ORIGIN, relativize=False) == reference.zone))
        return reference.rules

    with peers.start(software, scene.folder, None, port, text) as secondary:
        assert follows() == {"a.example", "*.a.example", "b.example", "*.b.example", "host.example"}
        for step in (("b.example",), (), ("b.example", "c.example")):
            scene.publish(*step)
            assert follows() == {rule for name in step for rule in (name, f"*.{name}")}
        assert scene.sent("IXFR") >= 1
        assert "malformed" not in secondary.log.read_text().lower()
    scene.daemon.stop()
    with peers.start(software, scene.folder, None, port, text) as secondary:
        secondary.wait(lambda: names(transferred(port)) == reference.rules)
        for kind in ("A", "CNAME", "ANY"):
            for name in ("b.example", "x.b.example", "other.example"):
                assert refuses(port, f"{name}.{ZONE}", kind), (name, kind)
        assert refuses(port, ZONE, "SOA")
        assert refuses(port, ZONE, "AXFR")
        assert asked(port, ZONE, "SOA", OWN).answer, "its own secondaries poll"


def test_knot_takes_its_zones_from_the_catalog_and_refuses_clients(tmp_path: Path, peers: Peers) -> None:
    scene, port = CatalogScene(tmp_path), free_port()
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        text = peers.printed(scene, "knot", port).replace(OWN_SECONDARY, OWN)
        start = functools.partial(peers.start, "knot", scene.folder, None, port, text)
        with start() as secondary:
            secondary.wait(lambda: serves(port, ZONE, OWN))
            scene.publish("a.example", "b.example")
            rules = {"a.example", "*.a.example", "b.example", "*.b.example"}
            secondary.wait(lambda: names(transferred(port)) == rules)
        scene.daemon.stop()
        with start() as secondary:
            secondary.wait(lambda: serves(port, ZONE, OWN))
            for name, kind in ((f"a.example.{ZONE}", "A"), (ZONE, "SOA"), (ZONE, "AXFR"), (CATALOG, "AXFR")):
                assert refuses(port, name, kind), (name, kind)
