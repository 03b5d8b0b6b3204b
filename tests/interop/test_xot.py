"""Real name servers with the printed configuration transfer over TLS (XoT, RFC 9103), and follow by NOTIFY and IXFR."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dns.query
import dns.zone
import pytest

from blocklistd.daemon.resolvers import OWN_SECONDARY, PRIVATE_CA
from tests.certificates import make_certificate
from tests.interop.programs import Peers, Resolver
from tests.interop.stub import Stub
from tests.interop.test_secondaries import OWN, names
from tests.system.daemon import free_port
from tests.system.test_xot import XotScene
from tests.system.test_zones import ZONE


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[XotScene]:
    made = XotScene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.publish("a.example", "b.example")
        yield made


def pasted(peers: Peers, scene: XotScene, software: str, port: int, ca: str = "dns.pem") -> str:
    """The printed configuration, with the file of the authority, and no other change."""
    text = peers.printed(scene, software, port)
    assert PRIVATE_CA in text
    return text.replace(PRIVATE_CA, str(scene.folder / ca))


@pytest.mark.parametrize("software", ["bind", "unbound"])
def test_a_resolver_blocks_by_transfers_over_tls(scene: XotScene, stub: Stub, peers: Peers, software: str) -> None:
    port = free_port()
    with peers.start(software, scene.folder, stub, port, pasted(peers, scene, software, port)) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example") and resolver.blocked("x.b.example"))
        assert not resolver.blocked("other.example")
        assert scene.sent("AXFR") >= 1
        scene.publish("b.example", "c.example")
        resolver.wait(lambda: resolver.blocked("c.example") and not resolver.blocked("a.example"))
        assert scene.sent("IXFR") >= 1


def test_nsd_transfers_over_tls(scene: XotScene, peers: Peers) -> None:
    port = free_port()

    def holds(*domains: str) -> bool:
        asking = dns.query.xfr("127.0.0.1", ZONE, port=port, source=OWN, lifetime=10, relativize=False)
        zone = dns.zone.from_xfr(asking, relativize=False)
        return names(zone) == {rule for name in domains for rule in (name, f"*.{name}")}

    text = pasted(peers, scene, "nsd", port).replace(OWN_SECONDARY, OWN)
    with peers.start("nsd", scene.folder, None, port, text) as secondary:
        secondary.wait(lambda: holds("a.example", "b.example"))
        scene.publish("b.example", "c.example")
        secondary.wait(lambda: holds("b.example", "c.example"))
        assert scene.sent("IXFR") == 1


@pytest.mark.parametrize("software", ["bind", "unbound", "nsd"])
def test_a_certificate_of_another_authority_is_refused(
    scene: XotScene, stub: Stub, peers: Peers, software: str
) -> None:
    make_certificate(scene.folder, "other")
    port = free_port()

    def refused(secondary: Resolver) -> bool:
        log = secondary.log.read_text(errors="replace").lower()
        return any(said in log for said in ("certificate", "unknown ca", "tls peer", "ssl"))

    text = pasted(peers, scene, software, port, "other.pem")
    with peers.start(software, scene.folder, stub, port, text) as secondary:
        secondary.wait(lambda: refused(secondary))
        assert (scene.sent("AXFR"), scene.sent("IXFR")) == (0, 0)
