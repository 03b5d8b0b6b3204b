"""Which version of a source's own list each version of a list has, for sources that are lists of another blocklistd.

A row of `source_versions` says: from this version of the list on, the list has all that this version of the source
says, but for what its rules withhold. `note` adds rows, `held` finds the newest one for a version. A list may get no
new version from a version of the source, and a version of the list may come from elsewhere. A list that does not have
what its source said last (it was rolled back, or a key of the source is distrusted) has no rows until it has again.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, delete, func, select

from blocklistd.limits import RECEIPT_DAYS
from blocklistd.model import ListId, SourceId
from blocklistd.store.schema import list_sources, lists, sources, versions
from blocklistd.store.schema_served import source_versions

_POSITION: Final = re.compile(r"([0-9A-Za-z-]{1,64}) ([0-9]{1,18})")


class SourceVersion(NamedTuple):
    """A version of a source's own list. `time`: since when the list here has it."""

    session: str
    version: int
    time: datetime


def newest(connection: Connection, source: SourceId, settings: str) -> SourceVersion | None:
    """The version of the source's newest body, and when it was pulled; None if it is not known. `settings`: digest of
    the source's present configuration; a body that was read with another one does not count."""
    row = connection.execute(select(sources).where(sources.c.id == source, sources.c.settings == settings)).first()
    found = _POSITION.fullmatch(row.position or "") if row is not None else None
    if row is None or found is None or row.restored is not None:
        return None
    return SourceVersion(found[1], int(found[2]), row.last_accepted or row.last_pull)


def note(connection: Connection, source: SourceId, settings: str, list_id: ListId, now: datetime) -> None:
    """Adds a row if the list has what the newest body of the source says. Removes rows that are not true any more, and
    old ones."""
    table = source_versions
    ours = table.c.list == list_id, table.c.source == source
    row = connection.execute(select(sources).where(sources.c.id == source)).first()
    basis = connection.execute(select(lists.c.basis).where(lists.c.id == list_id)).scalar()
    if row is None or row.restored is not None or basis is not None:
        connection.execute(delete(table).where(*ours))
        return
    accepted = select(list_sources.c.accepted).where(list_sources.c.list == list_id, list_sources.c.source == source)
    live = connection.execute(select(func.max(versions.c.version)).where(versions.c.list == list_id)).scalar()
    found = newest(connection, source, settings)
    if found is None or not live or connection.execute(accepted).scalar() != row.offered:
        return
    same = table.c.session == found.session, table.c.source_version == found.version
    if connection.execute(select(table.c.version).where(*ours, *same)).first() is not None:
        return
    values = {"session": found.session, "source_version": found.version, "version": live, "time": now}
    connection.execute(table.insert().values(list=list_id, source=source, **values))
    old = table.c.time < now - timedelta(days=RECEIPT_DAYS), table.c.version < live
    connection.execute(delete(table).where(*ours, *old))


def held(connection: Connection, source: SourceId, list_id: ListId, version: int) -> SourceVersion | None:
    """The newest version of the source that a version of the list has; None if none is known."""
    table = source_versions
    rows = select(table.c.session, table.c.source_version, table.c.time).where(
        table.c.list == list_id, table.c.source == source, table.c.version <= version
    )
    newest_first = rows.order_by(table.c.version.desc(), table.c.time.desc(), table.c.source_version.desc())
    row = connection.execute(newest_first.limit(1)).first()
    return None if row is None else SourceVersion(*row)
