"""The exact difference of any two kept versions, netted from the change log."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from blocklistd.model import ListId, Version
from blocklistd.versions.schema import changes, versions


class Reach(enum.Enum):
    """Whether a difference can be made."""

    KEPT = "kept"
    TOO_OLD = "too old"
    NEVER = "never"


def reach(newest: Version, oldest: Version, start: Version, end: Version) -> Reach:
    """Where both ends stand among a list's versions: `oldest` is the lowest that a difference can start from."""
    low, high = sorted((start, end))
    if low < 1 or high > newest:
        return Reach.NEVER
    return Reach.TOO_OLD if low < oldest else Reach.KEPT


def net_changes(connection: Connection, list_id: ListId, start: Version, end: Version) -> Iterator[tuple[bytes, int]]:
    """(line, +1 | -1) of what `end` has and `start` has not, and the reverse, ordered by (type, value), -1 first.

    A line that left and came back nets to nothing, so the sum over the log is the difference, not merely its history.
    Both versions must be kept (`reach`).
    """
    low, high, sign = (start, end, 1) if start <= end else (end, start, -1)
    net = func.sum(changes.c.op * sign)
    rows = connection.execute(
        select(changes.c.line, net)
        .where(changes.c.list == list_id, changes.c.version > low, changes.c.version <= high)
        .group_by(changes.c.key, changes.c.line)
        .having(net != 0)
        .order_by(changes.c.key, net)
    )
    return ((line, int(op)) for line, op in rows)


def logged_changes(connection: Connection, list_id: ListId, start: Version, end: Version) -> int:
    """How many rows of the log lie between two versions: what a difference costs at most."""
    low, high = sorted((start, end))
    each = versions.c.added + versions.c.removed + 2 * versions.c.changed
    return int(
        connection.execute(
            select(func.coalesce(func.sum(each), 0)).where(
                versions.c.list == list_id, versions.c.version > low, versions.c.version <= high
            )
        ).scalar_one()
    )
