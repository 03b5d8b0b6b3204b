"""The statistics of lists: the table `daily_figures`, and the versions that are not counted in it yet.

A row has the counts of a list, a UTC day, a source (or all) and a category (or all); `live` is at the end of the day.
A day with versions has a row for each source and category with changes or live entries; a day without versions has
none. Rows are kept for ever.

    a version is made     `lists.release` writes it with its `sources`
    it is counted         `record`, in one transaction: its figures, and `lists.counted`
    it is dropped         only once the next version is counted, which is compared with it: `uncounted_files`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, insert, null, select, update

from blocklistd.change import ChangeKind
from blocklistd.compose.figures import ALL, Counts, Tally
from blocklistd.errors import StoreError
from blocklistd.limits import MAX_UNCOUNTED
from blocklistd.model import ListId, Sha256, SourceId, Version
from blocklistd.store.schema import daily_figures, list_sources, lists, source_ages, versions


@dataclass(frozen=True, slots=True)
class Countable:
    """A version as it is counted: its snapshot, the sealed entries of each source, the delta from the version before
    (None: not kept, or the first), and the kind of its change. Version 0: an empty list."""

    version: Version
    snapshot: Sha256 | None
    sources: dict[SourceId, Sha256]
    time: datetime | None = None
    delta: Sha256 | None = None
    kind: ChangeKind = ChangeKind.SOURCE

    @property
    def files(self) -> set[Sha256]:
        """The sealed files that counting it reads, without the bases of patches."""
        return {found for found in (self.snapshot, *self.sources.values()) if found is not None}


EMPTY = Countable(Version(0), None, {})


@dataclass(frozen=True, slots=True)
class CountedAges:
    """Since when a source asserts its entries. `file`: the exceptions; None: there are none. `since`: the time of all
    others; None: it is not known."""

    file: Sha256 | None
    since: datetime | None


@dataclass(frozen=True, slots=True)
class ToCount:
    """What is to be counted. `counted`: the newest counted version, None if counting has to begin at the newest
    version, whose earlier ones were made before there were statistics. `pending`: later versions, oldest first.
    `categories`: those that the list has, or had. `ages`, `ages_since`: of the counted version. `first`: the time of
    the list's first version.
    `asserted_since`: by source, of the counted version; None if the list's commits keep it (a list with a lifetime)."""

    counted: Countable | None
    pending: list[Countable]
    categories: dict[str, int]
    ages: Sha256 | None = None
    ages_since: datetime | None = None
    first: datetime | None = None
    asserted_since: dict[SourceId, CountedAges] | None = None


def to_count(connection: Connection, list_id: ListId) -> ToCount:
    """The versions of a list that are not counted yet."""
    row = connection.execute(select(lists).where(lists.c.id == list_id)).one()
    here = versions.c.list == list_id
    rows = connection.execute(
        select(versions).where(here, versions.c.version >= (row.counted or 0)).order_by(versions.c.version)
    ).all()
    known = row.categories or {}
    first = connection.execute(select(func.min(versions.c.time)).where(here)).scalar()
    accepted = connection.execute(select(list_sources).where(list_sources.c.list == list_id)).all()
    with_lifetime = any(found.ages_since is not None for found in accepted)
    asserted = None if with_lifetime else asserted_since(connection, list_id)
    ages = row.ages, row.ages_since, first, asserted
    if not rows:
        return ToCount(None, [], known)
    if row.counted is not None and rows[0].version == row.counted and rows[0].sources is not None:
        return ToCount(_countable(rows[0]), list(map(_countable, rows[1:])), known, *ages)
    if row.counted is None and rows[0].sources is not None:
        return ToCount(EMPTY, list(map(_countable, rows)), known, *ages)
    newest = rows[-1]
    sources = newest.sources or {found.source: found.accepted for found in accepted}
    return ToCount(None, [_countable(newest, sources)], known, first=first, asserted_since=asserted)


def counted_assertions(connection: Connection, list_id: ListId) -> dict[SourceId, Sha256]:
    """The sealed entries of each source of the newest counted version."""
    counted = select(lists.c.counted).where(lists.c.id == list_id).scalar_subquery()
    here = versions.c.list == list_id, versions.c.version == counted
    return connection.execute(select(versions.c.sources).where(*here)).scalar() or {}


def asserted_since(connection: Connection, list_id: ListId) -> dict[SourceId, CountedAges]:
    """Since when each source asserts its entries of the newest counted version; empty for a list with a lifetime."""
    rows = connection.execute(select(source_ages).where(source_ages.c.list == list_id))
    return {row.source: CountedAges(row.ages, row.since) for row in rows}


def _countable(row: Row[Any], sources: dict[SourceId, Sha256] | None = None) -> Countable:
    found = sources if sources is not None else row.sources or {}
    return Countable(row.version, row.sha256, found, row.time, row.delta, ChangeKind(row.kind))


def uncounted_files(connection: Connection, list_id: ListId) -> set[Sha256]:
    """The files of the versions that are not counted yet, and of the newest counted one; at most MAX_UNCOUNTED."""
    here = versions.c.list == list_id, versions.c.sources.is_not(None)
    rows = connection.execute(select(versions).where(*here).order_by(versions.c.version.desc()).limit(MAX_UNCOUNTED))
    return {digest for row in rows if row.sources is not None for digest in _countable(row).files}


