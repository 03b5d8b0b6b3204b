"""In which versions of a list an entry was, read from the kept deltas. Reads sealed files: call it in a thread.

A delta is sorted by key, so the search costs one binary search for each kept version. Before the oldest version from
which the deltas are kept without a gap, nothing is known of an entry that was live in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from blocklistd.errors import StoreError
from blocklistd.lines.delta import ENTRIES, offset_of_change
from blocklistd.lines.keys import Buffer, key_of
from blocklistd.model import ListId, Sha256, Version
from blocklistd.store.files import SealedFiles
from blocklistd.store.schema import versions


@dataclass(frozen=True, slots=True)
class Interval:
    """The versions from `added_in` to before `removed_in` (None: it is live). `added_in`: None if the entry was in the
    list before the oldest version that is known. `since`, `until`: the times of the two versions."""

    added_in: Version | None
    removed_in: Version | None
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class EntryVersions:
    """The intervals, oldest first. `known_from`: the oldest version that is known; None if all are known."""

    intervals: tuple[Interval, ...] = ()
    known_from: Version | None = None


def versions_of_entry(
    files: SealedFiles, connection: Connection, list_id: ListId, key: bytes, *, is_live: bool
) -> EntryVersions:
    """The versions that have the entry of this key (lines.keys.key_of). `is_live`: whether the live version has it."""
    query = select(versions.c.version, versions.c.time, versions.c.delta).where(versions.c.list == list_id)
    found = connection.execute(query.order_by(versions.c.version.desc())).all()
    rows = [(row.version, row.time, row.delta) for row in found]
    first = connection.execute(select(func.min(versions.c.version)).where(versions.c.list == list_id)).scalar()
    return _intervals(files, rows, first, key, is_live=is_live)


def _intervals(
    files: SealedFiles,
    rows: Iterable[tuple[int, datetime, Sha256 | None]],
    first: int | None,
    key: bytes,
    *,
    is_live: bool,
) -> EntryVersions:
    found: list[Interval] = []
    end: tuple[Version | None, datetime | None] = None, None
    is_in = is_live
    for version, time, delta in rows:  # newest first
        if version == first or delta is None:
            if is_in:
                came = (Version(version), time) if version == first else (None, None)
                found.append(Interval(came[0], end[0], came[1], end[1]))
            return EntryVersions(tuple(reversed(found)), None if version == first else Version(version))
        try:
            change = change_of(files, delta, key)
        except (StoreError, ValueError):
            if is_in:
                found.append(Interval(None, end[0], None, end[1]))
            return EntryVersions(tuple(reversed(found)), Version(version))
        if change == "added":
            found.append(Interval(Version(version), end[0], time, end[1]))
            is_in = False
        elif change == "removed":
            end, is_in = (Version(version), time), True
    return EntryVersions()


def change_of(files: SealedFiles, delta: Sha256, key: bytes) -> str | None:
    """What a sealed delta does to the entry of this key: `added`, `removed`, `changed`; None: nothing. Raises
    StoreError if the file is missing, ValueError if it is no delta."""
    with files.map(delta) as content:
        start = offset_of_change(ENTRIES, content, ENTRIES.keys([key + b"}"])[0])
        first, after = _line(content, start)
        if not first or key_of(ENTRIES.item(first)) != key:
            return None
        if first.startswith(ENTRIES.add):
            return "added"
        second, _ = _line(content, after)
        return "changed" if second and key_of(ENTRIES.item(second)) == key else "removed"


def _line(content: Buffer, start: int) -> tuple[bytes, int]:
    """The line at an offset, without its newline, and the offset of the next one. Empty at the end."""
    if start >= len(content):
        return b"", start
    end = content.find(b"\n", start)
    return bytes(content[start:end]), end + 1
