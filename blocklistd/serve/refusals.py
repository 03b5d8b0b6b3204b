"""Logs refused clients, limited in rate so that clients that are not authenticated can't fill the disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from blocklistd.events import Event
from blocklistd.limits import REFUSALS_AT_ONCE, REFUSALS_PERIOD

log: Final = logging.getLogger(__name__)


class Refusals:
    """Logs the address, the identity and the reason of each refused client.

    Within REFUSALS_PERIOD seconds the same line is logged once, and at most REFUSALS_AT_ONCE different lines are, and
    in any case one of each reason: who causes many refusals does not hide those of another kind. The next line has the
    number of suppressed ones. `name` is the listener's, `clock` returns monotonic seconds.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._logged_at: dict[tuple[str, str, str], float] = {}
        """When each line was last logged, the oldest first."""
        self._suppressed = 0

    def log(self, address: str, client: str, reason: str) -> None:
        """Logs a refusal, or counts it as suppressed.

        `client` is a subscriber or the name of a key, "" if neither is known. The caller has removed control characters
        from all that the client has sent. `reason` is one of few texts.
        """
        now = self._clock()
        while self._logged_at and now - self._logged_at[oldest := next(iter(self._logged_at))] >= REFUSALS_PERIOD:
            del self._logged_at[oldest]
        line = address, client, reason
        is_full = len(self._logged_at) >= REFUSALS_AT_ONCE
        if line in self._logged_at or (is_full and any(reason == logged[2] for logged in self._logged_at)):
            self._suppressed += 1
            return
        self._logged_at[line] = now
        suppressed, self._suppressed = self._suppressed, 0
        Event.CLIENT_REFUSED.log(
            log,
            protocol=self._name,
            address=address,
            subscriber=client or None,
            reason=reason,
            suppressed=suppressed or None,
        )
