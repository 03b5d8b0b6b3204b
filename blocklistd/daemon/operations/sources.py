"""What commands do with sources."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from blocklistd.config import Config
from blocklistd.daemon.commands.command import Document
from blocklistd.errors import RefusedError
from blocklistd.model import Act, SourceId
from blocklistd.ops import status
from blocklistd.pipeline.pull import Pipeline
from blocklistd.store.database import Database
from blocklistd.store.pulls import source_state
from blocklistd.times import Clock


class SourceOperations:
    def __init__(
        self,
        config: Callable[[], Config],
        database: Database,
        pipeline: Pipeline,
        clock: Clock,
        due: Callable[[str], datetime | None],
    ) -> None:
        """`due` says when work of this name is done next (Scheduler.due)."""
        self._config = config
        self._database = database
        self._pipeline = pipeline
        self._clock = clock
        self._due = due

    def described(self, connection: Connection) -> dict[SourceId, dict[str, Any]]:
        """Every source of the configuration, as `status` tells of it."""
        return {name: self._described(connection, name) for name in self._config().sources}

    def _described(self, connection: Connection, source: SourceId) -> dict[str, Any]:
        found = self._config().sources[source]
        state = source_state(connection, source)
        return status.source(state, found, self._clock(), self._due(f"pull {source}"))

    async def list(self) -> Document:
        return await self._database.reading(self.described)

    async def show(self, source: SourceId) -> Document:
        self._known(source)

        def show(connection: Connection) -> dict[str, Any]:
            described = self._described(connection, source)
            config = self._config()
            names = {name for name, found in config.lists.items() if source in found.sources}
            left_out = status.withheld(connection, config, names)
            lists = {name: {"withheld": counts} for name, counts in left_out.items()}
            return {"id": source} | described | {"lists": lists, "history": status.history(connection, source)}

        return await self._database.reading(show)

    async def pull(self, source: SourceId, act: Act) -> Document:
        self._known(source)
        self._database.require()
        pull = await self._pipeline.pull(source, act)
        return {
            "source": pull.source,
            "outcome": pull.outcome.value,
            "reason": pull.reason,
            "candidate": pull.candidate,
            "versions": pull.versions,
            "records": pull.said.records if pull.said else None,
            "entries": pull.said.entries if pull.said else None,
            "rejected": pull.said.refused if pull.said else {},
            "withheld": pull.withheld,
        }

    def _known(self, source: SourceId) -> None:
        if source not in self._config().sources:
            names = ", ".join(self._config().sources) or "none"
            raise RefusedError(f"there is no such source: the configuration has {names}")
