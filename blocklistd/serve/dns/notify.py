"""NOTIFY (RFC 1996), as a state machine: time and datagrams in, datagrams and the next time to look out. Pure.

One message in flight a target and zone, the newest serial wins; asked again with back-off until it is acknowledged or
given up.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from typing import Final

from blocklistd.serve.dns.message import AA, IN, NOTIFY, QR, SOA
from blocklistd.serve.dns.tsig import Key, Signer

BACKOFF: Final = 2.0
LONGEST: Final = 60.0  # seconds between two tries

Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Target:
    """Where to, for which zone (on the wire), signed with what: None for who can't check it."""

    address: Endpoint
    zone: bytes
    key: Key | None = None


@dataclass(slots=True)
class _Flight:
    ident: int
    serial: int
    soa: bytes
    begun: float
    due: float
    pause: float


class Notifier:
    """`change` tells it of a new serial, `due` gives what to send now, `receive` takes what came back.

    Times are seconds of one monotonic clock but for `wall`, Unix seconds for signatures. `retry` is the first pause,
    `give_up` the time after which a target is left to its own refresh.
    """

    def __init__(self, retry: float, give_up: float, next_id: int = 1) -> None:
        self._retry = retry
        self._give_up = give_up
        self._next = next_id
        self._flights: dict[Target, _Flight] = {}
        self.told: Counter[str] = Counter()
        """How many were sent, acknowledged, given up."""

    def change(self, target: Target, serial: int, soa: bytes, now: float) -> None:
        """The zone has a new serial; what was in flight to this target is of no interest any more."""
        self._next = self._next % 0xFFFF + 1
        self._flights[target] = _Flight(self._next, serial, soa, now, now, self._retry)

    def forget(self, wanted: set[Target]) -> None:
        """Drops every target that is not wanted any more."""
        for target in self._flights.keys() - wanted:
            del self._flights[target]

    def due(self, now: float, wall: int) -> list[tuple[Endpoint, bytes]]:
        """The datagrams to send now."""
        out = []
        for target, flight in list(self._flights.items()):
            if now < flight.due:
                continue
            if now - flight.begun > self._give_up:
                del self._flights[target]
                self.told["given up"] += 1
                continue
            self.told["sent"] += 1
            out.append((target.address, _message(target, flight, wall)))
            flight.due = now + flight.pause
            flight.pause = min(flight.pause * BACKOFF, LONGEST)
        return out

    def next_time(self) -> float | None:
        """When to ask `due` again."""
        return min((flight.due for flight in self._flights.values()), default=None)

    def receive(self, wire: bytes, source: Endpoint) -> bool:
        """Whether this acknowledged something in flight: an answer from its target with its id and, if it repeats the
        question, its zone (RFC 1996 3.6), whatever its rcode.

        Whoever answers has heard of it; a secondary that refuses NOTIFYs has its refresh (RFC 1996 3.7 ff.).
        """
        if len(wire) < 12:
            return False
        ident, flags, questions = struct.unpack_from("!HHH", wire)
        if not flags & QR or flags >> 11 & 15 != NOTIFY:
            return False
        for target, flight in self._flights.items():
            if flight.ident != ident or target.address != source:
                continue
            if not questions or wire[12 : 12 + len(target.zone)].lower() == target.zone:
                del self._flights[target]
                self.told["acknowledged"] += 1
                return True
        return False


def _message(target: Target, flight: _Flight, wall: int) -> bytes:
    """The request, with the new SOA as a hint in the answer section (RFC 1996 3.7)."""
    wire = (
        struct.pack("!6H", flight.ident, NOTIFY << 11 | AA, 1, 1, 0, 0)
        + target.zone
        + struct.pack("!HH", SOA, IN)
        + flight.soa
    )
    return wire if target.key is None else Signer(target.key).sign(wire, wall)
