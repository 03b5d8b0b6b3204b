"""Zones in the store: their serials, and the job that brings a zone to its list's live version.

A zone follows a list. Its serial rises when its rules or their rendering change, and not with versions that change no
rule; a restart never makes one. A serial names its sealed files, and a sealed delta of rules from the serial before as
long as that is kept (versions/ixfr.py makes differences of these).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, func, select, update

from blocklistd.errors import DamagedError, JobError
from blocklistd.model import ListId, Sha256, Version, VersionInfo
from blocklistd.outputs.delta import ENTRIES, parse
from blocklistd.outputs.wire import Action, Apex, wire_name
from blocklistd.versions.database import Database
from blocklistd.versions.diffs import changes_between, deltas_between, net_delta
from blocklistd.versions.files import SealedFiles
from blocklistd.versions.lists import ListState, list_state, oldest_diff
from blocklistd.versions.schema import zone_serials
from blocklistd.versions.store import Store
from blocklistd.versions.verified import Fingerprints, Verified
from blocklistd.versions.zone_files import RulesDelta, Ruling, ZoneFiles, follow, make, rules_between, seal_delta

FOLLOW_SHARE: Final = 40  # a change of more than one entry in so many costs more to follow than the zone to make
FOLLOW_ALWAYS: Final = 64  # changed entries that are followed, however small the list is
_NO_CHANGE: Final = RulesDelta(Sha256(hashlib.sha256(b"").hexdigest()), 0, 0)


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


# -- the job -----------------------------------------------------------------------------------------------------------


def digests_read(connection: Connection, plan: ZonePlan) -> list[Sha256]:
    """The sealed files that `advance` may read: the caller hands it the fingerprints of these."""
    state, last = list_state(connection, plan.list), newest_serial(connection, plan.name)
    if state.live is None:
        return []
    deltas = _deltas(connection, plan, state, state.live, last) or []
    return [state.live.sha256, *deltas, *(last.digests if last else ())]


def advance(store: Store, plan: ZonePlan, now: datetime, anew: bool, fingerprints: Fingerprints) -> dict[str, Any]:
    """The job: brings a zone to its list's live version.

    `anew`: files of the zone may be damaged, so all are made again from the list's snapshot; if the rules are those of
    the newest serial, it stays. `fingerprints` are those of files that were verified (`digests_read`). The answer has
    the `serial`, None while the list has no version, and under `verified` the fingerprints of the files that were
    verified or written here. Raises DamagedError if the list's snapshot is damaged.
    """
    with store.opened() as (database, files):
        verified = Verified(files, fingerprints)
        serial = _advance(database, files, verified, plan, now, anew=anew)
        new = {digest: found for digest, found in verified.fingerprints.items() if fingerprints.get(digest) != found}
        return {"serial": serial, "verified": new}


def _advance(
    database: Database, files: SealedFiles, verified: Verified, plan: ZonePlan, now: datetime, *, anew: bool
) -> int | None:
    with database.read() as connection:
        state, last = list_state(connection, plan.list), newest_serial(connection, plan.name)
        live = state.live
        if live is None:
            return None
        here = (state.session, live.version, plan.record_settings, plan.apex_settings)
        if last and not anew and (last.session, last.version, last.record_settings, last.apex_settings) == here:
            return last.serial
        deltas = None if anew else _deltas(connection, plan, state, live, last)
    made: ZoneFiles | None = None
    delta: RulesDelta | None = None
    if last is not None and deltas is not None:
        with suppress(DamagedError):  # then the list's snapshot is what the zone is made from
            made, delta = _follow(files, verified, plan, last, deltas, state.secret)
    if made is None:
        made, delta = _make(files, verified, plan, last, live, state.secret)
    values = {
        "list": plan.list,
        "session": state.session,
        "version": live.version,
        "record_settings": plan.record_settings,
        "names": made.names,
        "wire": made.wire,
        "covered": made.covered,
        "omitted": made.omitted,
    }
    if last is not None and delta == _NO_CHANGE and last.apex_settings == plan.apex_settings:
        with database.write() as connection:  # a version that changes no rule
            row = zone_serials.c.zone == plan.name, zone_serials.c.serial == last.serial
            connection.execute(update(zone_serials).where(*row).values(values))
        return last.serial
    if delta == _NO_CHANGE:
        verified.wrote(seal_delta(files, []).digest)
    serial = plan.serial_start
    if last is not None and not last.serial < serial < last.serial + 2**31:  # further on is back (RFC 1982 3.2)
        serial = last.serial + 1
    with database.write() as connection:
        connection.execute(
            zone_serials.insert().values(
                **values,
                zone=plan.name,
                serial=serial,
                apex_settings=plan.apex_settings,
                rules=made.rules,
                records=made.records,
                delta=delta.digest if delta else None,
                added=delta.added if delta else 0,
                removed=delta.removed if delta else 0,
                time=now,
            )
        )
    return serial


def _deltas(
    connection: Connection, plan: ZonePlan, state: ListState, live: VersionInfo, last: ZoneSerial | None
) -> list[Sha256] | None:
    """The list's deltas since the zone's version. None where the zone has to be made from the list's snapshot: the
    settings or the session have changed, a delta is not kept, or the change is large."""
    if last is None or last.names is None:
        return None
    if last.session != state.session or last.record_settings != plan.record_settings:
        return None
    if not oldest_diff(connection, state.id) <= last.version <= live.version:
        return None
    since = Version(last.version)
    if changes_between(connection, state.id, since, live.version) > live.entries // FOLLOW_SHARE + FOLLOW_ALWAYS:
        return None
    found = deltas_between(connection, state.id, since, live.version)
    kept = [digest for digest in found if digest is not None]
    return kept if len(kept) == len(found) else None


def _follow(
    files: SealedFiles, verified: Verified, plan: ZonePlan, last: ZoneSerial, deltas: list[Sha256], secret: bytes
) -> tuple[ZoneFiles, RulesDelta]:
    """The zone from its last files and the list's deltas since. Raises DamagedError if one of these is damaged."""
    before = last.files
    assert before is not None
    removes: list[bytes] = []
    adds: list[bytes] = []
    with reading(verified, [*deltas, *last.digests]):
        with net_delta(files, verified, ENTRIES, deltas) as parts:
            for part in parts:
                gone, come = parse(ENTRIES, part.data)
                removes += gone
                adds += come
        made, change = follow(files, plan.ruling, before, removes, adds, secret)
    for digest in {made.names, made.rules, made.wire}.difference(last.digests):
        verified.wrote(digest)
    if not change.data:
        return made, _NO_CHANGE
    delta = seal_delta(files, [change])
    verified.wrote(delta.digest)
    return made, delta


