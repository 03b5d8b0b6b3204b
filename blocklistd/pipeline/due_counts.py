"""Keeps the number of entries that are due in each list with a `lifetime`, for `status`, the metrics and an alarm.

A count is computed again, in a job, when the list has another version or other terms, when a person has kept entries,
and when the next entry may be due. Counts are in memory only: a start computes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from blocklistd.compose.lifetimes import Terms
from blocklistd.model import ListId
from blocklistd.pipeline.due import DueEntries, Found
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.resources import Resources
from blocklistd.store.lists import list_state


@dataclass(frozen=True, slots=True)
class DueCount:
    """The entries of a list that are due: how many, and since when the first one is (None: there is none)."""

    total: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class _Counted:
    """A count. `origin`: what it was computed from. `until`: the time at which it is computed again in any case."""

    count: DueCount
    origin: tuple[object, ...]
    until: datetime | None


class DueCounts:
    """The counts of all lists with a lifetime. `refresh` brings them up to date; it is called each minute, after pulls
    and reloads, and after `entry keep`."""

    def __init__(self, resources: Resources, releaser: Releaser, due: DueEntries) -> None:
        self._resources = resources
        self._releaser = releaser
        self._due = due
        self._counted: dict[ListId, _Counted] = {}
        self._lock = asyncio.Lock()

    def counts(self) -> Mapping[ListId, DueCount]:
        """The newest counts; without lists that have no lifetime or were not counted yet."""
        return {name: found.count for name, found in self._counted.copy().items()}

    async def refresh(self) -> None:
        """Computes the counts again that may have changed. Raises BlocklistError where a job fails."""
        async with self._lock:
            plans = {name: plan for name, plan in self._releaser.lists.items() if Terms(plan.reverify, plan.max_life)}
            for removed in self._counted.keys() - plans.keys():
                del self._counted[removed]
            for name, plan in plans.items():
                origin, known = await self._origin(plan), self._counted.get(name)
                ended = known is not None and known.until is not None and known.until <= self._resources.clock()
                if known is None or ended or known.origin != origin:
                    self._counted[name] = _counted(await self._due.due(name), origin)

    async def _origin(self, plan: ListPlan) -> tuple[object, ...]:
        state = await self._resources.database.reading(lambda connection: list_state(connection, plan.id))
        return state.session, state.version, state.basis, plan.reverify, plan.max_life, self._due.kept.get(plan.id, 0)


def _counted(found: Found, origin: tuple[object, ...]) -> _Counted:
    since = datetime.fromisoformat(found.entries[0].due) if found.entries else None
    return _Counted(DueCount(found.total, since), origin, found.next)
