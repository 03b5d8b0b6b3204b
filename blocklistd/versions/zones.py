"""Zones in the store: their serials, the rules of each, and what lies between two.

A zone follows a list. Its serial rises when its rules or their rendering change, and not with versions that no rule
shows; nothing but such a change makes one, so a restart never does.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, select, update

from blocklistd.errors import StoreError, store_errors
from blocklistd.limits import CHUNK, SMALL_DIFF
from blocklistd.model import ListId, Sha256, Version
from blocklistd.outputs.wire import Action, Apex, compile_rules, wire_name
from blocklistd.versions.diffs import logged_changes, net_changes
from blocklistd.versions.files import atomic
from blocklistd.versions.lists import ListState, list_state, oldest_diff
from blocklistd.versions.schema import zone_changes, zone_serials
from blocklistd.versions.store import Store
from blocklistd.versions.zone_files import Ruling, Steps, ZoneFiles, follow, make, steps_between


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
    def records_of(self) -> str:
        """What, if it changes, makes every record another."""
        return orjson.dumps([self.list, sorted(self.categories), self.target, self.ttl]).decode()

    @property
    def apex_of(self) -> str:
        return orjson.dumps(self.apex).decode()

    def renders_as(self, other: ZonePlan) -> bool:
        """Whether the same version makes the same zone."""
        return (self.records_of, self.apex_of) == (other.records_of, other.apex_of)

    @property
    def ruling(self) -> Ruling:
        return Ruling(self.name, self.categories, Action(wire_name(self.target), self.ttl))


@dataclass(frozen=True, slots=True)
class ZoneSerial:
    """A zone at one serial, as the database names it."""

    zone: str
    serial: int
    list: ListId
    session: str
    version: int
    records_of: str
    apex_of: str
    names: Sha256 | None
    rules: Sha256
    wire: Sha256
    records: int
    covered: int
    omitted: Sequence[str]
    time: datetime

    @property
    def plan(self) -> ZonePlan:
        """What it was made by; the configuration may be another by now."""
        source, categories, target, ttl = orjson.loads(self.records_of)
        apex = orjson.loads(self.apex_of)
        apex["ns"] = tuple(apex["ns"])
        return ZonePlan(self.zone, ListId(source), tuple(categories), target, ttl, Apex(**apex), self.serial)

    @property
    def files(self) -> ZoneFiles | None:
        """None where an earlier release made them, without the names."""
        if self.names is None:
            return None
        return ZoneFiles(self.names, self.rules, self.wire, self.records, self.covered, self.omitted)


def newest_serial(connection: Connection, zone: str) -> ZoneSerial | None:
    """The zone as it is now; None before its list's first version."""
    row = connection.execute(
        select(zone_serials).where(zone_serials.c.zone == zone).order_by(zone_serials.c.serial.desc()).limit(1)
    ).first()
    return _serial(row) if row else None


def zone_at(connection: Connection, zone: str, serial: int) -> ZoneSerial:
    """The zone at a serial that it had."""
    here = zone_serials.c.zone == zone, zone_serials.c.serial == serial
    return _serial(connection.execute(select(zone_serials).where(*here)).one())


def _serial(row: Row[Any]) -> ZoneSerial:
    values = row._asdict()
    values.pop("logged")
    return ZoneSerial(**values)


def oldest_ixfr(connection: Connection, zone: str) -> int | None:
    """The lowest serial from which every step to the newest is in the log; None without a serial."""
    newest = connection.execute(select(func.max(zone_serials.c.serial)).where(zone_serials.c.zone == zone)).scalar()
    if newest is None:
        return None
    broken = connection.execute(
        select(func.max(zone_serials.c.serial)).where(zone_serials.c.zone == zone, zone_serials.c.logged == 0)
    ).scalar()
    return int(broken if broken is not None else newest)


def leads_from(connection: Connection, zone: str, serial: int) -> bool:
    """Whether the log leads from this serial to the newest.

    It does not from one that the zone never had: `serial_start` leaves some out, and a secondary that was another's may
    hold one of these.
    """
    oldest = oldest_ixfr(connection, zone)
    had = select(zone_serials.c.serial).where(zone_serials.c.zone == zone, zone_serials.c.serial == serial)
    return oldest is not None and serial >= oldest and connection.execute(had).first() is not None


def advance(store: Store, plan: ZonePlan, now: datetime, anew: bool = False) -> int | None:
    """The job: brings a zone to its list's live version; its serial then, or None while the list has no version.

    `anew`: its files may be damaged, so they are all made again, of the list.
    """
    with store.opened() as (database, files):
        with database.read() as connection:
            state, last = list_state(connection, plan.list), newest_serial(connection, plan.name)
            if state.live is None:
                return None
            here = (state.session, state.live.version, plan.records_of, plan.apex_of)
            if last and not anew and (last.session, last.version, last.records_of, last.apex_of) == here:
                return last.serial
            changed = None if anew else _changes(connection, plan, state, last)
        steps: Steps | None = None
        if last is not None and last.files is not None and changed is not None:
            made, steps = follow(files, plan.ruling, last.files, changed, state.secret)
        elif not files.intact(state.live.sha256):
            raise StoreError(f"the file of version {state.live.version} of list {plan.list} is missing or damaged")
        else:
            made = make(files, plan.ruling, state.live.sha256, state.secret)
            same = last is not None and last.plan.ruling.action == plan.ruling.action
            if last is not None and same and files.intact(last.rules):
                steps = steps_between(files, last.rules, made.rules)
        if last and steps == ([], []) and last.apex_of == plan.apex_of:
            with database.write() as connection:  # a version that no rule shows
                connection.execute(
                    update(zone_serials)
                    .where(zone_serials.c.zone == plan.name, zone_serials.c.serial == last.serial)
                    .values(
                        list=plan.list,
                        records_of=plan.records_of,
                        session=state.session,
                        version=state.live.version,
                        names=made.names,
                        wire=made.wire,
                        covered=made.covered,
                        omitted=made.omitted,
                    )
                )
            return last.serial
        serial = plan.serial_start
        if last is not None and not last.serial < serial < last.serial + 2**31:  # further on is back (RFC 1982 3.2)
            serial = last.serial + 1
        with database.write() as connection:
            connection.execute(
                zone_serials.insert().values(
                    zone=plan.name,
                    serial=serial,
                    list=plan.list,
                    session=state.session,
                    version=state.live.version,
                    records_of=plan.records_of,
                    apex_of=plan.apex_of,
                    names=made.names,
                    rules=made.rules,
                    wire=made.wire,
                    records=made.records,
                    covered=made.covered,
                    omitted=made.omitted,
                    logged=int(steps is not None),
                    time=now,
                )
            )
            _log(connection, plan.name, serial, steps or ([], []))
        return serial


