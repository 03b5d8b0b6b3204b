"""Logs refused clients, limited in rate so that strangers can't fill the disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from blocklistd.events import Event
from blocklistd.limits import REFUSALS_AT_ONCE, REFUSALS_PERIOD

log: Final = logging.getLogger(__name__)


class Refusals:
    """Logs the address, the identity and the reason of a refused client. Within REFUSALS_PERIOD seconds the same line
    comes once, and at most REFUSALS_AT_ONCE different lines; the next line counts those that were left out.

    `clock` answers the seconds of any monotonic clock.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._told: dict[tuple[str, str, str], float] = {}
        """When each line was last logged, the oldest first."""
        self._left_out = 0

    def tell(self, address: str, who: str, reason: str) -> None:
        """Logs a refusal, or counts it. `who` is a subscriber or the name of a key, "" where neither is known. The
        caller has removed control characters from what the client wrote."""
        now = self._clock()
        while self._told and now - self._told[oldest := next(iter(self._told))] >= REFUSALS_PERIOD:
            del self._told[oldest]
        what = address, who, reason
        if what in self._told or len(self._told) >= REFUSALS_AT_ONCE:
            self._left_out += 1
            return
        self._told[what] = now
        suppressed, self._left_out = self._left_out, 0
        Event.CLIENT_REFUSED.log(
            log,
            protocol=self._name,
            address=address,
            subscriber=who or None,
            reason=reason,
            suppressed=suppressed or None,
        )
