"""Which secondary has which serial, as far as it can be known: from what each asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from blocklistd.limits import MAX_SECONDARIES
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.query import Seen
from blocklistd.serve.dns.transfer import counted
from blocklistd.serve.dns.zones import Zones
from blocklistd.store.zones import time_after
from blocklistd.telemetry import Standing
from blocklistd.times import Clock


@dataclass(frozen=True, slots=True)
class Sighting:
    """A secondary: the serial that it last asked from, counted on past 2^32 (None: it has not said one), and when."""

    serial: int | None
    seen: datetime


class Secondaries:
    """The name servers that ask for the zones in `zones`. In memory: after a restart they are seen anew."""

    def __init__(self, zones: Zones, clock: Clock, alarms: Standing | None = None) -> None:
        self._zones = zones
        self._clock = clock
        self._alarms = alarms or Standing()
        self.sightings: dict[tuple[str, bytes], dict[str, Sighting]] = {}
        """By subscriber and zone (in wire format): by address."""

    def saw(self, seen: Seen) -> None:
        """A secondary holds a serial when it asks from it, not when it was sent."""
        known = self.sightings.setdefault((seen.peer.subscriber, seen.zone), {})
        before, view = known.pop(seen.address, None), self._zones.get(seen.zone)  # behind all that asked before it
        serial = before.serial if before else None
        if seen.serial is not None and view is not None:
            serial = counted(seen.serial, view.serial)
            if serial > view.serial:
                knows = f"a secondary of {seen.peer.subscriber} has serial {seen.serial} of zone {view.plan.name}"
                self._alarms.ahead(f"zone {view.plan.name}", knows, view.serial % 2**32)
        known[seen.address] = Sighting(serial, self._clock())
        if len(known) > MAX_SECONDARIES:
            del known[next(iter(known))]

    def forget(self, subscriber: str) -> None:
        """The id is another subscriber's from now on."""
        for known in [known for known in self.sightings if known[0] == subscriber]:
            del self.sightings[known]

    def lag(self, connection: Connection, zone: str, serial: int | None) -> float | None:
        """Seconds since there is something newer than this serial; None where it is not known."""
        if serial is None:
            return None
        since = time_after(connection, zone, serial)
        return round((self._clock() - since).total_seconds(), 3) if since else 0.0

    def furthest(self, connection: Connection, zones: Iterable[str]) -> dict[str, float]:
        """By zone, since when (seconds) a secondary has lacked a serial; 0.0 where none does.

        One that asks with SOA first never says that it has what it was sent last (RFC 1995 2), so only the serial after
        that is missed for sure. An address that has not asked for a day is a secondary no more.
        """
        now, found = self._clock(), {}
        for zone in zones:
            name = wire_name(zone)
            entitled = {peer.subscriber for peer in self._zones.peers if name in peer.zones}
            serials = {
                sighting.serial
                for (subscriber, of), known in self.sightings.copy().items()
                if of == name and subscriber in entitled
                for sighting in known.copy().values()
                if sighting.serial is not None and now - sighting.seen < timedelta(days=1)
            }
            since = time_after(connection, zone, min(serials), skipped=1) if serials else None
            found[zone] = (now - since).total_seconds() if since else 0.0
        return found
