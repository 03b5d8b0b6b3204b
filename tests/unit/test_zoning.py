"""What is served of a zone while its configuration has changed, and its next serial is not made yet."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from blocklistd.jobs.runner import Jobs
from blocklistd.model import ListId
from blocklistd.outputs.wire import Apex, wire_name
from blocklistd.serve.zones import Zones
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
