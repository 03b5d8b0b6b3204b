"""Limits the requests of each subscriber: `feed.rate_limit` for each of its nodes, RATED_NODES times that for all.

A node is an address (IPv6: a /64), so that the many nodes of one subscriber do not use up each other's requests. What
is allowed fills up steadily, as in the generic cell rate algorithm: a node that was idle for the period of the limit
may send all requests of the limit at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from blocklistd.config import RateLimit
from blocklistd.limits import MAX_RATED, RATED_NODES
from blocklistd.model import SubscriberId

_ROUNDING = 1e-6  # seconds by which a sum of many parts of the period may differ from it


class RequestRates:
    """Counts requests. `limit` may be replaced; None counts nothing. `clock` returns monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit: RateLimit | None = None
        self._clock = clock
        self._unused_at: dict[tuple[SubscriberId, str], float] = {}
        """When a node, or a whole subscriber (the node ""), may again send all requests of the limit at once. One
        without a time may do so now."""

    def pause(self, subscriber: SubscriberId, node: str) -> float:
        """Counts a request and returns 0; or returns the seconds after which it is allowed, and does not count it."""
        limit = self.limit
        if limit is None:
            return 0.0
        now, cost = self._clock(), limit.seconds / limit.requests
        mine, everything = (subscriber, node), (subscriber, "")
        of_node = max(self._unused_at.get(mine, now), now) + cost
        of_all = max(self._unused_at.get(everything, now), now) + cost / RATED_NODES
        excess = max(of_node, of_all) - now - limit.seconds
        if excess > _ROUNDING:
            return excess
        if mine not in self._unused_at and len(self._unused_at) >= MAX_RATED:
            self._drop(now)
        self._unused_at[mine], self._unused_at[everything] = of_node, of_all
        return 0.0

    def _drop(self, now: float) -> None:
        """Drops the times that have passed. If that is not enough, all nodes may send as if they had been idle; the
        limits of the whole subscribers stay."""
        self._unused_at = {who: at for who, at in self._unused_at.items() if at > now}
        if len(self._unused_at) > MAX_RATED // 2:
            self._unused_at = {who: at for who, at in self._unused_at.items() if not who[1]}
