"""What a command does with all of the state: begins it anew above a number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import Connection

from blocklistd.daemon.commands.command import Document
from blocklistd.model import Act
from blocklistd.pipeline.resources import Resources
from blocklistd.store import audit
from blocklistd.store.numbers import start_above
from blocklistd.times import CheckedClock


class StateOperations:
    """`resume` serves what the store has, as a start does."""

    def __init__(self, resources: Resources, clock: CheckedClock, resume: Callable[[], Awaitable[None]]) -> None:
        self._resources = resources
        self._clock = clock
        self._resume = resume

    async def start_above(self, number: int, act: Act) -> Document:
        """Whoever begins anew has looked at the clock as well. Raises RefusedError for a number that is too low or too
        high."""
        self._clock.believe()
        database, now = self._resources.database, self._resources.clock()
        marks = self._resources.high_water.marks
        kept = await asyncio.to_thread(database.head_file.read)

        def begin(connection: Connection) -> None:
            start_above(connection, number, marks.highest, now, act.user, marks.zones.values())
            audit.append(connection, act, str(number), now=now, detail=audit.leave(connection, kept))

        halted, database.halted = database.halted, None
        try:
            await database.writing(begin)
        except BaseException:
            database.halted = halted
            raise
        await self._resume()
        return {"above": number}