def record(
    connection: Connection,
    list_id: ListId,
    work: ToCount,
    counted: Countable,
    tally: Tally,
    categories: set[str],
    *,
    day: str,
    ages: Sha256 | None,
    ages_since: datetime,
    asserted_since: Mapping[SourceId, CountedAges],
) -> None:
    """Records the figures of a version, and that it is counted. `work`: from `to_count`; where counting begins, the
    tally's `live` are all entries. `categories`: those of the list. `ages`, `ages_since`, `asserted_since`: of this
    version.

    Raises StoreError if another call has counted a version meanwhile.
    """
    before = work.counted.version if work.counted else None
    now = connection.execute(select(lists.c.counted).where(lists.c.id == list_id)).scalar_one()
    if (now or 0) != (before or 0) and before is not None:
        raise StoreError(f"list {list_id}: version {now} was counted meanwhile")
    here = daily_figures.c.list == list_id
    newest = connection.execute(select(func.max(daily_figures.c.day)).where(here)).scalar()
    day = max(day, newest or day)  # the clock was set back
    known: Tally = {}
    if newest is not None:
        for row in connection.execute(select(daily_figures).where(here, daily_figures.c.day == newest)):
            known[row.source, row.category] = _counts(row) if newest == day else Counts(live=row.live)
            if before is None:
                known[row.source, row.category].live = 0
    with_sums = dict(tally)
    for (source, _), counts in tally.items():
        with_sums[source, ALL] = _sum(with_sums.get((source, ALL), Counts()), counts)
    for name, counts in with_sums.items():
        known[name] = _sum(known.get(name, Counts()), counts)
    connection.execute(daily_figures.delete().where(here, daily_figures.c.day == day))
    rows = [
        _row(list_id, day, *name, counts)
        for name, counts in sorted(known.items())
        if name == (ALL, ALL) or counts != Counts()
    ]
    if not any(row["source"] == row["category"] == ALL for row in rows):
        rows.append(_row(list_id, day, ALL, ALL, Counts()))
    connection.execute(insert(daily_figures), rows)
    live = {name: known[ALL, name].live if (ALL, name) in known else 0 for name in sorted(categories)}
    values = {"counted": counted.version, "categories": live, "ages": ages, "ages_since": ages_since}
    connection.execute(update(lists).where(lists.c.id == list_id).values(values))
    connection.execute(source_ages.delete().where(source_ages.c.list == list_id))
    rows = [
        {"list": list_id, "source": source, "ages": one.file, "since": one.since}
        for source, one in asserted_since.items()
    ]
    if rows:
        connection.execute(insert(source_ages), rows)
    earlier = versions.c.list == list_id, versions.c.version < counted.version
    connection.execute(update(versions).where(*earlier, versions.c.sources.is_not(None)).values(sources=null()))
    this = versions.c.list == list_id, versions.c.version == counted.version
    connection.execute(update(versions).where(*this).values(sources=counted.sources))


def _counts(row: Row[Any]) -> Counts:
    lives = Counter({int(days): number for days, number in row.lives.items()})
    return Counts(row.added, row.removed, row.live, row.expired, row.corrected, lives)


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(
        one.added + other.added,
        one.removed + other.removed,
        one.live + other.live,
        one.expired + other.expired,
        one.corrected + other.corrected,
        one.lives + other.lives,
    )


def _row(list_id: ListId, day: str, source: str, category: str, counts: Counts) -> dict[str, Any]:
    return {
        "list": list_id,
        "day": day,
        "source": source,
        "category": category,
        "added": counts.added,
        "removed": counts.removed,
        "live": counts.live,
        "expired": counts.expired,
        "corrected": counts.corrected,
        "lives": {str(days): number for days, number in sorted(counts.lives.items())},
    }


# -- reports -------------------------------------------------------------------------------------------------------


def first_day(connection: Connection, list_id: ListId) -> str | None:
    """The first day of a list's figures; None if there are none."""
    first = select(func.min(daily_figures.c.day)).where(daily_figures.c.list == list_id)
    return connection.execute(first).scalar()


def figures_of_period(connection: Connection, list_id: ListId, start: str, end: str) -> Tally:
    """The figures of all days from `start` to `end` together, by source and category. `live` is at the end."""
    here = daily_figures.c.list == list_id, daily_figures.c.day <= end
    last = connection.execute(select(func.max(daily_figures.c.day)).where(*here)).scalar()
    found: Tally = {}
    for row in connection.execute(select(daily_figures).where(*here, daily_figures.c.day >= start)):
        name = row.source, row.category
        found[name] = _sum(found.get(name, Counts()), _counts(row))
    for counts in found.values():
        counts.live = 0
    for row in connection.execute(select(daily_figures).where(*here, daily_figures.c.day == last)):
        found.setdefault((row.source, row.category), Counts()).live = row.live
    return found


class DayFigures(NamedTuple):
    """Counts of a day, of all sources and categories. `live`: at its end."""

    day: str
    added: int
    removed: int
    live: int


def days_of_period(connection: Connection, list_id: ListId, start: str, end: str) -> list[DayFigures]:
    """The days with versions, oldest first. The first item is the newest such day before `start`, if there is one."""
    columns = daily_figures.c.day, daily_figures.c.added, daily_figures.c.removed, daily_figures.c.live
    here = daily_figures.c.list == list_id, daily_figures.c.source == ALL, daily_figures.c.category == ALL
    before = select(*columns).where(*here, daily_figures.c.day < start).order_by(daily_figures.c.day.desc()).limit(1)
    within = daily_figures.c.day >= start, daily_figures.c.day <= end
    inside = select(*columns).where(*here, *within).order_by(daily_figures.c.day)
    rows = [*connection.execute(before), *connection.execute(inside)]
    return [DayFigures(row.day, row.added, row.removed, row.live) for row in rows]


def days_of_lists(connection: Connection, start: str, end: str) -> dict[ListId, list[DayFigures]]:
    """`days_of_period` of every list that has figures."""
    names = connection.execute(select(lists.c.id).where(lists.c.counted.is_not(None))).scalars().all()
    return {ListId(name): days_of_period(connection, ListId(name), start, end) for name in names}
