"""The facts that the dashboard shows. None is an entry, and none is a text that a person wrote.

Times are aware datetimes, ages and lags seconds. None: unknown, or none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

from blocklistd.dashboard.forecast import DiskForecast

DAYS: Final = 30
"""The days of plots and trends, the present one included."""
ALL_LISTS: Final = ""
"""Stands for all lists together."""


def days_until(today: date) -> list[date]:
    """The days of the plots, the oldest first."""
    return [today - timedelta(days=before) for before in range(DAYS - 1, -1, -1)]


@dataclass(frozen=True, slots=True)
class ListFacts:
    """A list. `published`: since when its live version is live; `added`, `removed`: of that version. `withheld`:
    entries that rules keep out of it. `held`: candidates that wait."""

    id: str
    version: int
    entries: int
    published: datetime | None
    expires: datetime | None
    added: int = 0
    removed: int = 0
    withheld: int = 0
    held: int = 0
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A source. `age`: of its newest list; `max_age`: from when on that is overdue. `next_in`: until its next pull."""

    id: str
    outcome: str | None
    age: float | None
    max_age: float
    next_in: float | None
    overdue: bool
    frozen: bool
    quarantine: bool
    proved: bool
    entries: int | None

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong with it."""
        return not (self.overdue or self.frozen or self.outcome in (None, "failed"))


@dataclass(frozen=True, slots=True)
class HeldFacts:
    """A held candidate. `missing`: the approvals that it still needs."""

    id: str
    list: str
    created: datetime
    added: int
    removed: int
    guards: Sequence[str]
    missing: int


@dataclass(frozen=True, slots=True)
class GuardFacts:
    """A guard: how many candidates it holds now, and how many it began to hold on each of DAYS days."""

    name: str
    held: int
    days: Sequence[int]


@dataclass(frozen=True, slots=True)
class SubscriberFacts:
    """A subscriber and its nodes, secondaries included. `lag`: the longest, without silent nodes. `objective`: in how
    many seconds a version is to be live at each node. `seen`: when one of its nodes was last heard of."""

    id: str
    nodes: int
    late: int
    silent: int
    failed_probes: int
    lag: float | None
    objective: float | None
    seen: datetime | None

    @property
    def rank(self) -> int:
        """Late ones sort first, then silent ones, those with a failed probe, others, and those without nodes."""
        return 0 if self.late else 1 if self.silent else 2 if self.failed_probes else 3 if self.nodes else 4


@dataclass(frozen=True, slots=True)
class SecondaryFacts:
    """A secondary of a zone. `serial`: the one that it is known to hold."""

    zone: str
    subscriber: str
    address: str
    serial: int | None
    lag: float
    seen: datetime
    late: bool
    silent: bool

    @property
    def rank(self) -> int:
        """Late ones sort first, then silent ones."""
        return 0 if self.late else 1 if self.silent else 2


@dataclass(frozen=True, slots=True)
class ZoneFacts:
    """A zone. `behind`: it could not be brought to its list's version. `secondaries`: how many are known; `current`:
    how many of them hold the newest serial."""

    name: str
    list: str
    serial: int | None
    records: int
    behind: bool
    damaged: bool
    secondaries: int
    current: int


class DecisionFacts(NamedTuple):
    """A line of the audit, without its detail. `object`: an id."""

    time: datetime
    actor: str
    action: str
    object: str


class AlarmFacts(NamedTuple):
    """An active alarm: its kind, and the id that it is about ("": there is one alarm of this kind). `text`: what is
    wrong and what to do; None if a person wrote a part of it."""

    kind: str
    subject: str
    text: str | None


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The file system of the state_dir, in bytes."""

    free: int
    size: int
    forecast: DiskForecast


class DayFacts(NamedTuple):
    """A day of a list. `live`: entries at its end; None: before the figures begin."""

    live: int | None
    added: int
    removed: int


class ProtectFacts(NamedTuple):
    """The seconds from a version until nodes reported it live, of the reports of a day: the median, and the time within
    which nine of ten reported. `reports`: how many there are; 0: the times are 0."""

    median: float
    slow: float
    reports: int


NO_REPORTS: Final = ProtectFacts(0.0, 0.0, 0)


@dataclass(frozen=True, slots=True)
class Course:
    """What happened on each of DAYS days. `days`, `protect`: by list, and by ALL_LISTS."""

    today: date
    days: Mapping[str, Sequence[DayFacts]]
    protect: Mapping[str, Sequence[ProtectFacts]]
    guards: Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class DashboardFacts:
    """Everything that the page shows. `down`, `notes`: the program's own lines about what is not served, and about
    other faults that are no alarm. `missing`: the parts that could not be read."""

    now: datetime
    version: str
    host: str
    root_days: int | None
    course: Course
    lists: Sequence[ListFacts] = ()
    sources: Sequence[SourceFacts] = ()
    held: Sequence[HeldFacts] = ()
    guards: Sequence[GuardFacts] = ()
    subscribers: Sequence[SubscriberFacts] = ()
    zones: Sequence[ZoneFacts] = ()
    secondaries: Sequence[SecondaryFacts] = ()
    decisions: Sequence[DecisionFacts] = ()
    alarms: Sequence[AlarmFacts] = ()
    down: Sequence[str] = ()
    notes: Sequence[str] = ()
    disk: DiskFacts | None = None
    readable: bool = True
    withheld: Mapping[str, int] = field(default_factory=dict)


def sum_of_days(courses: Sequence[Sequence[DayFacts]]) -> list[DayFacts]:
    """The days of several lists together. `live` is None while no list has figures."""
    made = []
    for at_day in zip(*courses, strict=True):
        live = [one.live for one in at_day if one.live is not None]
        added, removed = sum(one.added for one in at_day), sum(one.removed for one in at_day)
        made.append(DayFacts(sum(live) if live else None, added, removed))
    return made
