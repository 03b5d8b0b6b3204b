"""What `status` tells."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from blocklistd.daemon.commands.command import Document
from blocklistd.daemon.operations.sources import SourceOperations
from blocklistd.errors import StoreError
from blocklistd.ops import status
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.http.catalogue import Catalogue
from blocklistd.store.database import Database
from blocklistd.times import Clock


class Overview:
    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        zones: ZonePublisher,
        sources: SourceOperations,
        publisher: Publisher,
        clock: Clock,
        wrong: Callable[[], list[str]],
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._zones = zones
        self._sources = sources
        self._publisher = publisher
        self._clock = clock
        self._wrong = wrong

    async def status(self) -> Document:
        """What can't be read of it is empty, and an alarm: the rest is told all the same."""
        alarms = self._wrong()

        async def part(name: str, read: Callable[[Connection], Document], empty: Document) -> Document:
            try:
                return await self._database.reading(read)
            except StoreError as error:
                alarms.append(f"the {name} can't be read: {error}")
                return empty

        return {
            "lists": status.lists(self._catalogue),
            "zones": await part("zones", self._zones.status, {}),
            "sources": await part("sources", self._sources.described, {}),
            "candidates": await part("candidates", status.held, []),
            "subscribers": await part("subscribers", lambda c: status.subscribers(c, self._zones), {}),
            "alarms": alarms,
        }