def _changes(
    connection: Connection, plan: ZonePlan, state: ListState, last: ZoneSerial | None
) -> list[tuple[bytes, int]] | None:
    """The list's (line, +1 | -1) since the zone's version; None where the zone has to be made anew: what it is made of
    has changed, the log does not reach back, or most of the list is another."""
    if last is None or last.names is None or state.live is None:
        return None
    if last.session != state.session or last.records_of != plan.records_of:
        return None
    if not oldest_diff(connection, state.id) <= last.version <= state.live.version:
        return None
    since = Version(last.version)
    if logged_changes(connection, state.id, since, state.live.version) > state.live.entries // 4 + SMALL_DIFF:
        return None
    return list(net_changes(connection, state.id, since, state.live.version))


def _log(connection: Connection, zone: str, serial: int, steps: Steps) -> None:
    rows = [
        {"zone": zone, "serial": serial, "op": op, "rule": rule}
        for op, changed in zip((-1, +1), steps, strict=True)
        for rule in changed
    ]
    if rows:
        connection.execute(zone_changes.insert(), rows)


def net_rules(connection: Connection, zone: str, start: int, end: int) -> Iterator[tuple[bytes, int]]:
    """(rule, +1 | -1) between two serials, in canonical order: what left and came back is not there."""
    rows = connection.execute(_net(zone, start, end).order_by(zone_changes.c.rule))
    return ((rule, int(op)) for rule, op in rows)


def count_rules(connection: Connection, zone: str, start: int, end: int, enough: int) -> tuple[int, int]:
    """How many rows of the log lie between two serials, and how many rules change; not looked at closer, and the same,
    where they are not more than `enough`."""
    logged = connection.execute(select(func.count()).where(*_between(zone, start, end))).scalar_one()
    if logged <= enough:
        return logged, logged
    return logged, connection.execute(select(func.count()).select_from(_net(zone, start, end).subquery())).scalar_one()


def _net(zone: str, start: int, end: int) -> Select[bytes, int]:
    net = func.sum(zone_changes.c.op)
    rows = select(zone_changes.c.rule, net).where(*_between(zone, start, end))
    return rows.group_by(zone_changes.c.rule).having(net != 0)


def _between(zone: str, start: int, end: int) -> tuple[ColumnElement[bool], ...]:
    return zone_changes.c.zone == zone, zone_changes.c.serial > start, zone_changes.c.serial <= end


def ixfr_path(store: Store, zone: str, start: int, end: int) -> Path:
    return store.ixfr / zone / f"{start}-{end}"


def write_ixfr(store: Store, plan: ZonePlan, start: int, end: int) -> None:
    """The difference of two serials as a file: the length of what goes, a newline, what goes, SOA and what comes.

    Raises StoreError if the log does not reach back to `start`.
    """
    path = ixfr_path(store, plan.name, start, end)
    with store_errors(store.ixfr):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with store.opened() as (database, files), database.read() as connection:
        if not leads_from(connection, plan.name, start):
            raise StoreError(f"zone {plan.name}: the log below serial {end} was pruned meanwhile")
        goes: list[bytes] = []
        comes: list[bytes] = []
        for rule, op in net_rules(connection, plan.name, start, end):
            (comes if op > 0 else goes).append(rule)
        zone = wire_name(plan.name)
        removed = b"".join(compile_rules(goes, zone, plan.ruling.action))
        added = b"".join(compile_rules(comes, zone, plan.ruling.action, lead=plan.apex.soa(end)))
        with atomic(files.disk, path.with_name(f".{secrets.token_hex(16)}"), lambda: path) as draft:
            draft.write(b"%d\n" % len(removed))
            for part in (removed, added):
                for begin in range(0, len(part), CHUNK):
                    draft.write(part[begin : begin + CHUNK])


def read_ixfr(path: Path) -> tuple[bytes, bytes]:
    """What goes and what comes, compiled."""
    with store_errors(path.parent):
        length, _, parts = path.read_bytes().partition(b"\n")
    return parts[: int(length)], parts[int(length) :]


def prune_zone(connection: Connection, zone: str, oldest: int) -> None:
    """Forgets the steps to serial `oldest` and below."""
    connection.execute(
        update(zone_serials).where(zone_serials.c.zone == zone, zone_serials.c.serial <= oldest).values(logged=0)
    )
    connection.execute(delete(zone_changes).where(zone_changes.c.zone == zone, zone_changes.c.serial <= oldest))
