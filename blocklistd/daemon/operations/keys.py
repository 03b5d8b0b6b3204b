"""Operations on the keys."""

from __future__ import annotations

from datetime import timedelta

import orjson

from blocklistd.daemon.commands.command import Document
from blocklistd.signing.keys import Trust
from blocklistd.times import Clock, rfc3339


class KeyOperations:
    """The effect of `keys show`."""

    def __init__(self, trust: Trust, clock: Clock) -> None:
        self._trust = trust
        self._clock = clock

    async def root(self) -> Document:
        """The newest root.json (TUF 4.3)."""
        return orjson.loads(self._trust.roots[max(self._trust.roots)])

    async def show(self) -> Document:
        """Version, expiry and days left of the trusted root; id and scheme of the online key."""
        trust = self._trust
        return {
            "root": {
                "version": max(trust.roots),
                "expires": rfc3339(trust.expires),
                "days_left": (trust.expires - self._clock()) // timedelta(days=1),
            },
            "online": {"keyid": trust.online.public_key.keyid, "scheme": trust.online.public_key.scheme},
        }
