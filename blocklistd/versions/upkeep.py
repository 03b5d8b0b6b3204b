"""What keeps the store small and whole: retention of the change log, the sweep of files that nothing names."""

from __future__ import annotations

import contextlib
import logging
import shutil
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, select, update

from blocklistd.limits import KEPT_SNAPSHOTS, MIN_KEPT_VERSIONS, RESERVE
from blocklistd.model import ListId, Sha256, Version
from blocklistd.versions.asserted import bases, discard, intact
from blocklistd.versions.database import Database
from blocklistd.versions.lists import oldest_diff, version_rows
from blocklistd.versions.render import CHUNKS, SUFFIX
from blocklistd.versions.schema import candidates, changes, list_sources, lists, sources, versions, zone_serials
from blocklistd.versions.store import Store
from blocklistd.versions.zones import newest_serial, prune_zone

log: Final = logging.getLogger(__name__)
RESERVED: Final = "reserve"


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
            zone_serials.c.zone == zone, followed, zone_serials.c.version >= oldest
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


def sweep(store: Store, database: Database) -> int:
    """Removes the files that no row names; how many. Nothing may be sealing meanwhile."""
    with database.read() as connection:
        named = named_files(connection)
    named |= bases(store.sealed, named)
    removed = store.sealed.sweep(named)
    if removed:
        log.info("swept %d files that nothing names any more", removed)
    return removed


def discard_damaged(store: Store, database: Database) -> None:
    """Looks at what the sources assert; what is damaged or gone is read anew at its source's next pull, whatever the
    hotline says of a change, and no list is composed of it until then. Nothing may be sealing meanwhile."""
    files = store.sealed
    with database.read() as connection:
        asserted = select(list_sources.c.asserted).union(select(sources.c.asserted))
        damaged = [found for found in connection.execute(asserted).scalars() if found and not intact(files, found)]
    for digest in damaged:
        log.error("sealed file %s: what a source asserted is missing or damaged: its next pull reads all of it", digest)
        discard(files, digest)
        with database.write() as connection:
            connection.execute(update(sources).where(sources.c.asserted == digest).values(url=None))


def clear_work(store: Store) -> None:
    """Removes what jobs of an earlier daemon left unfinished, and all renderings: no digest in their names says whether
    they are still what was written, and each can be made again. The reserve goes first."""
    (store.state_dir / RESERVED).unlink(missing_ok=True)
    for folder in (store.work, store.diffs, store.ixfr):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in store.sealed.root.glob("??/*"):
        if path.name.startswith(".") or path.suffix in (*SUFFIX.values(), CHUNKS):
            path.unlink(missing_ok=True)


def reserve(store: Store) -> None:
    """Room for the next start, should the disk be full by then: even to read, the database needs some."""
    with contextlib.suppress(OSError):  # as much of it as there is
        (store.state_dir / RESERVED).write_bytes(b"\0" * RESERVE)
