"""The operation of `status`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection

from blocklistd.config import Config
from blocklistd.daemon.commands.command import Document
from blocklistd.daemon.operations.sources import SourceOperations
from blocklistd.daemon.operations.subscribers import SubscriberOperations
from blocklistd.errors import StoreError
from blocklistd.model import ListId
from blocklistd.ops import status
from blocklistd.pipeline.due_counts import DueCount
from blocklistd.pipeline.policies import RejectedPolicy
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.http.live_lists import LiveLists
from blocklistd.store import corrections
from blocklistd.store.database import Database
from blocklistd.store.freezing import frozen_lists


class Overview:
    """The effect of `status`. `wrong` returns the lines about faults; `config` returns the running configuration,
    `rejected` the configured policies that are not in force, `due` the numbers of entries that are due,
    `root` the version and the expiry of root.json, `exceptions` the local exceptions of a list."""

    def __init__(
        self,
        database: Database,
        live_lists: LiveLists,
        zones: ZonePublisher,
        sources: SourceOperations,
        subscribers: SubscriberOperations,
        wrong: Callable[[], list[str]],
        config: Callable[[], Config],
        rejected: Callable[[Connection], Mapping[ListId, RejectedPolicy]],
        due: Callable[[], Mapping[ListId, DueCount]],
        root: Callable[[], Document],
        exceptions: Callable[[ListId], Document],
    ) -> None:
        self._database = database
        self._live_lists = live_lists
        self._zones = zones
        self._sources = sources
        self._subscribers = subscribers
        self._wrong = wrong
        self._config = config
        self._rejected = rejected
        self._due = due
        self._root = root
        self._exceptions = exceptions

    def _withheld(self, connection: Connection) -> Document:
        config = self._config()
        return dict(status.withheld(connection, config, config.lists))

    async def status(self) -> Document:
        """The document of `status`. A section that can't be read is empty, with a line about it in `alarms`."""
        alarms = self._wrong()

        async def part(name: str, read: Callable[[Connection], Document], empty: Document) -> Document:
            try:
                return await self._database.reading(read)
            except StoreError as error:
                alarms.append(f"the {name} can't be read: {error}")
                return empty

        lists = status.lists(self._live_lists)
        withheld = await part("withheld entries", self._withheld, {})
        corrected = await part("corrections", lambda connection: dict(corrections.counts(connection)), {})
        frozen = await part("freezes", lambda connection: dict(frozen_lists(connection)), {})
        rejected = await part("policies", lambda connection: dict(self._rejected(connection)), {})
        for name, found in lists.items():
            found["policy_rejected"] = status.rejected_policy(rejected.get(name))
            found["frozen"] = status.freeze(frozen.get(name))
            found["due"] = status.due(self._due().get(ListId(name)))
            found["exceptions"] = self._exceptions(ListId(name))
            found["withheld"] = withheld.get(name, {})
            found["corrections"] = corrected.get(name, {})
        rules = status.releases(self._config())
        return {
            "lists": lists,
            "zones": await part("zones", self._zones.status, {}),
            "sources": await part("sources", self._sources.described, {}),
            "candidates": await part("candidates", lambda connection: status.held(connection, rules), []),
            "subscribers": await part("subscribers", self._subscribers.described, {}),
            "root": self._root(),
            "alarms": alarms,
        }
