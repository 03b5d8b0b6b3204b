"""Bounds how often a subscriber takes a complete zone: a secondary that asks for it in a loop would take the processor
from all others. Pure.

For each subscriber and zone, FULL_TRANSFERS_AT_ONCE complete transfers are free, as many as there may be secondaries
behind one key, and another one every FULL_TRANSFER_PERIOD seconds (a token bucket). A large difference counts as the
part of the zone that has its size; a difference of less than LARGE_DIFFERENCE octets does not count.
"""

from __future__ import annotations

from blocklistd.limits import FULL_TRANSFER_PERIOD, FULL_TRANSFERS_AT_ONCE, LARGE_DIFFERENCE
from blocklistd.serve.dns.transfer import TransferRecords

TOO_OFTEN = "it took the complete zone too often: see why its secondary does not keep the zone"
"""The reason in the log."""


def share_of_zone(records: TransferRecords, zone: int) -> float:
    """The part of a complete transfer that a transfer counts as, from 0 to 1. `zone`: octets of the complete zone."""
    size = sum(map(len, records.parts))
    if records.kind == "AXFR":
        return 1.0
    return min(size / max(zone, 1), 1.0) if size >= LARGE_DIFFERENCE else 0.0


class FullTransfers:
    """The complete transfers of each subscriber and zone."""

    def __init__(self) -> None:
        self._full_at: dict[tuple[str, str], float] = {}
        """When the bucket of a subscriber and a zone is full again, in monotonic seconds."""

    def take(self, subscriber: str, zone: str, now: float, share: float = 1.0) -> bool:
        """Counts a transfer, or a `share` of one, that begins `now` (monotonic seconds). False if it is one too many;
        it does not count."""
        self._forget(now)
        if not share:
            return True
        name = subscriber, zone
        full_at = max(now, self._full_at.get(name, now)) + share * FULL_TRANSFER_PERIOD
        if full_at - now > FULL_TRANSFERS_AT_ONCE * FULL_TRANSFER_PERIOD:
            return False
        self._full_at.pop(name, None)
        self._full_at[name] = full_at
        return True

    def _forget(self, now: float) -> None:
        """Forgets the full buckets at the front, so that what is kept stays small."""
        while self._full_at and self._full_at[first := next(iter(self._full_at))] <= now:
            del self._full_at[first]
