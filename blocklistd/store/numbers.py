"""The numbers in the database: versions of lists, versions of signed roles, and serials of zones.

A number stands for one content for ever. After a loss of data `start_above` begins a new session of every list, with
all numbers above one that was never used. Keys in the table `meta`:

    above                       new numbers are higher than this one
    lost                        the database is new, and was made beside sealed files of a lost one
    high-water                  path of the high-water file that was last written
    clock believed behind line  number of the newest audit line when an operator confirmed the clock
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, func, select, update

from blocklistd.errors import RefusedError
from blocklistd.store.schema import audit, lists, meta, sources, versions
from blocklistd.store.schema_served import catalogs, tuf_metadata, zone_serials

_ABOVE: Final = "above"
_LOST: Final = "lost"
_BELIEVED: Final = "clock believed behind line"
_HIGH_WATER: Final = "high-water"
MAX_SERIAL_STEP: Final = 2**31 - 1
"""The most by which a serial may rise in one step: a larger step is a step back for secondaries (RFC 1982, 3.2)."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The highest numbers. `lists`: for each list its newest `version` and the version of each signed role. `zones`:
    each zone's newest serial, and the highest serial of the catalogs of a name. `above`, `lost`: as in the module's
    table."""

    lists: dict[str, dict[str, int]]
    zones: dict[str, int]
    above: int
    lost: bool

    @property
    def highest(self) -> int:
        """The highest of all numbers; 0 where there is none."""
        of_lists = [number for each in self.lists.values() for number in each.values()]
        return max([*of_lists, *self.zones.values(), self.above], default=0)


def numbers(connection: Connection) -> Numbers:
    """Reads the highest number of each list, role and zone."""
    of_lists: dict[str, dict[str, int]] = {name: {} for name in connection.execute(select(lists.c.id)).scalars()}
    newest = select(versions.c.list, func.max(versions.c.version)).group_by(versions.c.list)
    for name, version in connection.execute(newest):
        of_lists[name]["version"] = version
    roles = select(tuf_metadata.c.list, tuf_metadata.c.role, func.max(tuf_metadata.c.version))
    for name, role, version in connection.execute(roles.group_by(tuf_metadata.c.list, tuf_metadata.c.role)):
        of_lists[name][role] = version
    serials = select(zone_serials.c.zone, func.max(zone_serials.c.serial)).group_by(zone_serials.c.zone)
    of_catalogs = select(catalogs.c.zone, func.max(catalogs.c.serial)).group_by(catalogs.c.zone)
    zones = {row[0]: row[1] for query in (of_catalogs, serials) for row in connection.execute(query)}
    lost = connection.execute(select(meta.c.key).where(meta.c.key == _LOST)).first() is not None
    return Numbers(of_lists, zones, start_above_number(connection), lost)


def believe_clock(connection: Connection) -> None:
    """Records that an operator confirmed the clock: `newest_time` ignores all times recorded before."""
    newest = connection.execute(select(func.max(audit.c.number))).scalar() or 0
    connection.execute(delete(meta).where(meta.c.key == _BELIEVED))
    connection.execute(meta.insert().values(key=_BELIEVED, value=str(newest)))


def newest_time(connection: Connection) -> datetime | None:
    """The newest time in the database, of versions, signatures, pulls, audit lines and serials; None without any.

    After `believe_clock` only audit lines with a higher number count: other rows do not show that they are later.
    """
    believed = connection.execute(select(meta.c.value).where(meta.c.key == _BELIEVED)).scalar()
    if believed is not None:
        found: datetime | None = connection.execute(
            select(func.max(audit.c.time)).where(audit.c.number > int(believed))
        ).scalar()
        return found
    columns = (versions.c.time, tuf_metadata.c.signed, sources.c.last_pull, audit.c.time, zone_serials.c.time)
    times = [connection.execute(select(func.max(column))).scalar() for column in columns]
    return max((time for time in times if time is not None), default=None)


def start_above_number(connection: Connection) -> int:
    """The number that all new numbers exceed; 0 if `start_above` never ran."""
    return int(connection.execute(select(meta.c.value).where(meta.c.key == _ABOVE)).scalar() or 0)


def set_state_lost(connection: Connection) -> None:
    """Records that this new database was made beside sealed files of a lost one."""
    connection.execute(meta.insert().values(key=_LOST, value="1"))


def high_water_path(connection: Connection) -> str | None:
    """The path at which the high-water file was last written; None if it never was."""
    path: str | None = connection.execute(select(meta.c.value).where(meta.c.key == _HIGH_WATER)).scalar()
    return path


def note_high_water(connection: Connection, path: str) -> None:
    """Records that the high-water file at `path` contains numbers: if a start does not find it, that is a loss."""
    if high_water_path(connection) != path:
        connection.execute(delete(meta).where(meta.c.key == _HIGH_WATER))
        connection.execute(meta.insert().values(key=_HIGH_WATER, value=path))


def start_above(
    connection: Connection, number: int, known: int, now: datetime, user: str, serials: Collection[int] = ()
) -> None:
    """Begins a new session of every list, with all numbers above `number`. Each live version becomes a new version with
    the same entries.

    `known`: the highest number known to have been served. `serials`: known serials of the zones. Raises RefusedError if
    `number` is lower than a known number, or so high that secondaries would take a new serial for an older one
    (MAX_SERIAL_STEP).
    """
    found = numbers(connection)
    least = max(known, found.highest)
    if number < least:
        raise RefusedError(f"expected N of at least {least}, the highest number that is known to have been served")
    lowest = min([*found.zones.values(), *serials], default=0)
    if number + 1 - lowest > MAX_SERIAL_STEP:
        raise RefusedError(
            f"expected N of at most {lowest + MAX_SERIAL_STEP - 1}: secondaries would take serials for older ones"
        )
    connection.execute(delete(meta).where(meta.c.key.in_((_ABOVE, _LOST, _HIGH_WATER))))
    connection.execute(meta.insert().values(key=_ABOVE, value=str(number)))
    for name in connection.execute(select(lists.c.id)).scalars().all():
        connection.execute(update(lists).where(lists.c.id == name).values(session=str(uuid.uuid4())))
        query = select(versions).where(versions.c.list == name).order_by(versions.c.version.desc()).limit(1)
        live = connection.execute(query).first()
        if live is not None:
            # without a delta: the lower version in this database may differ from the one that subscribers have
            changed = {"time": max(now, live.time), "released_by": user, "added": 0, "removed": 0, "changed": 0}
            values = live._asdict() | changed | {"version": number + 1, "delta": None}
            connection.execute(versions.insert().values(values))
