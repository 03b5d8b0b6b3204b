"""What a serial stands for, and what leads from one to another: changes of configuration, 2^32, skips, pruning."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.rdatatype
import pytest

from tests.system.test_operations import reload
from tests.system.test_zones import ORIGIN, ZONE, Scene, Secondary
from tests.system.test_zones_hard import is_incremental


@pytest.fixture
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    made = Scene(tmp_path, **getattr(request, "param", {}))
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.daemon.wait_for(lambda: ZONE in made.daemon.ask("status").json["zones"])
        yield made


def serial_of(scene: Scene) -> int:
    serial: int = scene.daemon.ask("status").json["zones"][ZONE]["serial"]
    return serial


def change(scene: Scene, **zone: Any) -> None:
    scene.daemon.config["zones"][ZONE].update(zone)
    scene.daemon.write_config()
    reload(scene.daemon)


def fresh(scene: Scene, like: Secondary) -> Any:
    other = Secondary(scene.port, like.key)
    other.refresh("AXFR")
    return other.zone


def test_what_came_and_went_does_not_make_a_difference_larger_than_the_zone(scene: Scene) -> None:
    secondary = scene.secondary("isp")
    secondary.refresh("AXFR")
    for number in range(5):
        scene.publish("a.example", f"b{number}.example")
    assert is_incremental(scene.port, secondary)
    assert secondary.refresh() == 6
    assert secondary.zone == fresh(scene, secondary)


@pytest.mark.parametrize("what", [{"ns": ["ns1.example", "ns2.example"]}, {"soa": {"mname": "m.example"}}])
def test_a_changed_apex_is_in_the_difference(scene: Scene, what: dict[str, Any]) -> None:
    secondary = scene.secondary("isp")
    secondary.refresh("AXFR")
    change(scene, **what)
    scene.daemon.wait_for(lambda: serial_of(scene) == 2)
    assert is_incremental(scene.port, secondary)
    secondary.refresh()
    assert secondary.zone == fresh(scene, secondary)


def test_a_serial_keeps_its_content_while_the_next_one_is_made(scene: Scene) -> None:
    secondary = scene.secondary("isp")
    secondary.refresh("AXFR")
    scene.daemon.stop()
    scene.daemon.config["zones"][ZONE].update(soa={"mname": "m.example"}, ns=["ns1.example"])
    scene.daemon.write_config()
    with scene.daemon:  # asked at once: before it has made the new serial, or after
        other = Secondary(scene.port, secondary.key)
        other.refresh("AXFR")
        old = other.serial == 1
        assert (other.zone == secondary.zone) is old
        assert other.zone.find_rrset(ORIGIN, "NS")[0].target.to_text() == ("localhost." if old else "ns1.example.")


def test_a_selection_that_changes_no_rule_makes_no_serial(scene: Scene) -> None:
    secondary = scene.secondary("isp")
    secondary.refresh("AXFR")
    change(scene, categories=["A"])
    assert serial_of(scene) == 1
    scene.publish("a.example", "b.example", hosts=("h.example",))  # the host has no category
    assert is_incremental(scene.port, secondary)
    secondary.refresh()
    assert secondary.rules == {"a.example", "*.a.example", "b.example", "*.b.example"}
    change(scene, categories=[])
    scene.daemon.wait_for(lambda: serial_of(scene) == 3)
    assert is_incremental(scene.port, secondary)
    secondary.refresh()
    assert secondary.rules == {"a.example", "*.a.example", "b.example", "*.b.example", "h.example"}


@pytest.mark.parametrize("scene", [{"serial_start": 2**32 - 2}], indirect=True)
def test_a_serial_goes_on_past_the_end_of_its_circle(scene: Scene) -> None:
    secondary = scene.secondary("isp")
    secondary.refresh("AXFR")
    for number, expected in enumerate((2**32 - 1, 0, 1)):
        scene.publish("a.example", f"b{number}.example")
        assert serial_of(scene) == expected
        assert is_incremental(scene.port, secondary)
        assert secondary.refresh() == expected
        secondary.refresh()
        held = scene.daemon.ask("subscriber show", id="isp").json["zones"][ZONE]
        assert (held["serial"], held["lag"]) == (expected, 0.0)
    assert secondary.zone == fresh(scene, secondary)


def test_a_serial_start_is_followed_forward_only(scene: Scene) -> None:
    secondary = scene.secondary("isp")
    secondary.refresh("AXFR")
    change(scene, serial_start=10)
    assert serial_of(scene) == 1, "no rule has changed"
    scene.publish("a.example", "b.example")
    assert serial_of(scene) == 10
    never = Secondary(scene.port, secondary.key)
    never.refresh("AXFR")
    with never.zone.writer() as writer:
        writer.update_serial(5, relative=False, name=ORIGIN)
    assert not is_incremental(scene.port, never), "nobody ever had that serial"
    assert is_incremental(scene.port, secondary)
    assert secondary.refresh() == 10
    change(scene, serial_start=10 + 2**31)  # whoever has 10 would take it for an older one
    scene.publish("a.example", "c.example")
    assert secondary.refresh() == 11


def test_a_serial_below_the_pruned_deltas_gets_all(scene: Scene) -> None:
    secondary = scene.secondary("isp")
    secondary.refresh("AXFR")
    for number in range(3):
        scene.publish("a.example", f"b{number}.example")
    database = sqlite3.connect(scene.folder / "state" / "blocklistd.sqlite")
    with database:  # what upkeep does after the retention
        database.execute("UPDATE zone_serials SET delta = NULL WHERE serial <= 3")
    database.close()
    assert not is_incremental(scene.port, secondary)
    assert secondary.refresh() == 4
    assert {rrset.rdtype for rrset in secondary.zone.find_node(ORIGIN)} == {dns.rdatatype.SOA, dns.rdatatype.NS}
