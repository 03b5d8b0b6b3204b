"""Operations on the audit (store/audit.py)."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from sqlalchemy import Connection

from blocklistd.daemon.commands.command import Document
from blocklistd.limits import MAX_AUDIT_LINES
from blocklistd.store import audit
from blocklistd.store.database import Database
from blocklistd.store.schema import time_text


class AuditOperations:
    """The effects of `audit` and `audit verify`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def show(self, last: int, before: int | None) -> Document:
        """The newest `last` lines before line `before`, oldest first; each with all fields that its hash covers."""
        count = min(last, MAX_AUDIT_LINES)
        lines = await self._database.reading(lambda connection: audit.newest(connection, count, before))
        return [asdict(line) | {"time": time_text(line.time)} for line in lines]

    async def verify(self) -> Document:
        """The number of lines, the hash of the last one, and `wrong`: the first fault of the chain, None if intact."""
        kept = await asyncio.to_thread(
            self._database.head_file.read
        )  # read before the database: it is never ahead of it

        def check(connection: Connection) -> Document:
            head = audit.head(connection)
            return {"lines": head.number, "hash": head.hash, "wrong": audit.check(connection, kept)}

        return await self._database.reading(check)
