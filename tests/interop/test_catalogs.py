"""Catalog zones (RFC 9432): each subscriber has its own, and distribution secondaries configure themselves by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.interop.catalog import CATALOG, SECOND, CatalogScene, serves
from tests.interop.programs import Peers, Resolver, named_secondary
from tests.system.daemon import free_port
from tests.system.test_operations import reload
from tests.system.test_zones import ZONE


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[CatalogScene]:
    made = CatalogScene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.daemon.wait_for(lambda: made.daemon.ask("status").json["zones"].keys() == {ZONE, SECOND})
        yield made


def test_each_subscriber_has_a_catalog_of_its_own_zones(scene: CatalogScene) -> None:
    first, second = scene.add("isp-1", ZONE), scene.add("isp-2", ZONE, SECOND)
    scene.add("isp-3", SECOND, address=["127.0.0.3"])
    without = scene.daemon.ask("subscriber add", id="isp-4", lists=["national"], zones=[]).json
    scene.daemon.wait_for(lambda: scene.has_catalog(None, SECOND, source="127.0.0.3"))
    scene.daemon.wait_for(lambda: scene.has_catalog(first, ZONE) and scene.has_catalog(second, ZONE, SECOND))
    serial, members = scene.catalog(first)
    both = scene.catalog(second)[1]
    assert both[ZONE] == members[ZONE], "the label of a member is stable"
    for stranger in (None, without):
        query = dns.message.make_query(CATALOG, "SOA")
        if stranger is not None:
            query.use_tsig(scene.key(stranger))
        assert scene.ask(query).rcode() == dns.rcode.REFUSED
    scene.daemon.stop()
    scene.daemon.start()
    assert scene.catalog(first) == (serial, members), "a restart changes nothing"
    before = scene.catalog(second)[0]
    scene.configure(ZONE)
    scene.daemon.wait_for(lambda: scene.has_catalog(second, ZONE))
    assert scene.catalog(second)[0] > before
    assert scene.catalog(first)[0] == serial, "its zones are the same"
    scene.configure(ZONE, SECOND)
    scene.daemon.wait_for(lambda: scene.has_catalog(second, ZONE, SECOND))
    assert scene.catalog(second)[1] == both
    scene.publish("a.example", "b.example")
    assert scene.catalog(first)[0] == serial, "another version changes no catalog"
    scene.daemon.config["zones"][ZONE]["shards"] = 2
    scene.daemon.write_config()
    reload(scene.daemon)
    scene.daemon.wait_for(lambda: scene.has_catalog(first, f"00.{ZONE}", f"01.{ZONE}"))


def follows_its_rights(scene: CatalogScene, secondary: Resolver) -> None:
    """Asserts that the secondary drops a zone that is withdrawn from it, and takes up one that is granted."""

    def change(**options: list[str]) -> None:
        assert scene.daemon.ask("subscriber set", id="isp", **options).status == 200

    shown = scene.daemon.ask("subscriber show", id="isp").json["catalog"]
    assert shown["name"] == CATALOG
    change(remove_zone=[SECOND])
    secondary.wait(lambda: not serves(secondary.port, SECOND))
    assert serves(secondary.port, ZONE)
    assert scene.daemon.ask("status").json["subscribers"]["isp"]["catalog"]["serial"] > shown["serial"]
    change(add_zone=[SECOND])
    secondary.wait(lambda: serves(secondary.port, SECOND))


def test_knot_configures_itself(scene: CatalogScene, peers: Peers) -> None:
    port = free_port()
    text = peers.printed(scene, "knot", port, zones=[ZONE, SECOND]).replace("192.0.2.60", "127.0.0.2")
    with peers.start("knot", scene.folder, None, port, text) as secondary:
        secondary.wait(lambda: serves(port, ZONE) and serves(port, SECOND))
        scene.configure(ZONE)
        secondary.wait(lambda: not serves(port, SECOND))
        assert serves(port, ZONE)
        scene.configure(ZONE, SECOND)
        secondary.wait(lambda: serves(port, SECOND))
        follows_its_rights(scene, secondary)


def test_bind_configures_itself(scene: CatalogScene, peers: Peers) -> None:
    port = free_port()
    made = scene.add("isp", ZONE, SECOND, notify=[f"127.0.0.1:{port}"])
    with named_secondary(peers.release, scene.folder, port, scene.port, CATALOG, made["tsig"]) as secondary:
        secondary.wait(lambda: serves(port, ZONE) and serves(port, SECOND))
        scene.configure(ZONE)
        secondary.wait(lambda: not serves(port, SECOND))
        assert serves(port, ZONE)
        scene.configure(ZONE, SECOND)
        secondary.wait(lambda: serves(port, SECOND))
        follows_its_rights(scene, secondary)
