"""The audit: who did what, when. Lines are only appended, and each is chained to the one before by its hash.

A line's hash is the SHA-256 of the canonical JSON array [hash of the line before, number, time, actor, uid, action,
object, detail] in UTF-8; before line 1 it is 64 zeroes. The number and hash of the newest line, the *head*, are also
kept in a file outside the database (`HeadFile`): lines that were cut off at the end show by it. No line holds an entry.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, delete, select

from blocklistd.errors import store_errors
from blocklistd.events import Event
from blocklistd.model import Act
from blocklistd.store.schema import audit, meta, written

log: Final = logging.getLogger(__name__)

AUDITED: Final = "audited"  # in Connection.info: the transaction has written a line
AT_ONCE: Final = 1000  # lines that a check reads at once
_HEAD: Final = "{number:020d} {hash}\n"  # of one length, so that one write replaces it
_LEFT: Final = "audit-left"
_LENGTH: Final = 20 + 1 + 64 + 1


@dataclass(frozen=True, slots=True)
class Line:
    """One act. `uid` is None where nobody asked: the daemon released a change that no guard holds."""

    number: int
    time: datetime
    actor: str
    uid: int | None
    action: str
    object: str
    detail: dict[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The newest line: its number, from 1, and its hash. Number 0: there is none yet."""

    number: int
    hash: str


NONE: Final = Head(0, "0" * 64)
UNREADABLE: Final = Head(0, "")


def append(
    connection: Connection, act: Act, object: str, *, now: datetime, detail: Mapping[str, Any] | None = None
) -> None:
    """Appends a line in the caller's transaction, so that the change and its line are committed together.

    `object` is an id: of a candidate, source, subscriber, or a list and its version.
    """
    before = head(connection)
    values = {
        "number": before.number + 1,
        "time": now,
        "actor": act.user,
        "uid": act.uid,
        "action": act.action,
        "object": object,
        "detail": orjson.dumps(dict(detail or {}), option=orjson.OPT_SORT_KEYS).decode(),
    }
    connection.execute(audit.insert().values(hash=_hash(before.hash, values), **values))
    connection.info[AUDITED] = True


def head(connection: Connection) -> Head:
    row = connection.execute(select(audit.c.number, audit.c.hash).order_by(audit.c.number.desc()).limit(1)).first()
    return Head(row.number, row.hash) if row is not None else NONE


def leave(connection: Connection, kept: Head | None) -> dict[str, Any]:
    """Lets the head file begin anew where the lines up to its head `kept` are lost; else does nothing. Returns the
    detail for the audit line that records this. In the caller's transaction."""
    if kept in (None, UNREADABLE) or _has(connection, kept):
        return {}
    connection.execute(delete(meta).where(meta.c.key == _LEFT))
    connection.execute(meta.insert().values(key=_LEFT, value=_written(kept)))
    return {"audit_left": kept.number}


def newest(connection: Connection, count: int, before: int | None = None) -> list[Line]:
    """The last lines, or the last of those below the number `before`; oldest first."""
    rows = select(audit).order_by(audit.c.number.desc()).limit(count)
    if before is not None:
        rows = rows.where(audit.c.number < before)
    return [_line(row) for row in reversed(connection.execute(rows).all())]


def check(connection: Connection, kept: Head | None) -> str | None:
    """What is wrong with the audit, or None. `kept` is what the head file says."""
    last = NONE
    kept_found = kept in (None, NONE)
    for row in _rows(connection):
        number = last.number + 1
        if row.number != number:
            return f"{_lines(number, row.number - 1)} missing"
        last = Head(number, _hash(last.hash, row._mapping))
        if row.hash != last.hash:
            return f"line {number} is not what was written there: its hash is another"
        if kept is not None and kept.number == number:
            if kept != last:
                return f"line {number} was written anew: the head file has another hash for it"
            kept_found = True
    if kept == UNREADABLE:
        return "the head file can't be read: whether lines are missing at the end is not known"
    if kept is None and last != NONE:
        return "there is no head file: whether lines are missing at the end is not known"
    if kept is not None and not kept_found:
        return f"{_lines(last.number + 1, kept.number)} missing at the end: the head file has line {kept.number}"
    return None


def _lines(start: int, end: int) -> str:
    return f"line {start} is" if start == end else f"lines {start} to {end} are"


def _rows(connection: Connection) -> Iterator[Row[Any]]:
    """Every line by its number, some at a time."""
    last = None
    while True:
        query = select(audit).order_by(audit.c.number).limit(AT_ONCE)
        rows = connection.execute(query if last is None else query.where(audit.c.number > last)).all()
        yield from rows
        if len(rows) < AT_ONCE:
            return
        last = rows[-1].number


def _hash(before: str, values: Mapping[Any, Any]) -> str:
    fields = [values[name] for name in ("number", "time", "actor", "uid", "action", "object", "detail")]
    fields[1] = written(fields[1])
    return hashlib.sha256(orjson.dumps([before, *fields])).hexdigest()


def _line(row: Row[Any]) -> Line:
    fields = row._asdict()
    return Line(**(fields | {"detail": orjson.loads(fields["detail"])}))


class HeadFile:
    """The head, outside the database. It only moves forward, and only to a head of the same chain, unless `leave` has
    recorded that the chain's lines are lost."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Head | None:
        """None where there is no file yet; UNREADABLE where something else is in it. Raises StoreError."""
        with store_errors(self.path):
            try:
                text = self.path.read_text(errors="replace")
            except FileNotFoundError:
                return None
        number, _, digest = text.strip().partition(" ")
        if not text:
            return None
        return Head(int(number), digest) if len(text) == _LENGTH and number.isdecimal() else UNREADABLE

    def advance(self, connection: Connection) -> None:
        """Takes over the head of the database, if that continues what the file has; else the file stays as it is, for
        `audit verify` to show what is missing. `connection` has read nothing yet: what it reads is what is there once
        this has the lock. Raises StoreError where the file can't be written."""
        with store_errors(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                newest = head(connection)  # behind the lock: no other can have read a later one and written it
                kept = self.read() or NONE
                if not _has(connection, kept):
                    Event.AUDIT_BROKEN.log(log, file=self.path)
                elif newest != kept:
                    os.pwrite(descriptor, _written(newest).encode(), 0)
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _written(head: Head) -> str:
    return _HEAD.format(number=head.number, hash=head.hash)


def _has(connection: Connection, kept: Head) -> bool:
    """Whether the database has the line, or `leave` has recorded it as lost."""
    if kept == NONE:
        return True
    if connection.execute(select(meta.c.value).where(meta.c.key == _LEFT)).scalar() == _written(kept):
        return True
    return connection.execute(select(audit.c.hash).where(audit.c.number == kept.number)).scalar() == kept.hash
