"""Upkeep of the store: retention of deltas, the sweep of unnamed files, and the scrub of named ones.

- `retain` and `prune` drop deltas from rows: differences then start at a later version or serial.
- `sweep` removes the sealed files that no row names any more. So a file is removed only after the transaction that
  dropped it from its row.
- `scrub` reads every named file and reports the damaged ones; pipeline/repair.py then drops or rebuilds them, and
  `reread_sources` makes pulls read whole bodies again.
- At a start `clear_work` removes work files, renderings and the reserve; `reserve` then writes the reserve, RESERVE
  bytes of zeroes, so that the next start has room on a full disk.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, func, select, update

from blocklistd.change import Policy
from blocklistd.errors import store_errors
from blocklistd.events import Event
from blocklistd.jobs.sandbox import LATER, lower_priority
from blocklistd.limits import KEPT_SNAPSHOTS, MIN_KEPT_VERSIONS, RESERVE, SHORT_DISK_PARTS
from blocklistd.model import ListId, Sha256, SourceId, Version
from blocklistd.store import figures
from blocklistd.store.asserted import bases
from blocklistd.store.database import Database
from blocklistd.store.files import MIN_SWEEP_AGE, SealedFiles
from blocklistd.store.lists import oldest_diff, version_rows
from blocklistd.store.pulls import reread_source
from blocklistd.store.render import SUFFIX
from blocklistd.store.schema import candidates, list_sources, lists, source_ages, sources, versions
from blocklistd.store.schema_served import zone_serials
from blocklistd.store.store import Store
from blocklistd.store.verified import Verified
from blocklistd.store.zones import newest_serial, prune_zone

log: Final = logging.getLogger(__name__)
RESERVED: Final = "reserve"


def retain(connection: Connection, list_id: ListId, retention: timedelta, now: datetime) -> None:
    """Drops a list's deltas that are older than its retention."""
    oldest = oldest_to_keep(connection, list_id, retention, now)
    if oldest > oldest_diff(connection, list_id):
        prune(connection, list_id, oldest)


def oldest_to_keep(connection: Connection, list_id: ListId, retention: timedelta, now: datetime) -> Version:
    """The lowest version that diffs must be able to start from: within the retention, or one of the newest
    MIN_KEPT_VERSIONS."""
    newest = connection.execute(select(func.max(versions.c.version)).where(versions.c.list == list_id)).scalar() or 0
    young = connection.execute(
        select(func.min(versions.c.version)).where(versions.c.list == list_id, versions.c.time >= now - retention)
    ).scalar()
    by_number = max(1, newest - MIN_KEPT_VERSIONS + 1)
    return Version(min(by_number, young) if young is not None else by_number)


def prune(connection: Connection, list_id: ListId, oldest: Version) -> int:
    """Drops the deltas that lead to `oldest` and to lower versions, in the list and in its zones. Returns how many of
    the list. The rows of the versions stay."""
    dropped = connection.execute(
        update(versions)
        .where(versions.c.list == list_id, versions.c.version <= oldest, versions.c.delta.is_not(None))
        .values(delta=None)
    )
    of_list = zone_serials.c.list == list_id
    for zone in connection.execute(select(zone_serials.c.zone).where(of_list).distinct()).scalars().all():
        kept = select(func.min(zone_serials.c.serial)).where(
            zone_serials.c.zone == zone, of_list, zone_serials.c.version >= oldest
        )
        lowest = connection.execute(kept).scalar()
        if lowest is not None:
            prune_zone(connection, zone, lowest)
    return dropped.rowcount


