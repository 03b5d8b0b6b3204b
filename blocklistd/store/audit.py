"""The audit: who did what, and when. Lines are only appended, and each contains the hash of the line before.

In the database: a row of `audit` for each line. Its hash is the SHA-256 of the canonical JSON array [hash of the line
before, number, time, actor, uid, action, object, detail] in UTF-8; before line 1 that hash is 64 zeroes. No line
contains an entry.

On the disk: the head file (`HeadFile`) with the number and hash of the newest line, the *head*. If lines are removed at
the end of the table, the head file shows it. Order of writes:

1. `append` in the transaction of the change, so that both are committed together.
2. `HeadFile.advance` after the commit. If the file can't be written, a later line advances it.

If the database does not have the line of the head file, the file stays as it is until `record_loss` records that these
lines are lost (`start-above`).
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, delete, func, select

from blocklistd.errors import store_errors
from blocklistd.events import Event
from blocklistd.model import Act
from blocklistd.store.schema import audit, meta, time_text

log: Final = logging.getLogger(__name__)

AUDITED: Final = "audited"  # key in Connection.info: the transaction has appended a line
AT_ONCE: Final = 1000  # lines that a check reads with one query
_HEAD: Final = "{number:020d} {hash}\n"  # of a fixed length, so that one write replaces it
_LOST_HEAD: Final = "audit-left"  # key in `meta`: the head whose lines are recorded as lost
_LENGTH: Final = 20 + 1 + 64 + 1  # bytes of _HEAD


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the audit. `uid` is None if the daemon acted by itself: it released a change that no guard holds."""

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
    """The number (from 1) and the hash of the newest line."""

    number: int
    hash: str


NONE: Final = Head(0, "0" * 64)
"""The head of an audit without lines."""
UNREADABLE: Final = Head(0, "")
"""Stands for a head file with unexpected content."""


def append(
    connection: Connection, act: Act, object: str, *, now: datetime, detail: Mapping[str, Any] | None = None
) -> None:
    """Appends a line in the caller's transaction, so that the change and its line are committed together.

    `object` is the id of a candidate, source or subscriber, or a list and its version. `detail`: ids and figures, never
    an entry.
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
    """The head as the database has it; NONE if there are no lines."""
    row = connection.execute(select(audit.c.number, audit.c.hash).order_by(audit.c.number.desc()).limit(1)).first()
    return Head(row.number, row.hash) if row is not None else NONE


def first_number(connection: Connection) -> int | None:
    """The number of the first line; None without any."""
    return connection.execute(select(func.min(audit.c.number))).scalar()


def record_loss(connection: Connection, kept: Head | None) -> dict[str, Any]:
    """Records that the lines up to `kept`, the head file's head, are lost, if the database does not have that line.

    The head file may then follow the database again. Runs in the caller's transaction. Returns the detail for the audit
    line of this act; empty if nothing is lost.
    """
    if kept in (None, UNREADABLE) or has_line(connection, kept):
        return {}
    connection.execute(delete(meta).where(meta.c.key == _LOST_HEAD))
    connection.execute(meta.insert().values(key=_LOST_HEAD, value=_written(kept)))
    return {"audit_left": kept.number}


def newest(connection: Connection, count: int, before: int | None = None) -> list[Line]:
    """The last `count` lines, or the last ones with a number below `before`; oldest first."""
    rows = select(audit).order_by(audit.c.number.desc()).limit(count)
    if before is not None:
        rows = rows.where(audit.c.number < before)
    return [_line(row) for row in reversed(connection.execute(rows).all())]


def newest_of_people(connection: Connection, count: int, among: int, without: Collection[str]) -> list[Line]:
    """The last `count` lines that a person caused, of the last `among` lines; the newest first. `without`: actions that
    do not count."""
    lowest = head(connection).number - among
    decided = audit.c.uid.is_not(None), audit.c.action.not_in(list(without))
    rows = select(audit).where(audit.c.number > lowest, *decided).order_by(audit.c.number.desc())
    return [_line(row) for row in connection.execute(rows.limit(count))]


def lines_of(connection: Connection, object: str) -> list[Line]:
    """All lines of one object, oldest first."""
    rows = select(audit).where(audit.c.object == object).order_by(audit.c.number)
    return [_line(row) for row in connection.execute(rows)]


def check(connection: Connection, kept: Head | None) -> str | None:
    """Verifies the chain of hashes; returns the first fault, or None. `kept`: the content of the head file."""
    last = NONE
    kept_was_found = kept in (None, NONE)
    for row in _rows(connection):
        number = last.number + 1
        if row.number != number:
            return f"{_lines(number, row.number - 1)} missing"
        last = Head(number, _hash(last.hash, row._mapping))
        if row.hash != last.hash:
            return f"line {number} was changed: its content does not match its hash"
        if kept is not None and kept.number == number:
            if kept != last:
                return f"line {number} was replaced: the head file has another hash for it"
            kept_was_found = True
    if kept == UNREADABLE:
        return "the head file can't be read: lines may be missing at the end"
    if kept is None and last != NONE:
        return "there is no head file: lines may be missing at the end"
    if kept is not None and not kept_was_found:
        return f"{_lines(last.number + 1, kept.number)} missing at the end: the head file has line {kept.number}"
    return None


def _lines(start: int, end: int) -> str:
    return f"line {start} is" if start == end else f"lines {start} to {end} are"


def _rows(connection: Connection) -> Iterator[Row[Any]]:
    """All rows in the order of their numbers, AT_ONCE in each query."""
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
    fields[1] = time_text(fields[1])
    return hashlib.sha256(orjson.dumps([before, *fields])).hexdigest()


def _line(row: Row[Any]) -> Line:
    fields = row._asdict()
    return Line(**(fields | {"detail": orjson.loads(fields["detail"])}))


class HeadFile:
    """The file that keeps the head outside the database. It only advances, and only along the same chain of lines,
    unless `record_loss` has recorded that lines are lost."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Head | None:
        """The head in the file; None if the file is missing or empty, UNREADABLE for other content.

        Raises StoreError.
        """
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
        """Writes the database's head to the file and syncs it, if the database has the line that the file has.

        Otherwise the file stays as it is, so that `audit verify` can report the missing lines. `connection` must not
        have read anything before: its view has to begin after the file is locked. Raises StoreError if the file can't
        be written.
        """
        with store_errors(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                newest = head(connection)  # read under the lock: no other process can have written a later head
                kept = self.read() or NONE
                if not has_line(connection, kept):
                    Event.AUDIT_BROKEN.log(log, file=self.path)
                elif newest != kept:
                    os.pwrite(descriptor, _written(newest).encode(), 0)
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _written(head: Head) -> str:
    return _HEAD.format(number=head.number, hash=head.hash)


def has_line(connection: Connection, kept: Head) -> bool:
    """Whether the database has the line of this head, or `record_loss` has recorded it as lost."""
    if kept == NONE:
        return True
    if connection.execute(select(meta.c.value).where(meta.c.key == _LOST_HEAD)).scalar() == _written(kept):
        return True
    return connection.execute(select(audit.c.hash).where(audit.c.number == kept.number)).scalar() == kept.hash
