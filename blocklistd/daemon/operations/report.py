"""The report of a list's statistics for a period, compared with the same period of the year before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.compose.figures import ALL, Counts, Tally
from blocklistd.config import Config
from blocklistd.daemon.commands.command import Document
from blocklistd.errors import RefusedError
from blocklistd.model import ListId
from blocklistd.store import figures
from blocklistd.store.database import Database
from blocklistd.store.figures import DayFigures
from blocklistd.times import Clock

DAILY: Final = 31  # the most days of a period whose course is shown by day; longer ones are shown by week, or by month
WEEKLY: Final = 184


@dataclass(frozen=True, slots=True)
class Period:
    """The days from `start` to `end`, both included."""

    start: date
    end: date

    @property
    def days(self) -> int:
        """How many days it has."""
        return (self.end - self.start).days + 1

    @property
    def year_before(self) -> Period:
        """As many days, from the same date of the year before on; from 28 February, if it began on a 29th."""
        day = self.start.day if (self.start.month, self.start.day) != (2, 29) else 28
        start = self.start.replace(year=self.start.year - 1, day=day)
        return Period(start, start + timedelta(days=self.days - 1))

    @property
    def step(self) -> str:
        """The length of the steps of its course."""
        return "day" if self.days <= DAILY else "week" if self.days <= WEEKLY else "month"

    def steps(self) -> list[int]:
        """The days from `start` to the beginning of each step, and to the end of the last."""
        if self.step != "month":
            return [*range(0, self.days, 1 if self.step == "day" else 7), self.days]
        days = [self.start + timedelta(days=number) for number in range(self.days)]
        return [number for number, day in enumerate(days) if day.day == 1 or not number] + [self.days]


class ReportOperations:
    """The effect of `list report`."""

    def __init__(self, config: Callable[[], Config], database: Database, clock: Clock) -> None:
        self._config = config
        self._database = database
        self._clock = clock

    async def report(self, list_id: ListId, start: str, end: str) -> Document:
        """The figures of a list for the days from `start` to `end`. Raises RefusedError for a period without figures.

        `year_before` is None if there are no figures of the whole period a year before.
        """
        if list_id not in self._config().lists:
            names = ", ".join(self._config().lists) or "none"
            raise RefusedError(f"there is no such list: expected one of: {names}")
        period, today = Period(date.fromisoformat(start), date.fromisoformat(end)), self._clock().date()
        if period.start > period.end:
            raise RefusedError(f"--from {start} is after --to {end}: give the earlier date first")
        if period.end > today:
            raise RefusedError(f"--to {end} is in the future: give {today} (today in UTC), or an earlier date")
        return await self._database.reading(lambda connection: report(connection, list_id, period))


def report(connection: Connection, list_id: ListId, period: Period) -> Document:
    """The document of the report. Raises RefusedError if the figures begin later."""
    first = figures.first_day(connection, list_id)
    if first is None:
        raise RefusedError(f"list {list_id} has no figures yet: they begin with its next version")
    if period.start.isoformat() < first:
        raise RefusedError(f"list {list_id} has no figures before {first}: choose --from {first}, or a later day")
    before = period.year_before
    tally = _tally(connection, list_id, period)
    tally_before = _tally(connection, list_id, before) if before.start.isoformat() >= first else None
    made = _document(period, tally, tally_before) | {"list": list_id, "figures_since": first, "step": period.step}
    steps = _course(connection, list_id, period, period.steps())
    made["course"] = steps
    made["year_before"] = None
    if tally_before is not None:
        earlier = _course(connection, list_id, before, period.steps())
        made["year_before"] = _document(before, tally_before, None) | {"course": earlier}
    return made


def _tally(connection: Connection, list_id: ListId, period: Period) -> Tally:
    return figures.figures_of_period(connection, list_id, period.start.isoformat(), period.end.isoformat())


def _document(period: Period, tally: Tally, before: Tally | None) -> dict[str, Any]:
    def row(name: tuple[str, str]) -> dict[str, Any]:
        return _row(tally.get(name, Counts()), before.get(name, Counts()) if before is not None else None)

    names = sorted(tally.keys() | (before or {}).keys())
    sources = [source for source, category in names if category == ALL and source != ALL]
    return {
        "from": period.start.isoformat(),
        "to": period.end.isoformat(),
        "days": period.days,
        "total": row((ALL, ALL)),
        "categories": {name: row((ALL, name)) for source, name in names if source == ALL and name != ALL},
        "sources": {
            source: row((source, ALL))
            | {"categories": {name: row((source, name)) for of, name in names if of == source and name != ALL}}
            for source in sources
        },
    }


def _row(counts: Counts, before: Counts | None) -> dict[str, Any]:
    figures_of = {name: getattr(counts, name) for name in ("added", "removed", "expired", "corrected", "live")}
    found: dict[str, Any] = figures_of | {"median_life_days": median(counts.lives)}
    if before is not None:
        found["change_percent"] = {
            name: percent(figures_of[name], getattr(before, name)) for name in ("added", "removed", "live")
        }
    return found


def percent(now: int, before: int) -> float | None:
    """The change in percent, with one decimal; None if there were none before."""
    return round((now - before) * 100 / before, 1) if before else None


def median(lives: Counter[int]) -> float | None:
    """The median of the days in a histogram; None if it is empty."""
    total = lives.total()
    if not total:
        return None
    middle: list[int] = []
    for searched in ((total - 1) // 2, total // 2):
        seen = 0
        for days, number in sorted(lives.items()):
            seen += number
            if seen > searched:
                middle.append(days)
                break
    return sum(middle) / 2


def _course(connection: Connection, list_id: ListId, period: Period, steps: Sequence[int]) -> list[dict[str, Any]]:
    """The figures of each step of a period."""
    days = figures.days_of_period(connection, list_id, period.start.isoformat(), period.end.isoformat())
    made = []
    for begin, end in pairwise(steps):
        start, stop = period.start + timedelta(days=begin), period.start + timedelta(days=end - 1)
        inside = [day for day in days if start.isoformat() <= day.day <= stop.isoformat()]
        last: DayFigures | None = max((day for day in days if day.day <= stop.isoformat()), default=None)
        made.append(
            {
                "from": start.isoformat(),
                "to": stop.isoformat(),
                "added": sum(day.added for day in inside),
                "removed": sum(day.removed for day in inside),
                "live": last.live if last else None,
            }
        )
    return made
