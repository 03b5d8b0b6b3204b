"""Which secondary has which serial, as far as it can be known: from what each asks for, and what it was sent.

A secondary holds a serial, and that is confirmed, when it asks for a difference from it. One that polls the SOA never
says its serial; it holds the zone's once it was sent that to the end, polled after it, and asked for no transfer
within POLL_FOLLOWED seconds. A poll confirms nothing else: TCP may be blocked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from blocklistd.limits import MAX_SECONDARIES, POLL_FOLLOWED, SECONDARY_KNOWN
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.query import Seen
from blocklistd.serve.dns.transfer import counted
from blocklistd.serve.dns.zones import Zones
from blocklistd.store.zones import time_after
from blocklistd.telemetry import Standing
from blocklistd.times import Clock

_FOLLOWED: Final = timedelta(seconds=POLL_FOLLOWED)
_KNOWN: Final = timedelta(seconds=SECONDARY_KNOWN)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A secondary. Serials are counted on past 2^32; None: none is known.

    `asked` is the last that it was known to hold when it asked for a transfer, `sent` the highest that it was sent to
    the end. `pending` is that one while no transfer was asked for since, `polled` the first poll meanwhile that was
    answered with it.
    """

    seen: datetime
    asked: int | None = None
    sent: int | None = None
    pending: int | None = None
    polled: datetime | None = None

    def confirmed(self, now: datetime) -> int | None:
        """The serial that it holds."""
        if self.polled is not None and now - self.polled >= _FOLLOWED:
            return self.pending
        return self.asked


class Secondaries:
    """The name servers that ask for the zones in `zones`. In memory: after a restart they are seen anew."""

    def __init__(self, zones: Zones, clock: Clock, alarms: Standing | None = None) -> None:
        self._zones = zones
        self._clock = clock
        self._alarms = alarms or Standing()
        self.sightings: dict[tuple[str, bytes], dict[str, Sighting]] = {}
        """By subscriber and zone (in wire format): by address."""

    def saw(self, seen: Seen) -> None:
        """A secondary polls, or asks for a transfer."""
        now = self._clock()
        before = self._before(seen, now)
        if seen.poll:
            first = before.polled is None and before.pending == seen.current
            self._keep(seen, replace(before, seen=now, polled=now if first else before.polled))
            return
        if seen.serial is not None:
            asked = self._counted(seen, seen.serial)
        elif before.pending == seen.current:  # it asks for all of what it was sent: a poll before this confirms nothing
            asked = before.asked
        else:
            asked = before.confirmed(now)
        self._keep(seen, Sighting(now, asked, before.sent))

    def sent(self, seen: Seen, serial: int) -> None:
        """The zone at `serial` was sent to its end to a secondary that asked for it."""
        now = self._clock()
        before = self._before(seen, now)
        newest = max(serial, before.sent or serial)
        self._keep(seen, Sighting(now, before.asked, newest, newest))

    def _before(self, seen: Seen, now: datetime) -> Sighting:
        known = self.sightings.get((seen.peer.subscriber, seen.zone), {})
        return known.get(seen.address) or Sighting(now)

    def _keep(self, seen: Seen, sighting: Sighting) -> None:
        known = self.sightings.setdefault((seen.peer.subscriber, seen.zone), {})
        known.pop(seen.address, None)  # behind all that asked before it
        known[seen.address] = sighting
        if len(known) > MAX_SECONDARIES:
            del known[next(iter(known))]

    def _counted(self, seen: Seen, serial: int) -> int | None:
        """What it asks from, counted on past 2^32; an alarm where that was never made here."""
        asked, view = counted(serial, seen.current), self._zones.get(seen.zone)
        if view is not None and asked > view.serial:
            knows = f"a secondary of {seen.peer.subscriber} has serial {serial} of zone {view.plan.name}"
            self._alarms.ahead(f"zone {view.plan.name}", knows, view.serial % 2**32)
        return asked

    def known(self, subscriber: str, zone: str) -> dict[str, Sighting]:
        """A subscriber's secondaries by address."""
        return self.sightings.get((subscriber, wire_name(zone)), {}).copy()

    def lowest(self, subscriber: str, zone: str) -> int | None:
        """The lowest serial that a secondary of the subscriber holds; None where none is known."""
        now = self._clock()
        held = [one.confirmed(now) for one in self.known(subscriber, zone).values() if now - one.seen < _KNOWN]
        return min((serial for serial in held if serial is not None), default=None)

    def confirmed(self, sighting: Sighting) -> int | None:
        """The serial that the secondary holds now."""
        return sighting.confirmed(self._clock())

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
        """By zone, the lag of the subscriber that is furthest behind; 0.0 where none is known to be."""
        found = {}
        for zone in zones:
            name = wire_name(zone)
            serials = {self.lowest(peer.subscriber, zone) for peer in self._zones.peers if name in peer.zones}
            lowest = min((serial for serial in serials if serial is not None), default=None)
            found[zone] = self.lag(connection, zone, lowest) or 0.0
        return found
