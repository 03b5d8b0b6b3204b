"""The high-water file: the highest numbers that were ever shown, and their sessions, outside the database.

It is written and synced after the commit that makes a number and before the number is served, and only rises. A
database that was put back, or lost a part, is behind it: then nothing is served and no number is made, since each could
stand for another content by now.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from blocklistd.errors import BehindError, StoreError, store_errors
from blocklistd.model import ListId, Version
from blocklistd.store import audit
from blocklistd.store.audit import Head
from blocklistd.store.numbers import Numbers, high_water_path, numbers
from blocklistd.telemetry import Standing

_STOPPED: Final = "Nothing is served and no number is made"
_UNKNOWN: Final = "N above every version and serial that was ever shown"
_ANEW: Final = "a new session, all numbers above N"


@dataclass(slots=True)
class Marks:
    """By list: its session, `version` and the versions of its signed roles; by zone: its serial, counted on past
    2^32."""

    lists: dict[str, dict[str, Any]] = field(default_factory=dict)
    zones: dict[str, int] = field(default_factory=dict)

    @property
    def highest(self) -> int:
        """Of all numbers; 0 where there is none."""
        of_lists = [number for marks in self.lists.values() for number in marks.values() if isinstance(number, int)]
        return max([*of_lists, *self.zones.values()], default=0)

    @classmethod
    def parse(cls, body: bytes) -> Marks:
        """Raises ValueError for what is no such file."""
        found = orjson.loads(body)
        try:
            lists, zones = found["lists"], found["zones"]
            numbers = [number for marks in lists.values() for name, number in marks.items() if name != "session"]
            if any(type(number) is not int or number < 0 for number in [*numbers, *zones.values()]):
                raise ValueError("a number is none")
            return cls({name: dict(marks) for name, marks in lists.items()}, dict(zones))
        except (KeyError, TypeError, AttributeError):
            raise ValueError("not the marks of lists and zones") from None


class HighWater:
    """The file at `path`, which one process writes. Without a path nothing is kept beyond the process.

    A file that can't be written is an alarm. Nothing new is served meanwhile in the place of something older; what is
    served as it was, or only signed again, goes on.
    """

    def __init__(self, path: Path | None = None, alarms: Standing | None = None) -> None:
        self._path = path
        self._alarms = alarms or Standing()
        self._lock = threading.Lock()
        self.marks = Marks()
        self.written: Path | None = None
        """The path, once the file is known to have numbers of a list."""
        self.missing: Path | None = None
        """The path, where `open` found no file, or none with numbers of a list."""

    def open(self) -> None:
        """Reads the file. What is none is put aside and begun anew, which is an alarm.

        Raises StoreError where the file is there and can't be opened.
        """
        if self._path is None:
            return
        with store_errors(self._path):
            try:
                self.marks = Marks.parse(self._path.read_bytes())
            except FileNotFoundError:
                self.missing = self._path
            except ValueError:
                aside = self._path.with_name(f"{self._path.name}.damaged")
                self._path.replace(aside)
                text = f"{aside} is no high-water file, and another was begun: nothing shows whether a number was lost"
                self._alarms.stand("high-water", "damaged", text)
            else:
                self.written, self.missing = (self._path, None) if self.marks.lists else (None, self._path)

    def check_writable(self) -> None:
        """At a start, before there is anything to write: an alarm where a new file could not be made."""
        if self._path is None:
            return
        try:
            with store_errors(self._path.parent), tempfile.TemporaryFile(dir=self._path.parent):
                pass
        except StoreError as error:
            self._alarms.stand("high-water", "write", f"the high-water file can't be written: {error}")

    def show_list(
        self, list_id: ListId, session: str, version: Version, roles: Mapping[str, int], *, replaces: bool
    ) -> None:
        """These numbers are about to be served; `replaces`: in the place of another version, which is served now. The
        version that was shown last is replaced by any other, also by the first one after a start.

        Raises BehindError where one is behind what was shown, and StoreError where what replaces another can't be
        written down: then they must not be served.
        """
        new: dict[str, Any] = {"session": session, "version": version, **roles}
        with self._lock:
            old = self.marks.lists.get(list_id, {})
            another = bool(old) and (old.get("session"), old.get("version")) != (session, version)
            if not version and old.get("session", session) != session:  # begun anew, and nothing of it yet
                new = dict(roles)
            for name, number in old.items():
                if name != "session" and number > new.get(name, number):
                    raise BehindError(f"list {list_id}: {name} {new[name]} is behind {number}, which was shown before")
            if {**old, **new} != old:
                self._keep(Marks({**self.marks.lists, list_id: {**old, **new}}, self.marks.zones), replaces or another)

    def show_zone(self, zone: str, serial: int, *, replaces: bool) -> None:
        """As `show_list`."""
        with self._lock:
            old = self.marks.zones.get(zone)
            if old is not None and old > serial:
                raise BehindError(f"zone {zone}: serial {serial} is behind {old}, which was shown before")
            if old != serial:
                self._keep(Marks(self.marks.lists, {**self.marks.zones, zone: serial}), replaces or old is not None)

    def _keep(self, marks: Marks, replaces: bool) -> None:
        try:
            if self._path is not None:
                body = orjson.dumps({"lists": marks.lists, "zones": marks.zones}, option=orjson.OPT_INDENT_2)
                _replace(self._path, body + b"\n")
                self.written = self._path if marks.lists else None
        except StoreError as error:
            self._alarms.stand("high-water", "write", f"the high-water file can't be written: {error}")
            if replaces:
                raise
        else:
            self._alarms.stand("high-water", "write")
        self.marks = marks


def _replace(path: Path, body: bytes) -> None:
    """Either the old content is there or the new one, whenever the power goes. Raises StoreError."""
    new = path.with_name(f".{path.name}.new")
    with store_errors(path):
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def loss(connection: Connection, marks: Marks, head: Head | None = None, missing: Path | None = None) -> str | None:
    """What shows that the database is not the newest one, or hides whether it is, with what to do about it; None where
    nothing does. `head` is what the head file of the audit has, `missing` as in HighWater."""
    found = numbers(connection)
    before = high_water_path(connection)
    if found.lost:
        what = "the database is gone, and files that it named are there"
    elif missing is not None and before is not None:
        return (
            f"the high-water file {missing} is gone, or has no numbers; it was last written as {before}: whether the "
            f"database is the newest can't be known. {_STOPPED}. Mount its disk, or put the file there, then restart; "
            f"or, where it is lost, `blocklistd start-above N`, {_UNKNOWN}: {_ANEW}"
        )
    else:
        behind = _behind(found, marks)
        newest = audit.head(connection).number
        if head is not None and head.number > newest:
            behind.append(f"the audit has line {newest}, and had {head.number}")
        if not behind:
            return None
        more = f", and {len(behind) - 1} more" if len(behind) > 1 else ""
        what = f"the database is older than what was shown: {behind[0]}{more}"
    least = max(marks.highest, found.highest)
    above = f"N from {least}" if least else _UNKNOWN
    return (
        f"{what}. {_STOPPED}. Stop the daemon and put the newest database back; or, where there is none newer than "
        f"this or a backup, `blocklistd start-above N`, {above}: {_ANEW}"
    )


def _behind(found: Numbers, marks: Marks) -> list[str]:
    """A line for each number of the database that is lower than it was."""
    lines = []
    for name, known in marks.lists.items():
        for what, number in known.items():
            if what != "session" and max(found.lists.get(name, {}).get(what, 0), found.above) < number:
                lines.append(f"list {name} has {what} {found.lists.get(name, {}).get(what, 0)}, and had {number}")
    for name, serial in marks.zones.items():
        if max(found.zones.get(name, 0), found.above) < serial:
            lines.append(f"zone {name} has serial {found.zones.get(name, 0)}, and had {serial}")
    return lines
