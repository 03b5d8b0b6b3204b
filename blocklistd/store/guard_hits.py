"""The entries that guard files withhold from a list's live version, in the table `guard_hits`: at most MAX_HITS.

`update` runs in the transaction of each version. A list that was composed in full replaces its rows, except that an
entry that was there keeps its `since`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from blocklistd.compose.compose import Hit
from blocklistd.limits import MAX_HITS
from blocklistd.model import ListId
from blocklistd.store.schema import guard_hits


def of_list(connection: Connection, list_id: ListId) -> list[Row[Any]]:
    """The rows of a list, by rule and id."""
    query = select(guard_hits).where(guard_hits.c.list == list_id)
    return list(connection.execute(query.order_by(guard_hits.c.rule, guard_hits.c.entry)).all())


def count(connection: Connection, list_id: ListId) -> int:
    """The number of the entries of a list."""
    query = select(func.count()).where(guard_hits.c.list == list_id)
    return int(connection.execute(query).scalar_one())


def update(
    connection: Connection, list_id: ListId, hits: Collection[Hit], no_hits: Collection[str] | None, now: datetime
) -> None:
    """Records the `hits` of a version; of entries to which sources gave the same id, one. `no_hits`: ids of the entries
    that are withheld no more; None: all that are not among the hits."""
    since = {row.entry: row.since for row in of_list(connection, list_id)}
    removed = since.keys() if no_hits is None else {*no_hits, *(hit.id for hit in hits)} & since.keys()
    for entry in removed:
        connection.execute(guard_hits.delete().where(guard_hits.c.list == list_id, guard_hits.c.entry == entry))
    by_id = {hit.id: hit for hit in hits}
    for hit in list(by_id.values())[: max(0, MAX_HITS - count(connection, list_id))]:
        connection.execute(
            guard_hits.insert().values(
                list=list_id,
                entry=hit.id,
                rule=hit.rule,
                type=hit.type,
                value=hit.value,
                since=since.get(hit.id, now),
            )
        )
