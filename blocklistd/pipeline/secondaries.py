"""Tracks which serial each secondary holds, from its requests and from the transfers that were sent to it.

A serial is confirmed in two ways. A secondary that asks for a difference (IXFR) names the serial that it holds. One
that polls the SOA names none: it holds the current serial if that was sent to it completely, if it polled after that,
and if it asked for no transfer within POLL_TO_TRANSFER seconds of the poll. A poll alone confirms nothing: UDP may pass
where TCP is blocked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from blocklistd.limits import MAX_SECONDARIES, POLL_TO_TRANSFER, SECONDARY_KNOWN
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.claims import Claims
from blocklistd.serve.dns.query import SecondaryRequest
from blocklistd.serve.dns.transfer import unwrap_serial
from blocklistd.serve.dns.zones import Zones
from blocklistd.store.zones import time_after
from blocklistd.times import Clock

_FOLLOWED: Final = timedelta(seconds=POLL_TO_TRANSFER)
_KNOWN: Final = timedelta(seconds=SECONDARY_KNOWN)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is known of a secondary. `seen`: time of its last request. Serials are unwrapped (they continue above 2^32);
    None: not known.

    `asked`: the serial that it held when it last asked for a transfer, since `asked_since`. `sent`: the highest serial
    that was sent to it completely. `pending`: the serial that was sent last, at `completed`, until the secondary asks
    for another transfer. `polled`: time of the first poll after that transfer that was answered with `pending`.

    A transfer request clears `pending` and `polled`, a complete transfer sets `pending`, and a poll sets `polled`.
    """

    seen: datetime
    asked: int | None = None
    sent: int | None = None
    pending: int | None = None
    polled: datetime | None = None
    asked_since: datetime | None = None
    completed: datetime | None = None

    def held_since(self, now: datetime) -> datetime | None:
        """Return since when it is known to hold the serial that `confirmed` returns."""
        if self.polled is not None and now - self.polled >= _FOLLOWED:
            return self.completed
        return self.asked_since

    def confirmed(self, now: datetime) -> int | None:
        """Return the serial that it holds at `now`; None: not known."""
        if self.polled is not None and now - self.polled >= _FOLLOWED:
            return self.pending
        return self.asked


class Secondaries:
    """The secondaries of the zones in `zones`, in memory only: nothing is known after a restart."""

    def __init__(self, zones: Zones, clock: Clock, claims: Claims | None = None) -> None:
        self._zones = zones
        self._clock = clock
        self._claims = claims or Claims()
        self.sightings: dict[tuple[str, bytes], dict[str, Sighting]] = {}
        """By subscriber and zone (in wire format), then by address."""

    def saw(self, seen: SecondaryRequest) -> None:
        """Record a request of a secondary: a poll (SOA), or a request for a transfer."""
        now = self._clock()
        before = self._before(seen, now)
        if seen.poll:
            first = before.polled is None and before.pending == seen.current
            self._keep(seen, replace(before, seen=now, polled=now if first else before.polled))
            return
        if seen.serial is not None:
            asked = self._unwrapped(seen, seen.serial)
        elif before.pending == seen.current:  # an AXFR of the serial that was sent: the poll before confirmed nothing
            asked = before.asked
        else:
            asked = before.confirmed(now)
        since = before.held_since(now) if before.confirmed(now) == asked else now
        self._keep(seen, Sighting(now, asked, before.sent, asked_since=since))

    def sent(self, seen: SecondaryRequest, serial: int) -> None:
        """Record that the zone at `serial` was sent completely to the secondary of this request."""
        now = self._clock()
        before = self._before(seen, now)
        newest = max(serial, before.sent or serial)
        since = before.asked_since
        self._keep(seen, Sighting(now, before.asked, newest, newest, asked_since=since, completed=now))

    def _before(self, seen: SecondaryRequest, now: datetime) -> Sighting:
        known = self.sightings.get((seen.peer.subscriber, seen.zone), {})
        return known.get(seen.address) or Sighting(now)

    def _keep(self, seen: SecondaryRequest, sighting: Sighting) -> None:
        known = self.sightings.setdefault((seen.peer.subscriber, seen.zone), {})
        known.pop(seen.address, None)  # to the end: the first in the dictionary is the one that was silent longest
        known[seen.address] = sighting
        if len(known) > MAX_SECONDARIES:
            del known[next(iter(known))]

    def _unwrapped(self, seen: SecondaryRequest, serial: int) -> int | None:
        """Unwrap the serial that the secondary names. It is a claim if no such serial was made here."""
        asked, view = unwrap_serial(serial, seen.current), self._zones.view_for(seen.zone, seen.peer.subscriber)
        if view is not None and asked > view.serial:
            who, subject = seen.peer.subscriber, f"zone {view.plan.name}"
            self._claims.claim(
                who, subject, f"a secondary of {who} has serial {serial} of {subject}", view.serial % 2**32
            )
        return asked

    def known(self, subscriber: str, zone: str) -> dict[str, Sighting]:
        """Return a subscriber's secondaries, by address."""
        return self.sightings.get((subscriber, wire_name(zone)), {}).copy()

    def lowest(self, subscriber: str, zone: str) -> int | None:
        """Return the lowest serial that a secondary of the subscriber holds; None if none is known. Secondaries that
        were silent for SECONDARY_KNOWN seconds do not count."""
        now = self._clock()
        held = [one.confirmed(now) for one in self.known(subscriber, zone).values() if now - one.seen < _KNOWN]
        return min((serial for serial in held if serial is not None), default=None)

    def confirmed(self, sighting: Sighting) -> int | None:
        """Return the serial that the secondary holds now; None: not known."""
        return sighting.confirmed(self._clock())

    def forget(self, subscriber: str, addresses: Collection[str] | None = None) -> None:
        """Forget a subscriber's secondaries with these addresses; None: all."""
        for known in [known for known in self.sightings if known[0] == subscriber]:
            for address in list(self.sightings[known]) if addresses is None else addresses:
                self.sightings[known].pop(address, None)

    def lag(self, connection: Connection, zone: str, serial: int | None) -> float | None:
        """Return the seconds since the zone got a serial above this one: 0.0 if there is none, None if `serial` is
        None."""
        if serial is None:
            return None
        since = time_after(connection, zone, serial)
        return round((self._clock() - since).total_seconds(), 3) if since else 0.0

    def furthest(self, connection: Connection, zones: Iterable[str]) -> dict[str, float]:
        """Return, by zone, the lag in seconds of the secondary that is furthest behind; 0.0 if none is known to be
        behind."""
        found = {}
        for zone in zones:
            name = wire_name(zone)
            serials = {self.lowest(peer.subscriber, zone) for peer in self._zones.peers if name in peer.zones}
            lowest = min((serial for serial in serials if serial is not None), default=None)
            found[zone] = self.lag(connection, zone, lowest) or 0.0
        return found
