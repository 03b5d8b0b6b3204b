"""Since when each entry of a list is live, or is asserted by a source: one time for all, and a sealed file with the
exceptions.

A line of the file is the key of an entry, followed by its time; the lines are sorted. A small change of a large file is
a patch of it (lines/patched.py). A row names the file (`ages`) and has the time (`ages_since`): that of the list in
`lists` (live since), and that of each source of a list in `list_sources` (asserted since).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson

from blocklistd.compose.figures import aligned_parts
from blocklistd.compose.lifetimes import lines_by_key
from blocklistd.limits import PATCH_SHARE
from blocklistd.lines.keys import Buffer
from blocklistd.lines.patched import PatchedLines
from blocklistd.model import Sha256
from blocklistd.store.asserted import open_assertion
from blocklistd.store.files import SealedFiles
from blocklistd.times import rfc3339

UNKNOWN: Final = datetime.min.replace(tzinfo=UTC)
"""The default of ages whose time is not known. It is never stored or shown."""
LEAST_PATCH = 1 << 16  # bytes of a base below which no patch is written


@dataclass(frozen=True, slots=True)
class StoredAges:
    """Ages as a row has them. `file`: the exceptions; None: there are none. `since`: the time of all others."""

    file: Sha256 | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Ages:
    """Opened ages. `default`: since when entries are live that are not among `exceptions`. `base`: the sealed file of
    which the exceptions are a patch; None: there are none."""

    default: datetime
    exceptions: PatchedLines
    base: Sha256 | None = None

    def since(self, key: bytes) -> datetime:
        """Since when the entry of this key is live."""
        line = self.exceptions.find(key)
        return self.default if line is None else since_of(line)

    def is_exception(self, key: bytes) -> bool:
        """Whether the key has a time of its own."""
        return self.exceptions.find(key) is not None


@contextmanager
def open_ages(files: SealedFiles, digest: Sha256 | None, default: datetime) -> Iterator[Ages]:
    """Opens the ages for reading. Raises StoreError if the file is missing or damaged."""
    with open_assertion(files, digest) as (base, exceptions):
        yield Ages(default, exceptions, base)


def age_line(key: bytes, since: datetime) -> bytes:
    """The line of an exception, without its newline."""
    return b'%b,"since":"%b"}' % (key, rfc3339(since).encode())


def since_of(line: bytes) -> datetime:
    """The time in the line of an exception."""
    return datetime.fromisoformat(orjson.loads(line)["since"])


def update(
    files: SealedFiles, ages: Ages, removed: Collection[bytes], added: Collection[bytes], now: datetime
) -> Sha256 | None:
    """Seals the ages after a small change: without the `removed` keys, with the `added` keys since `now`. Returns the
    digest of the new file; None if there are no exceptions."""
    old = [line for key in removed if (line := ages.exceptions.find(key)) is not None]
    made = ages.exceptions.updated(old, [age_line(key, now) for key in added])
    base: Buffer = made.base
    if not len(made) and not base:
        return None
    is_small = len(base) >= LEAST_PATCH and sum(map(len, made.lines())) * PATCH_SHARE <= len(base)
    is_empty = True
    with files.create() as draft:
        for chunk in made.write(ages.base) if is_small and ages.base else made.chunks():
            is_empty = is_empty and not chunk
            draft.write(chunk)
    return None if is_empty else draft.sealed


def follow(files: SealedFiles, ages: Ages, before: Buffer, after: Buffer, now: datetime) -> Sha256 | None:
    """Seals the ages of the entries `after`: those that are among the entries `before` keep their time in `ages`, the
    others have `now`. Both are complete sorted lines, and so many of them differ that all are read. Returns as
    `update`."""
    is_empty = True
    with files.create() as draft:
        for old, new, lives in aligned_parts([before, after, ages.exceptions.read_all()]):
            exceptions = lines_by_key(lives)
            if old == new and not exceptions:
                continue
            known, keys = set(lines_by_key(old)), lines_by_key(new).keys()
            lines = [line for key, line in exceptions.items() if key in keys and key in known]
            lines += [age_line(key, now) for key in keys - known]
            is_empty = is_empty and not lines
            draft.write(b"".join(line + b"\n" for line in sorted(lines)))
    return None if is_empty else draft.sealed
