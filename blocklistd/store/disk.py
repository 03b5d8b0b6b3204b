"""The free space of the disk over time: one sample for each UTC day, as one value of `meta`."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Connection, delete, insert, select

from blocklistd.limits import DISK_SAMPLES
from blocklistd.store.schema import meta

_KEY: Final = "disk"


class DiskSample(NamedTuple):
    """The free space and the size of the file system, in bytes, as of the last look on a day."""

    day: date
    free: int
    size: int


def samples(connection: Connection) -> list[DiskSample]:
    """The samples, the oldest first."""
    found: str | None = connection.execute(select(meta.c.value).where(meta.c.key == _KEY)).scalar()
    rows: list[list[Any]] = orjson.loads(found) if found else []
    return [DiskSample(date.fromisoformat(day), free, size) for day, free, size in rows]


def record(connection: Connection, now: datetime, free: int, size: int) -> None:
    """Records the sample of a day in place of an earlier one of that day. The newest DISK_SAMPLES are kept."""
    today = now.astimezone(UTC).date()
    kept = [one for one in samples(connection) if one.day < today][-(DISK_SAMPLES - 1) :]
    rows = [(one.day.isoformat(), one.free, one.size) for one in (*kept, DiskSample(today, free, size))]
    connection.execute(delete(meta).where(meta.c.key == _KEY))
    connection.execute(insert(meta).values(key=_KEY, value=orjson.dumps(rows).decode()))
