"""Who was seen with which serial."""

from __future__ import annotations

from pathlib import Path

from blocklistd.jobs.runner import Jobs
from blocklistd.limits import MAX_SECONDARIES
from blocklistd.serve.dns_query import Seen
from blocklistd.serve.zones import Peer, Zones
from blocklistd.stations import Stations
from blocklistd.zoning import ZonePublisher
from tests.versions_of import NOW, Versions


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
