"""ZONEMD with shards and catalogs, and with subscribers whose resolvers it breaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dns.name
import dns.rdatatype

from tests.interop.catalog import CATALOG, CatalogScene
from tests.system.test_operations import reload
from tests.system.test_zones import ZONE, Scene, Secondary

SHARDS = [f"{number:02}.{ZONE}" for number in range(3)]
KEY = f"zones.{ZONE}.zonemd"


def has_digest(secondary: Secondary) -> bool:
    """Whether the zone has a ZONEMD record; its digest is verified."""
    if secondary.zone.get_rdataset(secondary.origin, dns.rdatatype.ZONEMD) is None:
        return False
    secondary.zone.verify_digest()
    return True


def test_each_shard_has_its_digest_and_the_catalog_names_them(tmp_path: Path) -> None:
    scene = CatalogScene(tmp_path)
    scene.daemon.config["zones"] = {ZONE: {"list": "national", "shards": 3, "zonemd": True}}
    scene.daemon.write_config()
    scene.write(*(f"n{number}.example" for number in range(24)))
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        made = scene.add("isp", ZONE)
        followed = [Secondary(scene.port, scene.key(made), dns.name.from_text(name)) for name in SHARDS]
        for secondary in followed:
            secondary.refresh("AXFR")
            assert has_digest(secondary)
        scene.daemon.wait_for(lambda: scene.has_catalog(made, *SHARDS))
        scene.publish(*(f"n{number}.example" for number in range(3, 30)), ips=("192.0.2.0/24",))
        for secondary in followed:
            secondary.refresh()
            assert has_digest(secondary), "after a difference"
        assert CATALOG not in scene.daemon.ask("status").json["zones"]


def change(scene: Scene, **zone: Any) -> None:
    scene.daemon.config["zones"][ZONE].update(zone)
    scene.daemon.write_config()


def test_zonemd_is_refused_while_a_subscriber_has_software_that_it_breaks(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        other = scene.secondary("other", software="bind")
        assert other.refresh("AXFR") == 1
        scene.subscriber("isp", address=["127.0.0.9"])
        change(scene, zonemd=True)
        (error,) = daemon.ask("reload").json["errors"]
        assert error["key"] == KEY
        assert error["line"] > 1
        assert error["found"] == "true, but the zone has the subscribers isp with unbound:1.17"
        checked = daemon.cli("check-config", "-c", str(daemon.path), "--json", check=False)
        assert checked.returncode == 2
        assert json.loads(checked.stdout)["errors"] == [error]
        assert other.refresh() == 1

        daemon.stop()
        daemon.start()
        change(scene, ttl=61)
        assert [one["key"] for one in daemon.ask("reload").json["errors"]] == [KEY]
        assert any(KEY in alarm and "isp with unbound:1.17" in alarm for alarm in daemon.ask("status").json["alarms"])
        assert other.refresh() == 1, "the zone goes on without the record"
        assert not has_digest(other)

        daemon.ask("subscriber revoke", id="isp")
        reload(daemon)
        daemon.wait_for(lambda: daemon.ask("status").json["zones"][ZONE]["serial"] == 2)
        other.refresh()
        assert has_digest(other)
        assert not any(KEY in alarm for alarm in daemon.ask("status").json["alarms"])
