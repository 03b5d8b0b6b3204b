"""The digest of a zone (ZONEMD, RFC 8976), verified by Knot, ldns and dnspython."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.zone
import pytest

from blocklistd.daemon.profiles.versions import software as software_named
from tests.interop.guides import says
from tests.interop.programs import Peers
from tests.interop.stub import Stub
from tests.peers import peer
from tests.system.daemon import free_port
from tests.system.test_zones import ORIGIN, ZONE, Scene, Secondary

NO_DIGEST, WRONG_DIGEST = 111, 112
"""Exit codes of ldns-verify-zone."""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path, zonemd=True)
    with made.daemon:
        made.daemon.first_pull("hotline")
        yield made


def ldns(file: Path) -> int:
    """The exit code of ldns-verify-zone: 0 if the digest is right."""
    program = peer("ldns-verify-zone", "ldnsutils")
    return subprocess.run([program, "-Z", str(file)], capture_output=True, timeout=30, check=False).returncode


def test_every_secondary_verifies_the_digest_of_each_serial(scene: Scene, peers: Peers) -> None:
    says("knot", "verifies a ZONEMD record with `zonemd-verify: on`")
    file, port = scene.folder / "transferred.zone", free_port()
    made = peers.subscribe(scene, "knot", port)
    secondary = Secondary(scene.port, scene.key(made))
    secondary.refresh("AXFR")
    text = made["config"]["knot"].replace(f"- domain: {ZONE}\n", f"- domain: {ZONE}\n    zonemd-verify: on\n")
    with peers.start("knot", scene.folder, None, port, text) as knotd:
        copy = scene.folder / "knot" / f"{ZONE}.zone"

        def same() -> bool:
            found = dns.zone.from_text(copy.read_text(), ORIGIN, relativize=False)
            return bool(found == secondary.zone)

        long = ".".join(["x" * 60, "y" * 60, "z" * 60, "example"])
        for domains, hosts in (
            (("a.example",), ()),
            (("a.example", "b.example", long), ("x.b.example", "-h.example")),
            (("b.example",), ("h.example",)),
            ((), ()),
            (("c.example",), ()),
        ):
            if secondary.serial > 1 or domains != ("a.example",):
                scene.publish(*domains, hosts=hosts)
                secondary.refresh()
            secondary.zone.verify_digest()
            knotd.wait(same)
            secondary.zone.to_file(str(file), relativize=False)
            assert ldns(file) == 0
        log = knotd.log.read_text()
        assert log.count("ZONEMD, verification successful") == 5
        assert "ZONEMD, verification failed" not in log
        assert "IXFR, incoming" in log
    tampered = dns.zone.from_file(str(file), ORIGIN, relativize=False)
    tampered.delete_node(f"c.example.{ZONE}.")
    tampered.to_file(str(file), relativize=False)
    assert ldns(file) == WRONG_DIGEST, "ldns does compare"
    tampered.delete_rdataset(ORIGIN, "ZONEMD")
    tampered.to_file(str(file), relativize=False)
    assert ldns(file) == NO_DIGEST


def test_a_resolver_takes_a_zone_with_a_digest_or_is_refused(scene: Scene, stub: Stub, peers: Peers) -> None:
    port, unbound = free_port(), peers.release.software("unbound")
    if software_named(unbound).breaks_on_zonemd:
        refused = scene.daemon.ask("subscriber add", id="isp", zones=[ZONE], software=unbound, address=["127.0.0.1"])
        assert refused.status == 409
        return
    text = peers.printed(scene, "unbound", port)
    with peers.start("unbound", scene.folder, stub, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
        assert not resolver.blocked("other.example")
        others = [f"n{number}.example" for number in range(20)]  # else AXFR is the shorter answer
        scene.publish("a.example", *others)
        resolver.wait(lambda: resolver.blocked("n0.example"))
        scene.publish("b.example", *others)
        resolver.wait(lambda: resolver.blocked("b.example") and not resolver.blocked("a.example"))
        resolver.wait(lambda: scene.sent("IXFR") > 0)


def test_subscriber_add_refuses_resolvers_that_it_breaks(scene: Scene) -> None:
    says("powerdns", "`subscriber add` refuses a zone with one for these versions")
    address: dict[str, Any] = {"address": ["192.0.2.1"]}
    for given in (
        {"software": "powerdns"},
        {"software": "powerdns:5.4.1"},
        {"software": "unbound", **address},
        address,  # Unbound, if --software names no other
    ):
        refused = scene.daemon.ask("subscriber add", id="isp", zones=[ZONE], **given)
        assert refused.status == 409
        assert f"the ZONEMD record of zone {ZONE} breaks this version" in refused.body.decode()
    accepted: list[dict[str, Any]] = [{"software": "powerdns:5.4.2"}, {"software": "bind", **address}, {}]
    for number, given in enumerate(accepted):
        assert scene.daemon.ask("subscriber add", id=f"isp-{number}", zones=[ZONE], **given).status == 200
