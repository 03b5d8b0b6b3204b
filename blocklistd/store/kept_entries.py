"""Entries that a person has confirmed (`entry keep`): their lifetimes begin again at that time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, select

from blocklistd.model import Act, Entry, ListId
from blocklistd.store.schema import kept_entries
from blocklistd.times import rfc3339


def kept(connection: Connection, list_id: ListId) -> dict[bytes, bytes]:
    """For the key of each kept entry of a list the instant at which it was confirmed."""
    rows = connection.execute(select(kept_entries).where(kept_entries.c.list == list_id))
    return {Entry(row.type, row.value).line().removesuffix(b"}"): rfc3339(row.time).encode() for row in rows}


def keep(
    connection: Connection, list_id: ListId, entries: Iterable[tuple[str, str]], why: str, act: Act, now: datetime
) -> None:
    """Records that entries, by type and value, are confirmed now."""
    here = kept_entries.c.list == list_id
    for kind, value in entries:
        connection.execute(
            kept_entries.delete().where(here, kept_entries.c.type == kind, kept_entries.c.value == value)
        )
        connection.execute(
            kept_entries.insert().values(list=list_id, type=kind, value=value, time=now, user=act.user, why=why)
        )