def named_files(connection: Connection, files: SealedFiles) -> set[Sha256]:
    """The sealed files that rows name, and the bases of those that are patches. Of snapshots, the newest
    KEPT_SNAPSHOTS of each list, and those that are not counted for statistics yet; of zones, the newest serial."""
    named: set[Sha256] = set()
    for list_id in connection.execute(select(lists.c.id)).scalars():
        named |= {version.sha256 for version in version_rows(connection, list_id, newest=KEPT_SNAPSHOTS)}
        named |= figures.uncounted_files(connection, list_id)
    for zone in connection.execute(select(zone_serials.c.zone).distinct()).scalars().all():
        newest = newest_serial(connection, zone)
        named |= {newest.rules, newest.wire, newest.names or newest.rules} if newest else set()
    of_lists = (
        versions.c.delta,
        lists.c.basis,
        lists.c.ages,
        list_sources.c.accepted,
        list_sources.c.ages,
        source_ages.c.ages,
    )
    of_sources = (sources.c.offered, sources.c.body, sources.c.notes)
    for column in (zone_serials.c.delta, *of_lists, *of_sources):
        named |= set(connection.execute(select(column).where(column.is_not(None))).scalars())
    for policy in connection.execute(select(lists.c.policy).where(lists.c.policy.is_not(None))).scalars():
        named |= Policy.from_json(policy).files
    for held in connection.execute(select(candidates).where(candidates.c.state == "held")):
        named |= {held.delta, held.snapshot or held.delta, *held.sources.values()}
        named |= {held.basis or held.delta} | Policy.from_json(held.policy).files
    return named | bases(files, named)


def sweep(store: Store, database: Database, young: float = MIN_SWEEP_AGE, kept: Callable[[], set[Sha256]] = set) -> int:
    """Removes the files that no row names; returns how many. Files younger than `young` seconds stay: a job may be
    about to name them. Those in `kept` stay, too: work that runs reads them. Raises StoreError."""
    began = time.time()
    with database.read() as connection:
        named = named_files(connection, store.sealed)
    read = kept()
    removed = store.sealed.sweep(named | read | bases(store.sealed, read), young, began)
    if removed:
        Event.FILES_SWEPT.log(log, files=removed)
    return removed


def is_short(store: Store) -> bool:
    """Whether less than 1 / SHORT_DISK_PARTS of the disk is free. Raises StoreError."""
    with store_errors(store.state_dir):
        disk = shutil.disk_usage(store.state_dir)
    return disk.free * SHORT_DISK_PARTS < disk.total


def scrub(store: Store) -> dict[str, Any]:
    """The job that reads every sealed file that a row names, at low priority.

    Returns `verified`: the fingerprints of the intact files by digest; and `damaged`: the digests of the others.
    """
    lower_priority(LATER)
    with store.opened() as (database, files):
        with database.read() as connection:
            named = named_files(connection, files)
        verified = Verified(files)
        damaged = [digest for digest in sorted(named) if not verified.check(digest)]
    return {"verified": verified.fingerprints, "damaged": damaged}


def reread_sources(connection: Connection, files: SealedFiles, damaged: Collection[Sha256]) -> list[SourceId]:
    """Makes the sources whose newest body has a damaged file, or a damaged base, read the whole body in their next
    pull. Returns the ids of the sources to pull, sorted: these, and those with damaged entries in a live version. If a
    pull has replaced the damaged files meanwhile, its offer stays."""

    def is_damaged(digests: set[Sha256]) -> bool:
        return bool((digests | bases(files, digests)) & set(damaged))

    found = connection.execute(select(sources.c.id, sources.c.offered, sources.c.body, sources.c.notes)).all()
    accepted = connection.execute(select(list_sources.c.source, list_sources.c.accepted)).all()
    unread = {row.id for row in found if is_damaged({row.offered, row.body, row.notes} - {None})}
    for source in unread:
        reread_source(connection, source)
    return sorted(unread.union(row.source for row in accepted if is_damaged({row.accepted})))


def clear_work(store: Store) -> None:
    """Removes the reserve, the unfinished files of an earlier daemon's jobs and of a restore, and all renderings: a
    rendering's name contains no digest to verify it by, and it can be made again."""
    (store.state_dir / RESERVED).unlink(missing_ok=True)
    shutil.rmtree(store.making, ignore_errors=True)
    for folder in (store.work, store.diffs, store.ixfr, store.exports):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in store.sealed.root.glob("??/*"):
        if path.name.startswith(".") or path.suffix in SUFFIX.values():
            path.unlink(missing_ok=True)


def reserve(store: Store) -> None:
    """Writes the reserve: room for the next start on a full disk. The database needs some even to be read."""
    with contextlib.suppress(OSError):  # on a full disk, as much of it as there is room for
        (store.state_dir / RESERVED).write_bytes(b"\0" * RESERVE)
