"""What commands tell of everything: the status, the keys, the audit."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from sqlalchemy import Connection

from blocklistd.daemon.commands.command import Document
from blocklistd.daemon.operations.sources import SourceOperations
from blocklistd.limits import MAX_AUDIT_LINES
from blocklistd.ops import status
from blocklistd.pipeline.publish import Clock, Publisher
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.http.catalogue import Catalogue
from blocklistd.store import audit
from blocklistd.store.database import Database
from blocklistd.store.schema import written
from blocklistd.times import rfc3339


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

    async def keys(self) -> Document:
        trust = self._publisher.trust
        return {
            "root": {
                "version": max(trust.roots),
                "expires": rfc3339(trust.expires),
                "days_left": (trust.expires - self._clock()) // timedelta(days=1),
            },
            "online": {"keyid": trust.online.public_key.keyid, "scheme": trust.online.public_key.scheme},
        }

    async def audit(self, last: int, before: int | None) -> Document:
        """The newest lines, oldest first; each with all that its hash is made of."""
        count = min(last, MAX_AUDIT_LINES)
        lines = await self._database.reading(lambda connection: audit.newest(connection, count, before))
        return [
            {
                "number": line.number,
                "time": written(line.time),
                "actor": line.actor,
                "uid": line.uid,
                "action": line.action,
                "object": line.object,
                "detail": line.detail,
                "hash": line.hash,
            }
            for line in lines
        ]

    async def verify_audit(self) -> Document:
        """What is wrong with the audit, if anything is."""
        kept = await asyncio.to_thread(self._database.head_file.read)  # first: it is never ahead of the database

        def verify(connection: Connection) -> Document:
            head = audit.head(connection)
            return {"lines": head.number, "hash": head.hash, "wrong": audit.check(connection, kept)}

        return await self._database.reading(verify)
