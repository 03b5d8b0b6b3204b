"""The job that brings the zones of a list to its live version: writes each zone's files, and its next serial if a rule
changed.

The list's snapshot, and its deltas, are read once for all zones.

To write the files of a large zone takes most of the time of an update, and a secondary that follows by IXFR needs none
of them. So a serial of more than DEFERRED rules is made with its delta alone, and another job writes the files when the
serial is served already (zone_completion.py). A crash in between leaves a serial that is not compiled: the next
`advance_all` completes it, from the list's snapshot if need be.

It updates the files of the last serial with the list's deltas since (`_update`), or makes them from the list's snapshot
(`_make`): for a first serial, after a change of settings or session, after damage, and for a large change. Both give
the same files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.change import VersionInfo
from blocklistd.errors import BlocklistError, DamagedError, safe_message
from blocklistd.lines.ids import Ids
from blocklistd.lines.snapshot import lines
from blocklistd.model import Sha256, Version
from blocklistd.pipeline.zone_completion import Shared, compile_all, completed
from blocklistd.rpz.zonemd import zone_digest
from blocklistd.store.database import Database
from blocklistd.store.diffs import changes_between, kept_deltas
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import ListState, list_state, oldest_diff
from blocklistd.store.numbers import start_above_number
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified
from blocklistd.store.zone_files import (
    RulesDelta,
    ZoneFiles,
    change_of_zone,
    make_zone_files,
    rules_between,
    seal_delta,
    write_changed_files,
)
from blocklistd.store.zones import ZonePlan, ZoneSerial, add_serial, keep_serial, newest_serial

UPDATE_SHARE: Final = 40  # if more than 1/40 of the entries changed, making the files costs less than updating them
UPDATE_ALWAYS: Final = 64  # changed entries that are allowed in addition: the files of a small list are updated
DEFERRED: Final = 20_000  # rules; to write the files of fewer takes no longer than to start another job
_NO_CHANGE: Final = RulesDelta(Sha256(hashlib.sha256(b"").hexdigest()), 0, 0)


def digests_read(connection: Connection, plan: ZonePlan) -> list[Sha256]:
    """Return the sealed files that `advance` may read; the caller passes it their fingerprints."""
    state, last = list_state(connection, plan.list), newest_serial(connection, plan.name)
    if state.live is None:
        return []
    deltas = _deltas(connection, plan, state, state.live, last) or []
    return [state.live.sha256, *deltas, *(last.digests if last else ())]


def advance(store: Store, plan: ZonePlan, now: datetime, remake: bool, fingerprints: Fingerprints) -> dict[str, Any]:
    """Run the job: bring a zone to its list's live version.

    `remake`: files of the zone may be damaged, so all are made again from the list's snapshot. The serial stays the
    same if the rules do. `fingerprints`: of the files of `digests_read`, as far as they were verified. Returns `serial`
    (None while the list has no version) and `verified`, the fingerprints of the files that the job verified or wrote.
    Raises DamagedError if the list's snapshot is damaged.
    """
    answer = advance_all(store, [plan], now, {plan.name} if remake else set(), fingerprints, fails=True)
    compiled = compile_all(store, [plan.name], {**fingerprints, **answer["verified"]}, fails=True)
    return {"serial": answer["serials"][plan.name], "verified": answer["verified"] | compiled["verified"]}


def advance_all(
    store: Store,
    plans: Sequence[ZonePlan],
    now: datetime,
    remade: Collection[str],
    fingerprints: Fingerprints,
    *,
    fails: bool = False,
) -> dict[str, Any]:
    """Run the job for several zones; `remade` are the names of those that `advance` has to `remake`. Returns `serials`,
    by zone, `failed`, the reason for each zone that could not be made (with `fails` its error is raised instead), and
    `verified`."""
    serials: dict[str, int | None] = {}
    failed: dict[str, str] = {}
    with store.opened() as (database, files):
        verified, shared = Verified(files, fingerprints), Shared()
        for plan in sorted(plans, key=lambda plan: (plan.list, plan.ruling.selection, plan.name)):
            try:
                serials[plan.name] = _advance(database, files, verified, plan, now, shared, remake=plan.name in remade)
            except BlocklistError as error:  # an error in one zone does not stop the others
                if fails:
                    raise
                failed[plan.name] = safe_message(error)
        return {"serials": serials, "failed": failed, "verified": verified.news(fingerprints)}


def _advance(
    database: Database,
    files: SealedFiles,
    verified: Verified,
    plan: ZonePlan,
    now: datetime,
    shared: Shared,
    *,
    remake: bool,
) -> int | None:
    with database.read() as connection:
        state, last = list_state(connection, plan.list), newest_serial(connection, plan.name)
        live, lowest = state.live, start_above_number(connection)
        if live is None:
            return None
        # made before `start-above`: secondaries may have this serial with other content, so no difference leads from it
        is_superseded = last is not None and last.serial <= lowest
    if last is not None:
        try:
            last = completed(database, files, verified, last, shared)
        except (DamagedError, ValueError):
            remake = True
    with database.read() as connection:
        made_of = (state.session, live.version, plan.record_settings, plan.apex_settings)
        if last is not None and not remake and not is_superseded and _made_of(last) == made_of:
            return last.serial
        deltas = None if remake or is_superseded else _deltas(connection, plan, state, live, last)
    made: ZoneFiles | None = None
    delta: RulesDelta | None = None
    if last is not None and deltas is not None:
        with suppress(DamagedError):  # the zone is then made from the list's snapshot
            made, delta = _update(files, verified, plan, last, deltas, state.ids, shared)
    if made is None:
        made, delta = _make(files, verified, plan, last, state, live, shared)
    values = {
        "list": plan.list,
        "session": state.session,
        "version": live.version,
        "record_settings": plan.record_settings,
        "names": made.names,
        "rules": made.rules,
        "wire": made.wire,
        "covered": made.covered,
        "omitted": made.omitted,
    }
    if is_superseded:
        delta = None
    if last is not None and delta == _NO_CHANGE and last.apex_settings == plan.apex_settings:
        with database.write() as connection:  # a version that changes no rule
            keep_serial(connection, plan.name, last.serial, values)
        return last.serial
    if delta == _NO_CHANGE:
        verified.wrote(seal_delta(files, []).digest)
    serial = plan.serial_start
    # an increase by 2^31 or more would be a decrease for secondaries (RFC 1982 section 3.2)
    if last is not None and not last.serial < serial < last.serial + 2**31:
        serial = last.serial + 1
    serial = max(serial, lowest + 1)
    digest = None
    if plan.apex.zonemd:
        with verified.reading([made.rules]), files.map(made.rules) as rules:
            digest = zone_digest(plan.apex, serial, lines(rules), plan.ruling.action)
    with database.write() as connection:
        add_serial(
            connection,
            values
            | {
                "zone": plan.name,
                "serial": serial,
                "apex_settings": plan.apex_settings,
                "records": made.records,
                "delta": delta.digest if delta else None,
                "added": delta.added if delta else 0,
                "removed": delta.removed if delta else 0,
                "zonemd": digest,
                "time": now,
            },
        )
    return serial


def _made_of(last: ZoneSerial) -> tuple[object, ...]:
    return last.session, last.version, last.record_settings, last.apex_settings


def _deltas(
    connection: Connection, plan: ZonePlan, state: ListState, live: VersionInfo, last: ZoneSerial | None
) -> list[Sha256] | None:
    """The list's deltas since the zone's version. None if the zone has to be made from the list's snapshot: the
    settings or the session have changed, a delta is not kept, or the change is large."""
    if last is None or last.names is None:
        return None
    if last.session != state.session or last.record_settings != plan.record_settings:
        return None
    if not oldest_diff(connection, state.id) <= last.version <= live.version:
        return None
    since = Version(last.version)
    if changes_between(connection, state.id, since, live.version) > live.entries // UPDATE_SHARE + UPDATE_ALWAYS:
        return None
    return kept_deltas(connection, state.id, since, live.version)


def _update(
    files: SealedFiles,
    verified: Verified,
    plan: ZonePlan,
    last: ZoneSerial,
    deltas: list[Sha256],
    ids: Ids,
    shared: Shared,
) -> tuple[ZoneFiles, RulesDelta]:
    """Update the zone's last files with the list's deltas since. A large zone's files are left to another job: those of
    the result are then the last ones. Raises DamagedError if one of them is damaged."""
    before = last.files
    assert before is not None
    with verified.reading([*deltas, *last.digests]):
        removes, adds = shared.difference(files, verified, deltas)
        change = change_of_zone(files, plan.ruling, before, removes, adds, ids, shared.updated)
        made = change.applied_to(before)
        changes = bool(change.removed or change.added)
        defers = changes and before.records > DEFERRED and made.records > 0
        if defers and not plan.apex.zonemd:
            made = replace(made, wire=before.rules)
        else:
            made = write_changed_files(files, plan.ruling, before, change, shared.updated, compiles=not defers)
    for digest in {made.names, made.rules, made.wire}.difference(last.digests):
        verified.wrote(digest)
    if not changes:
        return made, _NO_CHANGE
    delta = seal_delta(files, [change.delta])
    verified.wrote(delta.digest)
    return made, delta


def _make(
    files: SealedFiles,
    verified: Verified,
    plan: ZonePlan,
    last: ZoneSerial | None,
    state: ListState,
    live: VersionInfo,
    shared: Shared,
) -> tuple[ZoneFiles, RulesDelta | None]:
    """Make the zone from the list's snapshot, and the delta from its last rules: None if the action of the records has
    changed, or the last rules are lost. Raises DamagedError if the snapshot is damaged."""
    with verified.reading([live.sha256]):
        made = make_zone_files(files, plan.ruling, live.sha256, state.ids, shared.made)
    for digest in (made.names, made.rules, made.wire):
        verified.wrote(digest)
    if last is None or last.plan.ruling.action != plan.ruling.action:
        return made, None
    if not last.is_compiled:  # its own rules were not written
        made_of = last.session, last.version, last.record_settings
        return made, _NO_CHANGE if made_of == (state.session, live.version, plan.record_settings) else None
    if made.rules == last.rules:
        return made, _NO_CHANGE
    try:
        with verified.reading([last.rules]), rules_between(files, last.rules, made.rules) as parts:
            delta = seal_delta(files, parts)
    except DamagedError:
        return made, None
    verified.wrote(delta.digest)
    return made, delta