def _make(
    files: SealedFiles, verified: Verified, plan: ZonePlan, last: ZoneSerial | None, live: VersionInfo, secret: bytes
) -> tuple[ZoneFiles, RulesDelta | None]:
    """The zone from the list's snapshot, and the delta from its last rules: None if the records say something else
    since, or the last rules are damaged. Raises DamagedError if the snapshot is."""
    with reading(verified, [live.sha256]):
        made = make(files, plan.ruling, live.sha256, secret)
    for digest in (made.names, made.rules, made.wire):
        verified.wrote(digest)
    if last is None or last.plan.ruling.action != plan.ruling.action:
        return made, None
    if made.rules == last.rules:
        return made, _NO_CHANGE
    try:
        with reading(verified, [last.rules]), rules_between(files, last.rules, made.rules) as parts:
            delta = seal_delta(files, parts)
    except DamagedError:
        return made, None
    verified.wrote(delta.digest)
    return made, delta


@contextmanager
def reading(verified: Verified, digests: Iterable[Sha256]) -> Iterator[None]:
    """Verifies the files that the block reads, and after it that none was written meanwhile. Raises DamagedError."""
    digests = list(digests)
    verified.require(*digests)
    try:
        yield
    except (ValueError, JobError):  # perhaps because of that
        _require_current(verified, digests)
        raise
    _require_current(verified, digests)


def _require_current(verified: Verified, digests: Iterable[Sha256]) -> None:
    for digest in digests:
        if not verified.check(digest):  # the same bytes may have been sealed once more
            raise DamagedError(digest)
