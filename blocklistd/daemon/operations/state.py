"""Operations on the daemon: `reload` and `start-above`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

from blocklistd.daemon.commands.command import Document
from blocklistd.errors import ConfigError, StoreError
from blocklistd.events import Event
from blocklistd.model import Act, ListId
from blocklistd.pipeline.policies import RejectedPolicy
from blocklistd.pipeline.resources import Resources
from blocklistd.store import audit
from blocklistd.store.freezing import frozen_lists
from blocklistd.store.numbers import believe_clock, start_above
from blocklistd.times import CheckedClock

log: Final = logging.getLogger(__name__)


class StateOperations:
    """The effects of `reload` and `start-above`. `resume` serves every list and zone of the store and ends a halt;
    `reload` reloads and returns the changed keys, `rejected` the configured policies that are not in force."""

    def __init__(
        self,
        resources: Resources,
        clock: CheckedClock,
        resume: Callable[[], Awaitable[None]],
        reload: Callable[[Act], Awaitable[Sequence[tuple[str, str]]]],
        rejected: Callable[[Connection], Mapping[ListId, RejectedPolicy]],
    ) -> None:
        self._resources = resources
        self._clock = clock
        self._resume = resume
        self._reload = reload
        self._rejected = rejected

    async def reload(self, act: Act) -> Document:
        """Reloads, and returns the changes or every error of the configuration. Raises StoreError if a file can't be
        read, or if the daemon is halted.
        """
        try:
            changed = await self._reload(act)
        except ConfigError as error:
            return {"errors": [problem.document() for problem in error.problems], "changed": []}
        except OSError as error:
            raise StoreError(
                f"the reload was refused, the running configuration stays: {error.filename}: {error.strerror}: correct "
                f"this, then reload again"
            ) from None
        detail = {"changed": [key for key, _ in changed]}
        now = self._resources.clock()
        try:
            await self._resources.database.writing(
                lambda connection: audit.append(connection, act, "configuration", now=now, detail=detail)
            )
        except StoreError as error:
            Event.RELOAD_NOT_AUDITED.log(log, reason=error)
        frozen = await self._resources.database.reading(frozen_lists)
        rejected = await self._resources.database.reading(self._rejected)
        return {
            "errors": [],
            "changed": [{"key": key, "change": change} for key, change in changed],
            "frozen": [found.sentence(name) for name, found in frozen.items()],
            "rejected": [found.sentence for found in rejected.values()],
        }

    async def start_above(self, number: int, act: Act) -> Document:
        """Begins a new session with all numbers above `number`, ends a halt, and accepts the clock as correct: the
        caller has checked it. Raises RefusedError for a number that is too low or too high.
        """
        self._clock.believe()
        database, now = self._resources.database, self._resources.clock()
        highest_numbers = self._resources.high_water.highest_numbers
        kept = await asyncio.to_thread(database.head_file.read)

        def begin(connection: Connection) -> None:
            start_above(connection, number, highest_numbers.highest, now, act.user, highest_numbers.zones.values())
            believe_clock(connection)
            audit.append(connection, act, str(number), now=now, detail=audit.record_loss(connection, kept))

        halted, database.halted = database.halted, None
        try:
            await database.writing(begin)
        except BaseException:
            database.halted = halted
            raise
        await self._resume()
        return {"above": number}
