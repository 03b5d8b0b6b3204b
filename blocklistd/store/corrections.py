"""The corrections of a list, in the table `corrections`. Each withholds one entry while it is in force.

    (new) → in force     `place`, in the transaction of the version without the entry
    in force → in force  `request_end`: a person asks for its end, or `until` has passed (counted in `requests`)
    in force → ended     `lift`, in the transaction of the version that has the entry again

An entry has at most one correction of each kind in force. Rows are kept for ever: they explain old versions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from blocklistd.change import Correction, CorrectionKind
from blocklistd.model import Act, ListId, Version
from blocklistd.store.schema import corrections
from blocklistd.times import rfc3339


def in_force(connection: Connection, list_id: ListId) -> tuple[Correction, ...]:
    """The corrections of a list that are in force, oldest first."""
    here = corrections.c.list == list_id, corrections.c.ended.is_(None)
    rows = connection.execute(select(corrections).where(*here).order_by(corrections.c.number)).all()
    return tuple(map(_correction, rows))


def has_any(connection: Connection, list_id: ListId) -> bool:
    """Whether an entry of the list was ever corrected."""
    return connection.execute(select(corrections.c.number).where(corrections.c.list == list_id)).first() is not None


def counts(connection: Connection) -> dict[ListId, dict[str, int]]:
    """By list and kind: how many corrections are in force."""
    here = corrections.c.ended.is_(None)
    rows = connection.execute(
        select(corrections.c.list, corrections.c.kind, func.count())
        .where(here)
        .group_by(corrections.c.list, corrections.c.kind)
    )
    found: dict[ListId, dict[str, int]] = {}
    for list_id, kind, count in rows:
        found.setdefault(list_id, {})[kind] = count
    return found


def place(
    connection: Connection,
    list_id: ListId,
    placed: Iterable[Correction],
    act: Act,
    now: datetime,
    version: Version | None,
) -> None:
    """Puts corrections in force. `version`: the version without their entries; None if no version was made."""
    for one in placed:
        connection.execute(
            corrections.insert().values(
                list=list_id,
                kind=one.kind.value,
                type=one.type,
                value=one.value,
                entry=one.entry,
                why=one.why,
                owner=one.owner,
                until=one.until,
                created=now,
                user=act.user,
                uid=act.uid,
                version=version,
                requests=0,
            )
        )


def request_end(connection: Connection, number: int) -> int:
    """Counts a request to end a correction. Returns how often its end was requested."""
    here = corrections.c.number == number
    connection.execute(update(corrections).where(here).values(requests=corrections.c.requests + 1))
    return int(connection.execute(select(corrections.c.requests).where(here)).scalar_one())


def lift(connection: Connection, numbers: Collection[int], user: str, now: datetime) -> None:
    """Ends corrections. `user`: who ends them; `auto`: their time has passed."""
    here = corrections.c.number.in_(numbers), corrections.c.ended.is_(None)
    connection.execute(update(corrections).where(*here).values(ended=now, ended_by=user))


def _correction(row: Row[Any]) -> Correction:
    return Correction(
        number=row.number,
        kind=CorrectionKind(row.kind),
        type=row.type,
        value=row.value,
        entry=row.entry,
        why=row.why,
        until=row.until,
        owner=row.owner,
        created=row.created,
        user=row.user,
    )


def for_audit(placed: Collection[Correction]) -> tuple[str, dict[str, Any]]:
    """The object (the ids) and the detail of the audit's line for corrections that one command places."""
    one = next(iter(placed))
    until = rfc3339(one.until) if one.until is not None else None
    given = {"kind": one.kind.value, "why": one.why, "until": until, "owner": one.owner}
    return " ".join(one.entry for one in placed), {name: value for name, value in given.items() if value}
