"""Operations on sources."""

from __future__ import annotations

from collections.abc import Callable, Collection
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
from blocklistd.store.distrust import distrusted_keys, documents
from blocklistd.store.pulls import source_state
from blocklistd.times import Clock


def require_source(source: SourceId, configured: Collection[SourceId]) -> None:
    """Raises RefusedError for a source that is not one of the configured ones."""
    if source not in configured:
        raise RefusedError(f"there is no such source: expected one of: {', '.join(configured) or 'none'}")


class SourceOperations:
    """The effects of `source list`, `show` and `pull`. `config` returns the running configuration."""

    def __init__(
        self,
        config: Callable[[], Config],
        database: Database,
        pipeline: Pipeline,
        clock: Clock,
        due: Callable[[str], datetime | None],
    ) -> None:
        """`due` returns when the scheduler next runs the work of a name (Scheduler.next_run)."""
        self._config = config
        self._database = database
        self._pipeline = pipeline
        self._clock = clock
        self._due = due

    def described(self, connection: Connection) -> dict[SourceId, dict[str, Any]]:
        """Every source of the configuration, as in the document of `status`."""
        return {name: self._described(connection, name) for name in self._config().sources}

    def _described(self, connection: Connection, source: SourceId) -> dict[str, Any]:
        found = self._config().sources[source]
        state = source_state(connection, source)
        distrusted = {"distrusted": documents(distrusted_keys(connection, source))}
        return status.source(state, found, self._clock(), self._due(f"pull {source}")) | distrusted

    async def list(self) -> Document:
        """Every source with its last pull."""
        return await self._database.reading(self.described)

    async def show(self, source: SourceId) -> Document:
        """One source, with the withheld entries of its lists and the history of its pulls."""
        require_source(source, self._config().sources)

        def show(connection: Connection) -> dict[str, Any]:
            described = self._described(connection, source)
            config = self._config()
            names = {name for name, found in config.lists.items() if source in found.sources}
            withheld = status.withheld(connection, config, names)
            lists = {name: {"withheld": counts} for name, counts in withheld.items()}
            return {"id": source} | described | {"lists": lists, "history": status.history(connection, source)}

        return await self._database.reading(show)

    async def pull(self, source: SourceId, act: Act) -> Document:
        """Pulls a source and returns the outcome; waits for a pull of it that is under way first."""
        require_source(source, self._config().sources)
        self._database.require()
        pull = await self._pipeline.pull(source, act)
        return {
            "source": pull.source,
            "outcome": pull.outcome.value,
            "reason": pull.reason,
            "candidate": pull.candidate,
            "versions": pull.versions,
            "records": pull.newest_report.records if pull.newest_report else None,
            "entries": pull.newest_report.entries if pull.newest_report else None,
            "rejected": pull.newest_report.refused if pull.newest_report else {},
            "withheld": pull.withheld,
        }
