"""The exact difference of any two kept versions, netted from the sealed deltas between them: an entry that one delta
adds and a later one removes is in neither part of the result."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from sqlalchemy import Connection, func, select

from blocklistd.lines.delta import DeltaPart, Form, Spread, in_turn, net
from blocklistd.model import ListId, Sha256, Version
from blocklistd.store.files import SealedFiles
from blocklistd.store.schema import versions
from blocklistd.store.verified import Verified


class Reach(enum.Enum):
    """Whether a difference between two versions can be made."""

    KEPT = "kept"
    TOO_OLD = "too old"
    """A delta between them was pruned."""
    NEVER = "never"
    """One of the versions never existed."""


def reach(newest: Version, oldest: Version, start: Version, end: Version) -> Reach:
    """Whether the difference from `start` to `end` can be made. `oldest`: the lowest version that a difference can
    start from."""
    low, high = sorted((start, end))
    if low < 1 or high > newest:
        return Reach.NEVER
    return Reach.TOO_OLD if low < oldest else Reach.KEPT


def deltas_between(connection: Connection, list_id: ListId, start: Version, end: Version) -> list[Sha256 | None]:
    """The deltas that lead from the lower to the higher of two versions, in order; None for each that is not kept."""
    low, high = sorted((start, end))
    rows = connection.execute(
        select(versions.c.delta)
        .where(versions.c.list == list_id, versions.c.version > low, versions.c.version <= high)
        .order_by(versions.c.version)
    )
    return list(rows.scalars())


def kept_deltas(connection: Connection, list_id: ListId, start: Version, end: Version) -> list[Sha256] | None:
    """`deltas_between`; None if one of them is not kept."""
    found = deltas_between(connection, list_id, start, end)
    kept = [digest for digest in found if digest is not None]
    return kept if len(kept) == len(found) else None


@contextmanager
def net_delta(
    files: SealedFiles,
    verified: Verified,
    form: Form,
    deltas: Sequence[Sha256],
    *,
    reverse: bool = False,
    spread: Spread = in_turn,
) -> Iterator[Iterator[DeltaPart]]:
    """Nets consecutive sealed deltas into one delta, part by part. `reverse`: the delta back to the lower version.

    Raises DamagedError if one is missing or damaged.
    """
    verified.require(*deltas)
    with ExitStack() as stack:
        yield net(form, [stack.enter_context(files.map(digest)) for digest in deltas], reverse=reverse, spread=spread)


def changes_between(connection: Connection, list_id: ListId, start: Version, end: Version) -> int:
    """How many lines the deltas between two versions have: an upper bound for the lines of their difference."""
    low, high = sorted((start, end))
    each = versions.c.added + versions.c.removed + 2 * versions.c.changed
    return int(
        connection.execute(
            select(func.coalesce(func.sum(each), 0)).where(
                versions.c.list == list_id, versions.c.version > low, versions.c.version <= high
            )
        ).scalar_one()
    )
