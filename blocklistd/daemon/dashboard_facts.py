"""Collects the facts of the dashboard, from the database and from the memory of the daemon."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from blocklistd.dashboard.facts import (
    ALL_LISTS,
    DAYS,
    NO_REPORTS,
    Course,
    DayFacts,
    DecisionFacts,
    GuardFacts,
    HeldFacts,
    ListFacts,
    ProtectFacts,
    SecondaryFacts,
    SourceFacts,
    SubscriberFacts,
    ZoneFacts,
    days_until,
    sum_of_days,
)
from blocklistd.limits import (
    DASHBOARD_AUDIT,
    DASHBOARD_CANDIDATES,
    DASHBOARD_DECISIONS,
    DASHBOARD_REPORTS,
)
from blocklistd.model import ListId, SourceId
from blocklistd.ops import status
from blocklistd.pipeline.nodes import NodeCounts
from blocklistd.receipts import Copied, JudgedNode
from blocklistd.store import audit, candidates, figures, receipts
from blocklistd.store.figures import DayFigures
from blocklistd.store.freezing import frozen_lists
from blocklistd.store.lists import version_rows
from blocklistd.store.receipts import TimeToLive
from blocklistd.store.subscribers import load

if TYPE_CHECKING:
    from blocklistd.daemon.parts import Parts

NO_DECISIONS: Final = ("source pull",)
"""Commands that are in the audit and decide nothing."""
ProtectByList = Mapping[str, ProtectFacts]
"""The times of one day, by list and by ALL_LISTS."""


class CourseReader:
    """Reads what happened on the last days. What nodes reported before yesterday is read once."""

    def __init__(self) -> None:
        self._protect: dict[date, ProtectByList] = {}

    def read(self, connection: Connection, now: datetime) -> Course:
        """The course as of now. Calls must not overlap."""
        today = now.astimezone(UTC).date()
        days = days_until(today)
        begin, end = days[0].isoformat(), today.isoformat()
        found = figures.days_of_lists(connection, begin, end)
        by_list: dict[str, Sequence[DayFacts]] = {name: filled(rows, days) for name, rows in found.items()}
        if by_list:
            by_list[ALL_LISTS] = sum_of_days(list(by_list.values()))
        return Course(today, by_list, self._times(connection, days), self._guards(connection, days))

    def _times(self, connection: Connection, days: Sequence[date]) -> dict[str, Sequence[ProtectFacts]]:
        kept = {day: one for day, one in self._protect.items() if days[0] <= day < days[-1] - timedelta(days=1)}
        for day in days:
            if day not in kept:
                start = datetime.combine(day, time(), UTC)
                end = start + timedelta(days=1)
                kept[day] = times_of(receipts.times_to_live(connection, start, end, DASHBOARD_REPORTS))
        self._protect = kept
        names = {name for one in kept.values() for name in one}
        return {name: [kept[day].get(name, NO_REPORTS) for day in days] for name in names}

    def _guards(self, connection: Connection, days: Sequence[date]) -> dict[str, Sequence[int]]:
        begin = datetime.combine(days[0], time(), UTC)
        found: dict[str, Counter[date]] = {}
        for one in candidates.tripped(connection, begin, DASHBOARD_CANDIDATES):
            for guard in set(one.guards):
                found.setdefault(guard, Counter())[one.created.astimezone(UTC).date()] += 1
        return {guard: [counts[day] for day in days] for guard, counts in found.items()}


def filled(rows: Sequence[DayFigures], days: Sequence[date]) -> list[DayFacts]:
    """Each of the days. A day without a version has the live entries of the day before."""
    by_day = {row.day: row for row in rows}
    live = rows[0].live if rows and rows[0].day < days[0].isoformat() else None
    made = []
    for day in days:
        row = by_day.get(day.isoformat())
        live = row.live if row is not None else live
        made.append(DayFacts(live, row.added if row is not None else 0, row.removed if row is not None else 0))
    return made


def times_of(reports: Iterable[TimeToLive]) -> dict[str, ProtectFacts]:
    """The median and the ninth tenth of reports, by list and by ALL_LISTS."""
    seconds: dict[str, list[float]] = {}
    for one in reports:
        seconds.setdefault(one.list, []).append(one.seconds)
        seconds.setdefault(ALL_LISTS, []).append(one.seconds)
    return {
        name: ProtectFacts(median(found), sorted(found)[math.ceil(0.9 * len(found)) - 1], len(found))
        for name, found in seconds.items()
    }


def read_present(parts: Parts, connection: Connection, course: Course) -> dict[str, Any]:
    """The fields of DashboardFacts that come from the database."""
    config = parts.config
    withheld = status.withheld(connection, config, config.lists)
    held = status.held(connection, status.releases(config))
    judged = parts.nodes.judged(connection)
    return {
        "lists": lists_of(parts, connection, held, withheld),
        "sources": _sources(parts, connection),
        "held": [_held(one) for one in held],
        "guards": _guards(held, course),
        "subscribers": _subscribers(parts, connection, judged),
        "zones": _zones(parts, connection, judged),
        "secondaries": [_secondary(one) for nodes in judged.values() for one in nodes if _is_secondary(one)],
        "decisions": [
            DecisionFacts(line.time, line.actor, line.action, line.object)
            for line in audit.newest_of_people(connection, DASHBOARD_DECISIONS, DASHBOARD_AUDIT, NO_DECISIONS)
        ],
        "withheld": dict(sum((Counter(found) for found in withheld.values()), Counter())),
    }


def lists_of(
    parts: Parts,
    connection: Connection | None = None,
    held: Sequence[Mapping[str, Any]] = (),
    withheld: Mapping[ListId, Mapping[str, int]] | None = None,
) -> list[ListFacts]:
    """The served lists. Without a connection they have only the facts that are in memory."""
    counts = Counter(one["list"] for one in held)
    frozen = frozen_lists(connection) if connection is not None else {}
    made = []
    for view in parts.live_lists:
        live = next(iter(version_rows(connection, view.id, 1)), None) if connection is not None and view.live else None
        is_live = live is not None and live.version == view.version
        made.append(
            ListFacts(
                id=view.id,
                version=view.version,
                entries=view.live.entries if view.live else 0,
                published=view.live.time if view.live else None,
                expires=view.expires,
                added=live.added if live is not None and is_live else 0,
                removed=live.removed if live is not None and is_live else 0,
                withheld=sum((withheld or {}).get(view.id, {}).values()),
                held=counts[view.id],
                frozen=view.id in frozen,
            )
        )
    return made


def _sources(parts: Parts, connection: Connection) -> list[SourceFacts]:
    return [
        SourceFacts(
            id=name,
            outcome=one["outcome"],
            age=one["age"],
            max_age=parts.config.sources[name].max_age.total_seconds(),
            next_in=one["next_in"],
            overdue=one["overdue"],
            frozen=one["frozen"],
            quarantine=one["quarantine"],
            proved=_is_proved(parts, name),
            entries=one["entries"],
        )
        for name, one in parts.operations.sources.described(connection).items()
        if name in parts.config.sources
    ]


def _is_proved(parts: Parts, name: SourceId) -> bool:
    plan = parts.releases.sources.get(name)
    return plan is None or plan.proves_origin


def _held(one: Mapping[str, Any]) -> HeldFacts:
    guards = [reason["guard"] for reason in one["reasons"]]
    created = datetime.fromisoformat(one["created"])
    return HeldFacts(one["id"], one["list"], created, one["added"], one["removed"], guards, one["missing"])


def _guards(held: Sequence[Mapping[str, Any]], course: Course) -> list[GuardFacts]:
    now = Counter(guard for one in held for guard in {reason["guard"] for reason in one["reasons"]})
    names = sorted(now.keys() | course.guards.keys(), key=lambda name: (-now[name], name))
    return [GuardFacts(name, now[name], course.guards.get(name, [0] * DAYS)) for name in names]


def _subscribers(
    parts: Parts, connection: Connection, judged: Mapping[str, Sequence[JudgedNode]]
) -> list[SubscriberFacts]:
    made = []
    for who in load(connection).values():
        if who.revoked is not None:
            continue
        nodes = judged.get(who.id, ())
        counts = NodeCounts.of(nodes)
        heard = [one.node.seen for one in nodes]
        requests = parts.access.seen.get(who.id)
        made.append(
            SubscriberFacts(
                id=who.id,
                nodes=counts.nodes,
                late=counts.late,
                silent=counts.silent,
                failed_probes=counts.failed_probes,
                lag=counts.lag if nodes else None,
                objective=who.objective.total_seconds() if who.objective is not None else None,
                seen=max([*heard, *([requests] if requests is not None else [])], default=None),
            )
        )
    return made


def _zones(parts: Parts, connection: Connection, judged: Mapping[str, Sequence[JudgedNode]]) -> list[ZoneFacts]:
    nodes = [one for found in judged.values() for one in found if _is_secondary(one)]
    known = Counter(one.place.subject for one in nodes)
    current = Counter(one.place.subject for one in nodes if not one.lag)
    made = []
    for name, one in parts.zones.status(connection).items():
        served = one.get("shards", [name])  # a zone with shards is in the document together with these
        made.append(
            ZoneFacts(
                name=name,
                list=one["list"],
                serial=one["serial"],
                records=one["records"],
                behind=any(shard in parts.zones.behind for shard in served),
                damaged=one["damaged"] is not None,
                secondaries=sum(known[shard] for shard in served),
                current=sum(current[shard] for shard in served),
            )
        )
    return made


def _is_secondary(one: JudgedNode) -> bool:
    return one.place.copied is Copied.ZONE


def _secondary(one: JudgedNode) -> SecondaryFacts:
    serial = one.node.version
    return SecondaryFacts(
        zone=one.place.subject,
        subscriber=one.place.subscriber,
        address=one.place.node,
        serial=serial % 2**32 if serial is not None else None,
        lag=one.lag,
        seen=one.node.seen,
        late=one.late,
        silent=one.silent,
    )
