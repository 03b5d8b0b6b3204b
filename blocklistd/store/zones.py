"""Zones in the store: a row of `zone_serials` for each serial, with its sealed files and its delta.

A zone follows a list. `add_serial` adds a serial when a version changes the zone's rules, or the configuration changes
its records or its apex. For a version that changes no rule, `keep_serial` updates the newest serial's row. A restart
adds no serial. A row names the sealed delta of rules from the serial before, until `prune_zone` drops it, or
`drop_zone_delta` because its file is lost; store/ixfr.py makes differences from these deltas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, func, select, update

from blocklistd.model import ListId, Sha256
from blocklistd.rpz.wire import Action, Apex, wire_name
from blocklistd.store.schema_served import zone_serials
from blocklistd.store.zone_files import Ruling, ZoneFiles


@dataclass(frozen=True, slots=True)
class ZonePlan:
    """A zone's configuration for jobs and the DNS server. `target`: of every CNAME record. `ttl`: in seconds.

    `shards`: the number of zones over which the rules of one configured zone are spread; this one is number `shard`,
    from 0. `suffixes`: the version of the Public Suffix List by which they are (rpz/shards.py).
    """

    name: str
    list: ListId
    categories: tuple[str, ...]
    target: str
    ttl: int
    apex: Apex
    serial_start: int
    shards: int = 1
    shard: int = 0
    suffixes: str = ""

    @property
    def granted(self) -> str:
        """The configured zone, to which subscribers are entitled: of a shard, the zone without the first label."""
        return self.name if self.shards == 1 else self.name.partition(".")[2]

    @property
    def record_settings(self) -> str:
        """The settings that determine the zone's records, as JSON."""
        settings = [self.list, sorted(self.categories), self.target, self.ttl]
        return orjson.dumps(
            settings if self.shards == 1 else [*settings, self.shards, self.shard, self.suffixes]
        ).decode()

    @property
    def apex_settings(self) -> str:
        """The settings of SOA, NS and ZONEMD, as JSON."""
        found = asdict(self.apex)
        del found["digest"]
        if not self.apex.zonemd:  # as it was before this key: another text would be another serial
            del found["zonemd"]
        return orjson.dumps(found).decode()

    def renders_as(self, other: ZonePlan) -> bool:
        """Whether both plans make the same zone from the same version."""
        return (self.record_settings, self.apex_settings) == (other.record_settings, other.apex_settings)

    @property
    def ruling(self) -> Ruling:
        """The part of the plan that the zone's files depend on."""
        return Ruling(self.name, self.categories, Action(wire_name(self.target), self.ttl), self.shards, self.shard)


@dataclass(frozen=True, slots=True)
class ZoneSerial:
    """A row of `zone_serials`. `list` is None for a zone that follows no list (a catalog zone, RFC 9432).

    `delta`: the sealed delta of rules from the serial before; None if no difference leads to this serial. `added`,
    `removed`: its counts. `records`, `covered`, `omitted`: as in ZoneFiles.
    `wire`: the same as `rules` while the files are not written; `names` and `rules` may be those of the serial before
    then (pipeline/zone_completion.py). `zonemd`: the digest of its ZONEMD record, in hex;
    None without that record.
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
    zonemd: str | None
    time: datetime

    @property
    def plan(self) -> ZonePlan:
        """The plan that made this serial; the configuration may have changed since."""
        source, categories, target, ttl, *shards = orjson.loads(self.record_settings)
        apex = orjson.loads(self.apex_settings)
        apex |= {"ns": tuple(apex["ns"]), "digest": self.zonemd or ""}
        return ZonePlan(self.zone, ListId(source), tuple(categories), target, ttl, Apex(**apex), self.serial, *shards)

    @property
    def is_compiled(self) -> bool:
        """Whether the messages are compiled; those of no rules always are, and both files are empty then."""
        return self.wire != self.rules or not self.records

    @property
    def files(self) -> ZoneFiles | None:
        """The zone's files; None if an earlier version of blocklistd made them, without the file of names."""
        if self.names is None:
            return None
        return ZoneFiles(self.names, self.rules, self.wire, self.records, self.covered, self.omitted)

    @property
    def digests(self) -> tuple[Sha256, ...]:
        """The sealed files of the zone at this serial."""
        return (self.rules, self.wire) if self.names is None else (self.names, self.rules, self.wire)


def newest_serial(connection: Connection, zone: str) -> ZoneSerial | None:
    """The zone at its newest serial; None before its list's first version."""
    row = connection.execute(
        select(zone_serials).where(zone_serials.c.zone == zone).order_by(zone_serials.c.serial.desc()).limit(1)
    ).first()
    return _serial(row) if row else None


def zone_at(connection: Connection, zone: str, serial: int) -> ZoneSerial | None:
    """The zone at a serial; None if it never had that serial."""
    here = zone_serials.c.zone == zone, zone_serials.c.serial == serial
    row = connection.execute(select(zone_serials).where(*here)).first()
    return _serial(row) if row else None


def serial_before(connection: Connection, zone: str, serial: int) -> ZoneSerial | None:
    """The zone at the serial that preceded this one; None if it is the first."""
    rows = select(zone_serials).where(zone_serials.c.zone == zone, zone_serials.c.serial < serial)
    row = connection.execute(rows.order_by(zone_serials.c.serial.desc()).limit(1)).first()
    return _serial(row) if row else None


def _serial(row: Row[Any]) -> ZoneSerial:
    return ZoneSerial(**row._asdict())


def oldest_ixfr(connection: Connection, zone: str) -> int | None:
    """The lowest serial from which deltas lead to the newest one: the newest serial without a delta. None if the zone
    has no serial."""
    serials = select(func.max(zone_serials.c.serial)).where(zone_serials.c.zone == zone)
    found = connection.execute(serials.where(zone_serials.c.delta.is_(None))).scalar()
    if found is None:
        found = connection.execute(serials).scalar()
    return int(found) if found is not None else None


def prune_zone(connection: Connection, zone: str, oldest: int) -> None:
    """Drops the deltas that lead to serial `oldest` and to lower ones."""
    here = zone_serials.c.zone == zone, zone_serials.c.serial <= oldest
    connection.execute(update(zone_serials).where(*here).values(delta=None))


def drop_zone_delta(connection: Connection, delta: Sha256) -> int:
    """Drops a delta whose file is lost, from every serial that it leads to: differences then start at these serials.
    Returns how many serials."""
    return connection.execute(update(zone_serials).where(zone_serials.c.delta == delta).values(delta=None)).rowcount


def add_serial(connection: Connection, values: dict[str, Any]) -> None:
    """Adds a serial. `values`: by the columns of `zone_serials`."""
    connection.execute(zone_serials.insert().values(values))


def keep_serial(connection: Connection, zone: str, serial: int, values: dict[str, Any]) -> None:
    """Updates columns of a serial's row, for a version that changes no rule."""
    here = zone_serials.c.zone == zone, zone_serials.c.serial == serial
    connection.execute(update(zone_serials).where(*here).values(values))


def time_after(connection: Connection, zone: str, serial: int) -> datetime | None:
    """When the zone got its first serial after this one; None if it has no later serial."""
    rows = select(zone_serials.c.time).where(zone_serials.c.zone == zone, zone_serials.c.serial > serial)
    time: datetime | None = connection.execute(rows.order_by(zone_serials.c.serial).limit(1)).scalar()
    return time
