"""The changes of versions that were released without a person: for the daily guards."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, select

from blocklistd.change import ChangeKind
from blocklistd.model import AUTO, ListId, Sha256
from blocklistd.store.schema import versions


def changed_automatically(connection: Connection, list_id: ListId, since: datetime) -> tuple[int, int]:
    """How many entries were added, and how many removed, by the versions after `since` that were released without an
    approval. The list's first version does not count, nor do expiries that add nothing."""
    query = select(func.sum(versions.c.added), func.sum(versions.c.removed))
    added, removed = connection.execute(query.where(*_counted(list_id, since))).one()
    return int(added or 0), int(removed or 0)


def automatic_deltas(connection: Connection, list_id: ListId, since: datetime) -> list[Sha256]:
    """The deltas of the versions that `changed_automatically` counts."""
    query = select(versions.c.delta).where(*_counted(list_id, since), versions.c.delta.is_not(None))
    return [Sha256(row.delta) for row in connection.execute(query)]


def _counted(list_id: ListId, since: datetime) -> tuple[ColumnElement[bool], ...]:
    here = versions.c.list == list_id
    first = select(func.min(versions.c.version)).where(here).scalar_subquery()
    counts = (versions.c.kind != ChangeKind.EXPIRY) | (versions.c.added > 0)
    return here, versions.c.time > since, versions.c.version > first, versions.c.released_by == AUTO.user, counts
