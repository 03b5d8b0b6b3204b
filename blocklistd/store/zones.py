"""Zones in the store: each serial with its sealed files, and who may compute differences from where.

A zone follows a list. Its serial rises when its rules or their rendering change, and not with versions that change no
rule; a restart never makes one. A serial names its sealed files, and a sealed delta of rules from the serial before as
long as that is kept (store/ixfr.py makes differences of these).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, func, select, update

from blocklistd.model import ListId, Sha256
from blocklistd.rpz.wire import Action, Apex, wire_name
from blocklistd.store.schema import zone_serials
from blocklistd.store.zone_files import Ruling, ZoneFiles


@dataclass(frozen=True, slots=True)
class ZonePlan:
    """A zone's configuration for jobs and the DNS server. `target` is where every CNAME points; `ttl` in seconds."""

    name: str
    list: ListId
    categories: tuple[str, ...]
    target: str
    ttl: int
    apex: Apex
    serial_start: int

    @property
    def record_settings(self) -> str:
        """The settings that decide which records the zone has and what they say."""
        return orjson.dumps([self.list, sorted(self.categories), self.target, self.ttl]).decode()

    @property
    def apex_settings(self) -> str:
        return orjson.dumps(self.apex).decode()

    def renders_as(self, other: ZonePlan) -> bool:
        """Whether the same version makes the same zone."""
        return (self.record_settings, self.apex_settings) == (other.record_settings, other.apex_settings)

    @property
    def ruling(self) -> Ruling:
        return Ruling(self.name, self.categories, Action(wire_name(self.target), self.ttl))


@dataclass(frozen=True, slots=True)
class ZoneSerial:
    """A zone at one serial, as the database names it. `list` is None for a zone that follows none (a catalog zone).

    `delta` is the sealed delta of rules from the serial before, `added` and `removed` are its counts. It is None where
    no difference leads to this serial.
    """

    zone: str
    serial: int
    list: ListId | None
    session: str
    version: int
    record_settings: str
    apex_settings: str
    names: Sha256 | None
    rules: Sha256
    wire: Sha256
    delta: Sha256 | None
    added: int
    removed: int
    records: int
    covered: int
    omitted: Sequence[str]
    time: datetime

    @property
    def plan(self) -> ZonePlan:
        """The plan that made this serial; the configuration may be another by now."""
        source, categories, target, ttl = orjson.loads(self.record_settings)
        apex = orjson.loads(self.apex_settings)
        apex["ns"] = tuple(apex["ns"])
        return ZonePlan(self.zone, ListId(source), tuple(categories), target, ttl, Apex(**apex), self.serial)

    @property
    def files(self) -> ZoneFiles | None:
        """None where an earlier release made them, without the names."""
        if self.names is None:
            return None
        return ZoneFiles(self.names, self.rules, self.wire, self.records, self.covered, self.omitted)

    @property
    def digests(self) -> tuple[Sha256, ...]:
        """The sealed files of the zone at this serial."""
        return (self.rules, self.wire) if self.names is None else (self.names, self.rules, self.wire)


def newest_serial(connection: Connection, zone: str) -> ZoneSerial | None:
    """The zone as it is now; None before its list's first version."""
    row = connection.execute(
        select(zone_serials).where(zone_serials.c.zone == zone).order_by(zone_serials.c.serial.desc()).limit(1)
    ).first()
    return _serial(row) if row else None


def zone_at(connection: Connection, zone: str, serial: int) -> ZoneSerial | None:
    """The zone at a serial; None for one that it never had."""
    here = zone_serials.c.zone == zone, zone_serials.c.serial == serial
    row = connection.execute(select(zone_serials).where(*here)).first()
    return _serial(row) if row else None


def _serial(row: Row[Any]) -> ZoneSerial:
    return ZoneSerial(**row._asdict())


def oldest_ixfr(connection: Connection, zone: str) -> int | None:
    """The lowest serial from which deltas lead to the newest: the newest without a delta. None without a serial."""
    serials = select(func.max(zone_serials.c.serial)).where(zone_serials.c.zone == zone)
    found = connection.execute(serials.where(zone_serials.c.delta.is_(None))).scalar()
    if found is None:
        found = connection.execute(serials).scalar()
    return int(found) if found is not None else None


def prune_zone(connection: Connection, zone: str, oldest: int) -> None:
    """Drops the deltas that lead to serial `oldest` and below."""
    here = zone_serials.c.zone == zone, zone_serials.c.serial <= oldest
    connection.execute(update(zone_serials).where(*here).values(delta=None))


def drop_zone_delta(connection: Connection, delta: Sha256) -> int:
    """The sealed delta is lost: differences start at the serials that it led to from now on; how many serials."""
    return connection.execute(update(zone_serials).where(zone_serials.c.delta == delta).values(delta=None)).rowcount


def add_serial(connection: Connection, values: dict[str, Any]) -> None:
    """`values` by the table's columns."""
    connection.execute(zone_serials.insert().values(values))


def keep_serial(connection: Connection, zone: str, serial: int, values: dict[str, Any]) -> None:
    """A version that changes no rule: the serial stays, and is of that version now."""
    here = zone_serials.c.zone == zone, zone_serials.c.serial == serial
    connection.execute(update(zone_serials).where(*here).values(values))


def time_after(connection: Connection, zone: str, serial: int) -> datetime | None:
    """When the zone got its first serial after this one. None where there is none yet."""
    rows = select(zone_serials.c.time).where(zone_serials.c.zone == zone, zone_serials.c.serial > serial)
    made: datetime | None = connection.execute(rows.order_by(zone_serials.c.serial).limit(1)).scalar()
    return made
