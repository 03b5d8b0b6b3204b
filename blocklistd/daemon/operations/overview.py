"""What `status` tells."""

from __future__ import annotations

from sqlalchemy import Connection

from blocklistd.daemon.commands.command import Document
from blocklistd.daemon.operations.sources import SourceOperations
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
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._zones = zones
        self._sources = sources
        self._publisher = publisher
        self._clock = clock

    async def status(self) -> Document:
        alarm = self._publisher.trust.alarm(self._clock())

        def read(connection: Connection) -> Document:
            return {
                "lists": status.lists(self._catalogue),
                "zones": self._zones.status(connection),
                "sources": self._sources.described(connection),
                "candidates": status.held(connection),
                "subscribers": status.subscribers(connection, self._zones),
                "alarms": [alarm] if alarm else [],
            }

        return await self._database.reading(read)
