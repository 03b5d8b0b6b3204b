"""Lists and their versions: what is live, what it was made of, and the one transaction that makes the next."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from blocklistd.errors import StoreError
from blocklistd.lines import type_and_value
from blocklistd.model import CandidateId, ListId, Sha256, SourceId, Version, VersionInfo
from blocklistd.versions.database import Database
from blocklistd.versions.schema import candidates, changes, list_sources, lists, versions


@dataclass(frozen=True, slots=True)
class ListState:
    """A list as the store has it: `accepted` is what each source asserted when the live version was composed."""

    id: ListId
    session: str
    secret: bytes
    composition: str
    live: VersionInfo | None
    accepted: dict[SourceId, Sha256]


def ensure_list(connection: Connection, list_id: ListId, now: datetime) -> None:
    """Makes the list with its session and secret, unless it is there."""
    if connection.execute(select(lists.c.id).where(lists.c.id == list_id)).first() is None:
        connection.execute(
            lists.insert().values(
                id=list_id, session=str(uuid.uuid4()), secret=secrets.token_bytes(32), created=now, composition=""
            )
        )


def list_state(connection: Connection, list_id: ListId) -> ListState:
    """Raises StoreError where the list is not in the store."""
    row = connection.execute(select(lists).where(lists.c.id == list_id)).first()
    if row is None:
        raise StoreError(f"list {list_id} is not in the store: restart the daemon with it in the configuration")
    rows = connection.execute(
        select(list_sources.c.source, list_sources.c.asserted).where(list_sources.c.list == list_id)
    )
    accepted = {row.source: row.asserted for row in rows}
    live = next(version_rows(connection, list_id, newest=1), None)
    return ListState(list_id, row.session, row.secret, row.composition, live, accepted)


def version_rows(connection: Connection, list_id: ListId, newest: int | None = None) -> Iterator[VersionInfo]:
    """The list's versions, newest first."""
    rows = connection.execute(
        select(versions, lists.c.session)
        .join(lists, lists.c.id == versions.c.list)
        .where(versions.c.list == list_id)
        .order_by(versions.c.version.desc())
        .limit(newest)
    )
    return (_info(row) for row in rows)


def _info(row: Row[Any]) -> VersionInfo:
    return VersionInfo(
        list=row.list,
        session=row.session,
        version=row.version,
        time=row.time,
        entries=row.entries,
        length=row.length,
        sha256=row.sha256,
        added=row.added,
        removed=row.removed,
        canonicaliser=row.canonicaliser,
        released_by=row.released_by,
    )


def oldest_diff(connection: Connection, list_id: ListId) -> Version:
    """The lowest version that a difference can start from or lead to; 0 before the first version.

    The step to a version is in the log unless it was pruned or is the first: the version below the lowest logged step
    is the oldest that can be reached.
    """
    logged = connection.execute(
        select(func.min(versions.c.version)).where(versions.c.list == list_id, versions.c.logged == 1)
    ).scalar()
    newest = connection.execute(select(func.max(versions.c.version)).where(versions.c.list == list_id)).scalar()
    return Version(logged - 1 if logged is not None else newest or 0)


@dataclass(slots=True)
class Edit:
    """The next version while it is being written; the fields are set inside the `edit` block."""

    state: ListState
    number: Version
    connection: Connection
    snapshot: Sha256 | None = None
    length: int = 0
    entries: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {"added": 0, "removed": 0, "changed": 0})


@contextmanager
def edit(
    database: Database,
    state: ListState,
    *,
    now: datetime,
    canonicaliser: int,
    released_by: str,
    candidate: CandidateId | None,
    composition: str,
    accepted: dict[SourceId, Sha256],
) -> Iterator[Edit]:
    """One transaction that makes the version after `state.live`; nothing of it exists unless the block ends cleanly.

    A block that sets no snapshot takes the sources' new state over without a new version: nothing in the list changed.
    Raises StoreError if the list has moved on since `state` was read.
    """
    with database.write() as connection:
        current = (
            connection.execute(select(func.max(versions.c.version)).where(versions.c.list == state.id)).scalar() or 0
        )
        if current != (state.live.version if state.live else 0):
            raise StoreError(f"list {state.id} has moved on to version {current} meanwhile; the pull is to be repeated")
        draft = Edit(state, Version(current + 1), connection)
        yield draft
        if draft.snapshot is not None:
            connection.execute(
                versions.insert().values(
                    list=state.id,
                    version=draft.number,
                    time=max(now, state.live.time) if state.live else now,
                    entries=draft.entries,
                    length=draft.length,
                    sha256=draft.snapshot,
                    canonicaliser=canonicaliser,
                    released_by=released_by,
                    logged=int(state.live is not None),
                    **draft.counts,
                )
            )
        connection.execute(update(lists).where(lists.c.id == state.id).values(composition=composition))
        connection.execute(list_sources.delete().where(list_sources.c.list == state.id))
        for source, asserted in accepted.items():
            connection.execute(
                list_sources.insert().values(list=state.id, source=source, asserted=asserted, accepted=now)
            )
        if candidate is not None:
            connection.execute(
                update(candidates)
                .where(candidates.c.id == candidate)
                .values(state="released", decided=now, version=draft.number if draft.snapshot else current)
            )


def log_changes(
    connection: Connection, list_id: ListId, version: Version, steps: Iterable[tuple[int, Sequence[bytes]]]
) -> None:
    """Writes the step to `version`: (op, lines) with op +1 added or -1 removed."""
    rows = [
        {"list": list_id, "version": version, "op": op, "key": b"\0".join(type_and_value(line)), "line": line}
        for op, changed in steps
        for line in changed
    ]
    if rows:
        connection.execute(changes.insert(), rows)
