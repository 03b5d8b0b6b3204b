"""Lists and their versions: the live version, what it was composed from, and the release of the next one.

In the database: a row of `lists` for each list, a row of `versions` for each version (the highest is live), and in
`list_sources` the entries of each source that the live version was composed from. Order of calls: `ensure_list` once,
then for each change `list_state`, and `release` with that state; it fails if another version was released meanwhile. A
version's delta is dropped by upkeep.prune, or by `drop_delta` if its file is lost; its row stays.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from blocklistd.errors import StoreError
from blocklistd.lines.ids import BLAKE2B, Ids
from blocklistd.model import (
    AUTO,
    CandidateId,
    Change,
    ChangeKind,
    ListId,
    Policy,
    Sha256,
    SourceId,
    Version,
    VersionInfo,
)
from blocklistd.store.numbers import start_above_number
from blocklistd.store.schema import candidates, list_sources, lists, versions


@dataclass(frozen=True, slots=True)
class ListState:
    """A list in the store. `policy`, `accepted` (the sealed entries of each source): what the live version was composed
    from; before the first version the policy is None. `withheld`: count of withheld entries by rule; None if no version
    has counted them yet."""

    id: ListId
    session: str
    ids: Ids
    policy: Policy | None
    live: VersionInfo | None
    accepted: dict[SourceId, Sha256]
    withheld: dict[str, int] | None = None

    @property
    def version(self) -> Version:
        """The live version; 0 before the first."""
        return self.live.version if self.live else Version(0)

    def is_composed_from(self, change: Change) -> bool:
        """Whether the live version was composed from the change's sources under its policy."""
        return self.live is not None and (self.accepted, self.policy) == (change.sources, change.policy)


def ensure_list(connection: Connection, list_id: ListId, now: datetime) -> None:
    """Makes the list, with its session and secret, if it does not exist."""
    if connection.execute(select(lists.c.id).where(lists.c.id == list_id)).first() is None:
        connection.execute(
            lists.insert().values(
                id=list_id, session=str(uuid.uuid4()), secret=secrets.token_bytes(32), ids=BLAKE2B, created=now
            )
        )


def list_state(connection: Connection, list_id: ListId) -> ListState:
    """The state of a list. Raises StoreError if the list is not in the store."""
    row = connection.execute(select(lists).where(lists.c.id == list_id)).first()
    if row is None:
        raise StoreError(f"list {list_id} is not in the store: restart the daemon with it in the configuration")
    rows = connection.execute(
        select(list_sources.c.source, list_sources.c.accepted).where(list_sources.c.list == list_id)
    )
    accepted = {row.source: row.accepted for row in rows}
    live = next(version_rows(connection, list_id, newest=1), None)
    policy = Policy.from_json(row.policy) if row.policy else None
    return ListState(list_id, row.session, Ids(row.ids, row.secret), policy, live, accepted, row.withheld)


def version_rows(connection: Connection, list_id: ListId, newest: int | None = None) -> Iterator[VersionInfo]:
    """The list's versions, newest first. `newest`: the number of versions at most; None: all."""
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
        changed=row.changed,
        canonicaliser=row.canonicaliser,
        kind=ChangeKind(row.kind),
        cause=row.cause,
        released_by=row.released_by,
        delta=row.delta,
    )


def oldest_diff(connection: Connection, list_id: ListId) -> Version:
    """The lowest version that a difference can start from or lead to; 0 before the first version.

    That is the newest version without a delta: the first, the last one whose delta was pruned, or one whose delta was
    lost.
    """
    rows = select(func.max(versions.c.version)).where(versions.c.list == list_id)
    return Version(connection.execute(rows.where(versions.c.delta.is_(None))).scalar() or 0)


def changed_automatically(connection: Connection, list_id: ListId, since: datetime) -> tuple[int, int]:
    """How many entries were added, and how many removed, by the versions after `since` that were released without an
    approval. The list's first version does not count."""
    here = versions.c.list == list_id
    first = select(func.min(versions.c.version)).where(here).scalar_subquery()
    added, removed = connection.execute(
        select(func.sum(versions.c.added), func.sum(versions.c.removed)).where(
            here, versions.c.time > since, versions.c.released_by == AUTO.user, versions.c.version > first
        )
    ).one()
    return int(added or 0), int(removed or 0)


def files_of_versions(connection: Connection, list_id: ListId) -> set[Sha256]:
    """The snapshots and deltas of all versions, including snapshots whose files are not kept."""
    rows = connection.execute(select(versions.c.sha256, versions.c.delta).where(versions.c.list == list_id)).all()
    return {digest for row in rows for digest in row if digest}


def versions_of(connection: Connection, list_id: ListId, deltas: Collection[Sha256]) -> dict[Version, Sha256]:
    """The versions of a list whose delta is one of these; for each version its delta."""
    rows = connection.execute(
        select(versions.c.version, versions.c.delta).where(versions.c.list == list_id, versions.c.delta.in_(deltas))
    )
    return {row.version: row.delta for row in rows}


def drop_delta(connection: Connection, list_id: ListId, version: Version) -> None:
    """Drops the delta of a version, whose file is lost: differences then start at this version."""
    here = versions.c.list == list_id, versions.c.version == version
    connection.execute(update(versions).where(*here).values(delta=None))


@dataclass(frozen=True, slots=True)
class NewVersion:
    """The sealed files of a new version, the length of its snapshot in bytes, and its counts of entries."""

    snapshot: Sha256
    length: int
    delta: Sha256 | None
    entries: int
    added: int
    removed: int
    changed: int


def release(
    connection: Connection,
    state: ListState,
    change: Change,
    made: NewVersion | None,
    *,
    now: datetime,
    canonicaliser: int,
    released_by: str,
    candidate: CandidateId | None,
    withheld: dict[str, int] | None = None,
) -> Version:
    """Makes the version after `state.live` and records the change's sources and policy, in the caller's transaction.

    `made`: None if the change alters no entry; there is then no new version. `candidate`: the held candidate that this
    releases. `withheld`: count of withheld entries by rule; None if not counted. Returns the live version. Raises
    StoreError if another version was released since `state` was read.
    """
    current = connection.execute(select(func.max(versions.c.version)).where(versions.c.list == state.id)).scalar() or 0
    if current != state.version:
        raise StoreError(f"list {state.id} has version {current} now, which was released meanwhile: pull again")
    live = Version(current)
    if made is not None:
        live = Version(max(current, start_above_number(connection)) + 1)
        connection.execute(
            versions.insert().values(
                list=state.id,
                version=live,
                time=max(now, state.live.time) if state.live else now,
                entries=made.entries,
                length=made.length,
                sha256=made.snapshot,
                delta=made.delta,
                added=made.added,
                removed=made.removed,
                changed=made.changed,
                canonicaliser=canonicaliser,
                kind=change.kind,
                cause=change.cause,
                released_by=released_by,
            )
        )
    connection.execute(
        update(lists).where(lists.c.id == state.id).values(policy=change.policy.to_json(), withheld=withheld)
    )
    connection.execute(list_sources.delete().where(list_sources.c.list == state.id))
    for source, accepted in change.sources.items():
        connection.execute(list_sources.insert().values(list=state.id, source=source, accepted=accepted, time=now))
    if candidate is not None:
        connection.execute(
            update(candidates).where(candidates.c.id == candidate).values(state="released", decided=now, version=live)
        )
    return live
