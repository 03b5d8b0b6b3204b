"""What is served of a zone while its next serial is not made yet; and who was seen with which serial."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from blocklistd.jobs.runner import Jobs
from blocklistd.limits import MAX_SECONDARIES
from blocklistd.model import ListId
from blocklistd.outputs.wire import Apex, wire_name
from blocklistd.serve.dns_query import Seen
from blocklistd.serve.zones import Peer, Zones
from blocklistd.stations import Stations
from blocklistd.versions.zones import ZonePlan, advance, newest_serial
from blocklistd.zoning import ZonePublisher
from tests.versions_of import LIST, NOW, Versions

ZONE = "rpz.blocklist.example"
APEX = Apex(ZONE, "localhost", "h.invalid", 60, 30, 600, 60, ("localhost", "ns.invalid"))
PLAN = ZonePlan(ZONE, LIST, ("A", "B"), ".", 60, APEX, 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"apex": dataclasses.replace(APEX, refresh=61)},
        {"ttl": 61},
        {"target": "*."},
        {"categories": ("B",)},
        {"list": ListId("other")},
    ],
)
def test_a_serial_is_served_as_it_was_made(tmp_path: Path, changed: dict[str, Any]) -> None:
    """No serial stands for two contents, however long the next one takes."""
    versions = Versions(tmp_path)
    versions.publish(versions.seal(["a.example"]))
    assert advance(versions.store, PLAN, NOW) == 1
    with versions.database.read() as connection:
        found = newest_serial(connection, ZONE)
    assert found is not None
    assert found.plan.renders_as(PLAN)
    zones, jobs = Zones(), Jobs()
    publisher = ZonePublisher(versions.store, versions.database, jobs, zones, lambda: NOW, Stations())
    asyncio.run(publisher.configure([dataclasses.replace(PLAN, **changed)]))
    served = zones.get(wire_name(ZONE))
    assert served is not None
    assert served.serial == 1
    assert served.plan.renders_as(PLAN)
    assert served.soa() == APEX.soa(1)
    jobs.close()
    versions.close()


class NoJobs(Jobs):
    def __init__(self) -> None:
        pass


def test_who_changes_its_address_is_not_remembered_for_ever(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    zones = ZonePublisher(versions.store, versions.database, NoJobs(), Zones(), lambda: NOW, Stations())
    peer = Peer("isp", frozenset({b"\0"}), (), (), ())
    for number in range(MAX_SECONDARIES + 10):
        zones.saw(Seen(peer, b"\0", "192.0.2.1", 1))  # asks again and again
        zones.saw(Seen(peer, b"\0", f"2001:db8::{number:x}", 1))
    seen = zones.sightings["isp", b"\0"]
    assert len(seen) == MAX_SECONDARIES
    assert "192.0.2.1" in seen
    assert "2001:db8::0" not in seen
    versions.close()
