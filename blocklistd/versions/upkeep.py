"""What keeps the store small and whole: retention of the change log, the sweep of files that nothing names."""

from __future__ import annotations

import logging
import shutil
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, select, update

from blocklistd.limits import KEPT_SNAPSHOTS, MIN_KEPT_VERSIONS
from blocklistd.model import ListId, Sha256, Version
from blocklistd.versions.asserted import bases
from blocklistd.versions.database import Database
from blocklistd.versions.lists import oldest_diff, version_rows
from blocklistd.versions.schema import candidates, changes, list_sources, lists, sources, versions, zone_serials
from blocklistd.versions.store import Store
from blocklistd.versions.zones import newest_serial, prune_zone

log: Final = logging.getLogger(__name__)


def retain(connection: Connection, list_id: ListId, retention: timedelta, now: datetime) -> None:
    """Prunes a list to its retention."""
    oldest = oldest_to_keep(connection, list_id, retention, now)
    if oldest > oldest_diff(connection, list_id):
        prune(connection, list_id, oldest)


def oldest_to_keep(connection: Connection, list_id: ListId, retention: timedelta, now: datetime) -> Version:
    """The lowest version that diffs must be able to start from: young enough, or one of the newest 100."""
    newest = connection.execute(select(func.max(versions.c.version)).where(versions.c.list == list_id)).scalar() or 0
    young = connection.execute(
        select(func.min(versions.c.version)).where(versions.c.list == list_id, versions.c.time >= now - retention)
    ).scalar()
    by_number = max(1, newest - MIN_KEPT_VERSIONS + 1)
    return Version(min(by_number, young) if young is not None else by_number)


def prune(connection: Connection, list_id: ListId, oldest: Version) -> int:
    """Forgets the steps to `oldest` and below; how many rows of the log went. The versions' own rows stay."""
    connection.execute(
        update(versions).where(versions.c.list == list_id, versions.c.version <= oldest).values(logged=0)
    )
    followed = zone_serials.c.list == list_id
    for zone in connection.execute(select(zone_serials.c.zone).where(followed).distinct()).scalars().all():
        kept = select(func.min(zone_serials.c.serial)).where(
            zone_serials.c.zone == zone, zone_serials.c.version >= oldest
        )
        lowest = connection.execute(kept).scalar()
        if lowest is not None:
            prune_zone(connection, zone, lowest)
    gone = connection.execute(delete(changes).where(changes.c.list == list_id, changes.c.version <= oldest))
    return gone.rowcount


def named_files(connection: Connection) -> set[Sha256]:
    """Every sealed file that a row still needs."""
    named: set[Sha256] = set()
    for list_id in connection.execute(select(lists.c.id)).scalars():
        named |= {version.sha256 for version in version_rows(connection, list_id, newest=KEPT_SNAPSHOTS)}
    for zone in connection.execute(select(zone_serials.c.zone).distinct()).scalars().all():
        newest = newest_serial(connection, zone)
        named |= {newest.rules, newest.wire, newest.names or newest.rules} if newest else set()
    for column in (list_sources.c.asserted, sources.c.asserted, sources.c.listed, sources.c.notes):
        named |= {digest for digest in connection.execute(select(column)).scalars() if digest}
    held = select(candidates.c.asserted).where(candidates.c.state == "held")
    return named | {digest for digest in connection.execute(held).scalars() if digest}


def sweep(store: Store, database: Database, *, unfinished: bool = False) -> int:
    """Removes the files that no row names; how many. Nothing may be sealing meanwhile. `unfinished`: files.sweep."""
    with database.read() as connection:
        named = named_files(connection)
    named |= bases(store.sealed, named)
    removed = store.sealed.sweep(named, unfinished=unfinished)
    if removed:
        log.info("swept %d files that nothing names any more", removed)
    return removed


def clear_work(store: Store) -> None:
    """Removes what jobs of an earlier daemon left unfinished."""
    shutil.rmtree(store.work, ignore_errors=True)
    store.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (store.diffs, store.ixfr):
        for leftover in folder.glob("*/.*"):
            leftover.unlink(missing_ok=True)
