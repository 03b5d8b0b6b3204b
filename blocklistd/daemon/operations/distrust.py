"""The operation of `source distrust`."""

from __future__ import annotations

from typing import Any

from blocklistd.daemon.commands.command import Document
from blocklistd.daemon.commands.moments import moment_before
from blocklistd.daemon.operations.free_text import FreeText
from blocklistd.model import Act, SourceId
from blocklistd.pipeline.distrust import Distrust
from blocklistd.store.database import Database
from blocklistd.times import Clock, rfc3339


class DistrustOperations:
    """The effect of `source distrust`."""

    def __init__(self, database: Database, distrust: Distrust, free_text: FreeText, clock: Clock) -> None:
        self._database = database
        self._distrust = distrust
        self._free_text = free_text
        self._clock = clock

    async def distrust(self, source: SourceId, key: str, since: str, why: str, act: Act) -> Document:
        """Distrusts a key of a source. `why` must contain no entry. `restored`: the body whose entries the source now
        offers, null if nothing was taken back out."""
        self._database.require()
        await self._free_text.check("--why", why)
        done = await self._distrust.distrust(source, key, moment_before(since, self._clock()), why, act)
        restored: dict[str, Any] | None = {"body": done.restored.body} if done.restored else None
        return {
            "source": source,
            "key": done.key,
            "since": rfc3339(done.since),
            "bodies": done.bodies,
            "restored": restored,
            "entries": done.entries,
            "lists": {
                name: {"outcome": found.outcome.value, "reason": found.reason, "candidate": found.candidate}
                for name, found in done.lists.items()
            },
        }
