"""Freezes of lists, in the column `lists.frozen`: only corrections and rollbacks change a frozen list.

(not frozen) → frozen      `freeze`: `list freeze`, or the transaction of a rollback
frozen → (not frozen)      `resume`: `list resume`
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, null, select, update

from blocklistd.change import Freeze
from blocklistd.model import Act, ListId
from blocklistd.store.schema import lists
from blocklistd.times import rfc3339


def freeze_of(act: Act, why: str, now: datetime) -> Freeze:
    """The freeze that a user's command begins."""
    return Freeze(act.user, rfc3339(now), why)


def freeze(connection: Connection, list_id: ListId, frozen: Freeze) -> None:
    """Freezes a list, or replaces its freeze."""
    values = {"user": frozen.user, "time": frozen.time, "why": frozen.why}
    connection.execute(update(lists).where(lists.c.id == list_id).values(frozen=values))


def resume(connection: Connection, list_id: ListId) -> None:
    """Ends the freeze of a list."""
    connection.execute(update(lists).where(lists.c.id == list_id).values(frozen=null()))


def frozen_lists(connection: Connection) -> dict[ListId, Freeze]:
    """The frozen lists."""
    rows = connection.execute(select(lists.c.id, lists.c.frozen)).all()
    return {ListId(row.id): Freeze(**row.frozen) for row in rows if row.frozen}
