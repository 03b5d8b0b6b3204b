"""Local exceptions of `sync --exceptions`: reads their file, and leaves their entries out of what is rendered.

The verified snapshot stays as it is signed. A rendering is made of a copy without the excepted entries, since a format
may look up other entries: a host below an excepted domain needs a line of its own. Without a format, or with `ndjson`,
this copy is the rendering.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

from blocklistd.errors import SyncError
from blocklistd.limits import MAX_EXCEPTIONS_BYTES
from blocklistd.lines.exceptions import NO_EXCEPTIONS, Excepted, InvalidExceptions, in_force, parse_exceptions
from blocklistd.lines.keys import key_of

EXCEPTED: Final = "excepted.ndjson"
"""The rendering that is the snapshot without the excepted entries."""
_ID: Final = re.compile(rb'"id":"([^"]*)"')


def read_exceptions(path: Path | None, now: datetime) -> Excepted:
    """The exceptions of a file that are in force; none if `path` is None. Raises SyncError for an unusable file."""
    if path is None:
        return NO_EXCEPTIONS
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_EXCEPTIONS_BYTES + 1)
        if len(content) > MAX_EXCEPTIONS_BYTES:
            raise InvalidExceptions(f"expected at most {MAX_EXCEPTIONS_BYTES} bytes")
        return in_force(parse_exceptions(content), now)
    except OSError as error:
        found = f"{error.strerror}: expected a file that this user can read"
    except InvalidExceptions as error:
        found = str(error)
    raise SyncError(f"--exceptions {path}: {found}: correct it; until then all files stay as they are")


def digest_of(excepted: Excepted) -> str:
    """A SHA-256 by which exceptions in force are compared; "" for none."""
    return hashlib.sha256(excepted.to_bytes()).hexdigest() if excepted else ""


def copy_without(snapshot: Iterable[bytes], excepted: Excepted, out: BinaryIO) -> int:
    """Copies the lines of a snapshot but for the excepted ones. Returns the number of these."""
    keys, ids = excepted.keys, {one.encode() for one in excepted.ids}
    count = 0
    for line in snapshot:
        # a quote in a value is escaped, so that this finds the attribute only
        found = _ID.search(line) if ids else None
        if (found and found[1] in ids) or (keys and key_of(line) in keys):
            count += 1
        else:
            out.write(line)
    return count


@dataclass(frozen=True, slots=True)
class Outlook:
    """What makes another sync necessary although the list is the same: the file of exceptions changes, or the first of
    them ends. Look before the sync, so that a change while it runs is noticed."""

    path: Path | None
    fingerprint: tuple[int, ...] = ()
    next_end: datetime | None = None

    @classmethod
    def of(cls, path: Path | None, now: datetime) -> Outlook:
        """The outlook at this time. An unusable file is an error of the sync, not of this."""
        fingerprint = _fingerprint(path)
        try:
            return cls(path, fingerprint, read_exceptions(path, now).next_end)
        except SyncError:
            return cls(path, fingerprint)

    def is_over(self, now: datetime) -> bool:
        """Whether the exceptions in force may be others now."""
        return (self.next_end is not None and self.next_end <= now) or _fingerprint(self.path) != self.fingerprint


def _fingerprint(path: Path | None) -> tuple[int, ...]:
    try:
        found = os.stat(path) if path is not None else None
    except OSError:
        found = None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found else ()
