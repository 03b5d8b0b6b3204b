"""Entries that a person has confirmed (`entry keep`): their lifetimes begin again at that time."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, select

from blocklistd.model import Act, Entry, ListId
from blocklistd.store.asserted import open_assertion
from blocklistd.store.files import SealedFiles
from blocklistd.store.schema import kept_entries, list_sources
from blocklistd.times import rfc3339


class KeptEntry(NamedTuple):
    """An entry that a person has confirmed at `time`."""

    type: str
    value: str
    time: datetime

    @property
    def key(self) -> bytes:
        """The key of the entry's line (lines.keys.key_of)."""
        return Entry(self.type, self.value).line().removesuffix(b"}")


def kept(connection: Connection, list_id: ListId) -> dict[bytes, bytes]:
    """For the key of each kept entry of a list the instant at which it was confirmed."""
    return {one.key: rfc3339(one.time).encode() for one in _of_list(connection, list_id)}


def _of_list(connection: Connection, list_id: ListId) -> list[KeptEntry]:
    rows = connection.execute(select(kept_entries).where(kept_entries.c.list == list_id))
    return [KeptEntry(row.type, row.value, row.time) for row in rows]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """That a person has confirmed an entry: by whom, when and why."""

    user: str
    time: datetime
    why: str


def confirmation(connection: Connection, list_id: ListId, kind: str, value: str) -> Confirmation | None:
    """The newest confirmation of an entry of a list; None if nobody has kept it."""
    here = kept_entries.c.list == list_id, kept_entries.c.type == kind, kept_entries.c.value == value
    row = connection.execute(select(kept_entries).where(*here)).first()
    return None if row is None else Confirmation(row.user, row.time, row.why)


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


def unasserted(files: SealedFiles, connection: Connection, list_id: ListId) -> list[KeptEntry]:
    """The kept entries that are in no source's accepted entries any more. A source that asserts one again begins a new
    lifetime by that, so the confirmation has no effect. Reads sealed files; raises StoreError."""
    found = _of_list(connection, list_id)
    accepted = select(list_sources.c.accepted).where(list_sources.c.list == list_id)
    with ExitStack() as stack:
        for digest in connection.execute(accepted).scalars().all() if found else ():
            _, lines = stack.enter_context(open_assertion(files, digest))
            found = [one for one in found if lines.find(one.key) is None]
    return found


def forget(connection: Connection, list_id: ListId, entries: Collection[KeptEntry]) -> None:
    """Removes these kept entries, unless they were confirmed again meanwhile."""
    for one in entries:
        here = kept_entries.c.type == one.type, kept_entries.c.value == one.value, kept_entries.c.time == one.time
        connection.execute(kept_entries.delete().where(kept_entries.c.list == list_id, *here))
