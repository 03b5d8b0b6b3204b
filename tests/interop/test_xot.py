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
from tests.certificates import make_certificate, spki
from tests.interop.programs import Resolver, named, nsd, unbound
from tests.interop.stub import Stub
from tests.interop.test_pasted import OWN, Start, names
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


def pasted(scene: XotScene, software: str, port: int, ca: str = "dns.pem", **more: Any) -> str:
    """The printed configuration, with the file of the authority, and no other change. `more`: of the subscriber."""
    address = {"address": ["127.0.0.1"]} if software == "unbound" else {}
    made = scene.subscriber("isp", notify=[f"127.0.0.1:{port}"], software=software, **address, **more)
    text: str = made["config"][software]
    assert PRIVATE_CA in text
    return text.replace(PRIVATE_CA, str(scene.folder / ca))


def sent(scene: XotScene, kind: str) -> int:
    """The number of complete transfers, AXFR or IXFR."""
    metrics = scene.daemon.ops("/metrics").body.decode().splitlines()
    name = f'blocklistd_dns_transfers_total{{type="{kind}"}} '
    return sum(int(float(line.rpartition(" ")[2])) for line in metrics if line.startswith(name))


@pytest.mark.parametrize(("software", "start"), [("bind", named), ("unbound", unbound)], ids=["bind", "unbound"])
def test_a_resolver_blocks_by_transfers_over_tls(scene: XotScene, stub: Stub, software: str, start: Start) -> None:
    port = free_port()
    with start(scene.folder, stub.port, port, pasted(scene, software, port)) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example") and resolver.blocked("x.b.example"))
        assert not resolver.blocked("other.example")
        assert sent(scene, "AXFR") >= 1
        scene.publish("b.example", "c.example")
        resolver.wait(lambda: resolver.blocked("c.example") and not resolver.blocked("a.example"))
        assert sent(scene, "IXFR") >= 1


def test_nsd_transfers_over_tls(scene: XotScene) -> None:
    port = free_port()

    def holds(*domains: str) -> bool:
        asking = dns.query.xfr("127.0.0.1", ZONE, port=port, source=OWN, lifetime=10, relativize=False)
        zone = dns.zone.from_xfr(asking, relativize=False)
        return names(zone) == {rule for name in domains for rule in (name, f"*.{name}")}

    with nsd(scene.folder, 0, port, pasted(scene, "nsd", port).replace(OWN_SECONDARY, OWN)) as secondary:
        secondary.wait(lambda: holds("a.example", "b.example"))
        scene.publish("b.example", "c.example")
        secondary.wait(lambda: holds("b.example", "c.example"))
        assert sent(scene, "IXFR") == 1


@pytest.mark.parametrize(
    ("software", "start"), [("bind", named), ("unbound", unbound), ("nsd", nsd)], ids=["bind", "unbound", "nsd"]
)
def test_a_certificate_of_another_authority_is_refused(
    scene: XotScene, stub: Stub, software: str, start: Start
) -> None:
    make_certificate(scene.folder, "other")
    port = free_port()

    def refused(secondary: Resolver) -> bool:
        log = secondary.log.read_text(errors="replace").lower()
        return any(said in log for said in ("certificate", "unknown ca", "tls peer", "ssl"))

    with start(scene.folder, stub.port, port, pasted(scene, software, port, "other.pem")) as secondary:
        secondary.wait(lambda: refused(secondary))
        assert (sent(scene, "AXFR"), sent(scene, "IXFR")) == (0, 0)


EACH = pytest.mark.parametrize(
    ("software", "start"), [("bind", named), ("unbound", unbound), ("nsd", nsd)], ids=["bind", "unbound", "nsd"]
)


@EACH
def test_a_certificate_with_only_addresses_is_verified(tmp_path: Path, stub: Stub, software: str, start: Start) -> None:
    scene, port = XotScene(tmp_path), free_port()
    make_certificate(scene.folder, "dns", named=False)
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        text = pasted(scene, software, port)
        assert "dns.example" not in text
        with start(scene.folder, stub.port, port, text) as secondary:
            secondary.wait(lambda: sent(scene, "AXFR") >= 1)
        before = sent(scene, "AXFR")
        other = text.replace("#127.0.0.1", "#127.0.0.9").replace('name: "127.0.0.1"', 'name: "127.0.0.9"')
        other = other.replace('hostname "127.0.0.1"', 'hostname "127.0.0.9"')
        assert other != text
        for file in [path for path in (scene.folder / software).rglob("*") if path.is_file()]:
            file.unlink()  # its copy of the zone
        with start(scene.folder, stub.port, port, other) as secondary:
            secondary.wait(lambda: "certificate verif" in secondary.log.read_text(errors="replace").lower())
            assert sent(scene, "AXFR") == before


@pytest.mark.parametrize(("software", "start"), [("bind", named), ("nsd", nsd)], ids=["bind", "nsd"])
def test_a_secondary_sends_its_client_certificate(scene: XotScene, stub: Stub, software: str, start: Start) -> None:
    port = free_port()
    cert, key = make_certificate(scene.folder, "client")
    text = pasted(scene, software, port, cert=[f"sha256:{spki(cert)}"])
    assert text.splitlines()[1].endswith(f"{CLIENT_CERT}: the client certificate of --cert,")
    text = text.replace(CLIENT_CERT, str(cert)).replace(CLIENT_KEY, str(key))
    (signed,) = re.findall(r'(?m)^ +primaries .*( key "[^"]+") tls|^ +request-xfr: \S+ (\S+) publisher', text)
    unsigned = text.replace(f"{signed[0]} tls", " tls") if signed[0] else text.replace(f"{signed[1]} pub", "NOKEY pub")
    with start(scene.folder, stub.port, port, unsigned) as secondary:
        secondary.wait(lambda: sent(scene, "AXFR") == 1)
