"""Who was seen with which serial."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import Any

from blocklistd.limits import SECONDARIES
from blocklistd.outputs.wire import wire_name
from blocklistd.serve.dns_query import Seen
from blocklistd.serve.zones import Peer, Zones
from blocklistd.times import utc_now
from blocklistd.zoning import ZonePublisher

ZONE = wire_name("rpz.example")


def test_addresses_that_are_remembered_are_bounded() -> None:
    nothing: Any = None
    began, turn = utc_now(), count()
    clock = lambda: began + timedelta(seconds=next(turn))  # noqa: E731
    zones = ZonePublisher(nothing, nothing, nothing, Zones(), clock, nothing)
    peer = Peer("isp", frozenset({ZONE}), (), (), ())
    for number in range(SECONDARIES + 10):
        zones.saw(Seen(peer, ZONE, "192.0.2.1", None))
        zones.saw(Seen(peer, ZONE, f"2001:db8::{number:x}", None))
    known = zones.sightings["isp", ZONE]
    assert len(known) == SECONDARIES
    assert "192.0.2.1" in known, "it asks all the time"
    assert "2001:db8::1" not in known
