"""All numbers that the database has given, and how they begin anew above others after a loss of state.

`above` is kept in the table `meta`: every version, TUF version and serial that is made from then on is higher.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, func, select, update

from blocklistd.errors import RefusedError
from blocklistd.store.schema import audit, lists, meta, sources, tuf_metadata, versions, zone_serials

_ABOVE: Final = "above"
_LOST: Final = "lost"
_BELIEVED: Final = "clock believed behind line"
_HIGH_WATER: Final = "high-water"
FURTHEST: Final = 2**31 - 1
"""So far a zone's serial may rise at once, for secondaries to take it as higher (RFC 1982 3.2)."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """By list: `version` and those of its signed roles; by zone: its serial. `lost`: this database was begun beside the
    files of another."""

    lists: dict[str, dict[str, int]]
    zones: dict[str, int]
    above: int
    lost: bool

    @property
    def highest(self) -> int:
        """Of all of them; 0 where there is none."""
        of_lists = [number for each in self.lists.values() for number in each.values()]
        return max([*of_lists, *self.zones.values(), self.above], default=0)


def numbers(connection: Connection) -> Numbers:
    """The highest of each."""
    of_lists: dict[str, dict[str, int]] = {name: {} for name in connection.execute(select(lists.c.id)).scalars()}
    newest = select(versions.c.list, func.max(versions.c.version)).group_by(versions.c.list)
    for name, version in connection.execute(newest):
        of_lists[name]["version"] = version
    roles = select(tuf_metadata.c.list, tuf_metadata.c.role, func.max(tuf_metadata.c.version))
    for name, role, version in connection.execute(roles.group_by(tuf_metadata.c.list, tuf_metadata.c.role)):
        of_lists[name][role] = version
    serials = select(zone_serials.c.zone, func.max(zone_serials.c.serial)).group_by(zone_serials.c.zone)
    zones = {row[0]: row[1] for row in connection.execute(serials)}
    lost = connection.execute(select(meta.c.key).where(meta.c.key == _LOST)).first() is not None
    return Numbers(of_lists, zones, above(connection), lost)


def believe_clock(connection: Connection) -> None:
    """What was recorded before says nothing of the time any more: a person has found the clock right."""
    newest = connection.execute(select(func.max(audit.c.number))).scalar() or 0
    connection.execute(delete(meta).where(meta.c.key == _BELIEVED))
    connection.execute(meta.insert().values(key=_BELIEVED, value=str(newest)))


def newest_time(connection: Connection) -> datetime | None:
    """Of all that was recorded: versions, signatures, pulls, the audit. After `believe_clock`, of the audit since then,
    whose lines alone are known to be later."""
    believed = connection.execute(select(meta.c.value).where(meta.c.key == _BELIEVED)).scalar()
    if believed is not None:
        found: datetime | None = connection.execute(
            select(func.max(audit.c.time)).where(audit.c.number > int(believed))
        ).scalar()
        return found
    columns = (versions.c.time, tuf_metadata.c.signed, sources.c.last_pull, audit.c.time, zone_serials.c.time)
    times = [connection.execute(select(func.max(column))).scalar() for column in columns]
    return max((time for time in times if time is not None), default=None)


def above(connection: Connection) -> int:
    """Every number that is made is higher than this."""
    return int(connection.execute(select(meta.c.value).where(meta.c.key == _ABOVE)).scalar() or 0)


def mark_lost(connection: Connection) -> None:
    """Says of a database that was just begun that the files of another were there."""
    connection.execute(meta.insert().values(key=_LOST, value="1"))


def high_water_path(connection: Connection) -> str | None:
    """Where the high-water file was written last; None where it never was."""
    path: str | None = connection.execute(select(meta.c.value).where(meta.c.key == _HIGH_WATER)).scalar()
    return path


def note_high_water(connection: Connection, path: str) -> None:
    """The file has numbers: from now on a start without it is a loss."""
    if high_water_path(connection) != path:
        connection.execute(delete(meta).where(meta.c.key == _HIGH_WATER))
        connection.execute(meta.insert().values(key=_HIGH_WATER, value=path))


def start_above(
    connection: Connection, number: int, known: int, now: datetime, user: str, serials: Collection[int] = ()
) -> None:
    """Begins a new session of every list, with all numbers above this one. What is live stays so, under a new number.

    `known` is the highest number that was ever shown, `serials` are those of the zones, as far as they are known.
    Raises RefusedError where `number` is lower, or so high that secondaries would take a serial for an older one.
    """
    found = numbers(connection)
    least = max(known, found.highest)
    if number < least:
        raise RefusedError(f"expected N of at least {least}, the highest number that is known to have been shown")
    lowest = min([*found.zones.values(), *serials], default=0)
    if number + 1 - lowest > FURTHEST:
        raise RefusedError(
            f"expected N of at most {lowest + FURTHEST - 1}: secondaries would take serials for older ones"
        )
    connection.execute(delete(meta).where(meta.c.key.in_((_ABOVE, _LOST, _HIGH_WATER))))
    connection.execute(meta.insert().values(key=_ABOVE, value=str(number)))
    for name in connection.execute(select(lists.c.id)).scalars().all():
        connection.execute(update(lists).where(lists.c.id == name).values(session=str(uuid.uuid4())))
        query = select(versions).where(versions.c.list == name).order_by(versions.c.version.desc()).limit(1)
        live = connection.execute(query).first()
        if live is not None:
            # no delta leads here: a version below may have been another one elsewhere
            again = {"time": max(now, live.time), "released_by": user, "added": 0, "removed": 0, "changed": 0}
            values = live._asdict() | again | {"version": number + 1, "delta": None}
            connection.execute(versions.insert().values(values))
