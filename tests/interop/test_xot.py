"""Real name servers with the printed configuration transfer over TLS (XoT, RFC 9103), and follow by NOTIFY and IXFR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.query
import dns.zone
import pytest

from blocklistd.daemon.profiles.request import CLIENT_CERT, CLIENT_KEY, OWN_SECONDARY, PRIVATE_CA
from blocklistd.daemon.profiles.versions import software as software_named
from tests.certificates import make_certificate, spki
from tests.interop import release
from tests.interop.programs import Peers, Resolver
from tests.interop.stub import Stub
from tests.interop.test_secondaries import OWN, names
from tests.system.daemon import free_port
from tests.system.test_xot import XotScene
from tests.system.test_zones import ZONE

DISTRIBUTORS = ["nsd", *(["knot"] if software_named(release.tested().software("knot")).is_from(3, 4) else [])]
"""Distribution secondaries that transfer over TLS."""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[XotScene]:
    made = XotScene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.publish("a.example", "b.example")
        yield made


def pasted(peers: Peers, scene: XotScene, software: str, port: int, ca: str = "dns.pem", **more: Any) -> str:
    """The printed configuration, with the file of the authority, and no other change. `more`: of the subscriber."""
    text = peers.printed(scene, software, port, **more)
    assert PRIVATE_CA in text or software == "knot", "Knot before 3.5 verifies the public key"
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


@pytest.mark.parametrize("software", DISTRIBUTORS)
def test_a_distribution_secondary_transfers_over_tls(scene: XotScene, peers: Peers, software: str) -> None:
    port = free_port()

    def holds(*domains: str) -> bool:
        asking = dns.query.xfr("127.0.0.1", ZONE, port=port, source=OWN, lifetime=10, relativize=False)
        zone = dns.zone.from_xfr(asking, relativize=False)
        return names(zone) == {rule for name in domains for rule in (name, f"*.{name}")}

    text = pasted(peers, scene, software, port).replace(OWN_SECONDARY, OWN)
    assert f"@{scene.tls_port}" in text
    with peers.start(software, scene.folder, None, port, text) as secondary:
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


@pytest.mark.parametrize("software", ["bind", "unbound", "nsd"])
def test_a_certificate_with_only_addresses_is_verified(tmp_path: Path, stub: Stub, peers: Peers, software: str) -> None:
    scene, port = XotScene(tmp_path), free_port()
    make_certificate(scene.folder, "dns", named=False)
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        text = pasted(peers, scene, software, port)
        assert "dns.example" not in text
        with peers.start(software, scene.folder, stub, port, text) as secondary:
            secondary.wait(lambda: scene.sent("AXFR") >= 1)
        before = scene.sent("AXFR")
        other = text.replace("#127.0.0.1", "#127.0.0.9").replace('name: "127.0.0.1"', 'name: "127.0.0.9"')
        other = other.replace('hostname "127.0.0.1"', 'hostname "127.0.0.9"')
        assert other != text
        for file in [path for path in (scene.folder / software).rglob("*") if path.is_file()]:
            file.unlink()  # its copy of the zone
        with peers.start(software, scene.folder, stub, port, other) as secondary:
            secondary.wait(lambda: "certificate verif" in secondary.log.read_text(errors="replace").lower())
            assert scene.sent("AXFR") == before


@pytest.mark.parametrize("software", ["bind", "nsd"])
def test_a_secondary_sends_its_client_certificate(scene: XotScene, stub: Stub, peers: Peers, software: str) -> None:
    port = free_port()
    cert, key = make_certificate(scene.folder, "client")
    text = pasted(peers, scene, software, port, cert=[f"sha256:{spki(cert)}"])
    assert f"{CLIENT_CERT}: the client certificate of --cert,\n" in text
    text = text.replace(CLIENT_CERT, str(cert)).replace(CLIENT_KEY, str(key))
    (signed,) = re.findall(r'(?m)^ +primaries .*( key "[^"]+") tls|^ +request-xfr: \S+ (\S+) publisher', text)
    unsigned = text.replace(f"{signed[0]} tls", " tls") if signed[0] else text.replace(f"{signed[1]} pub", "NOKEY pub")
    with peers.start(software, scene.folder, stub, port, unsigned) as secondary:
        secondary.wait(lambda: scene.sent("AXFR") == 1)
