"""The high-water file: the highest numbers that were ever served, with their sessions, outside the database.

On the disk: JSON with `lists` (for each its session, version and the version of each signed role) and `zones` (for each
its unwrapped serial). Numbers in it only rise. For each number the order is:

1. A transaction commits the number.
2. `HighWater.record_list` or `record_zone` writes it to the file and syncs the file.
3. The number is served.

At a start, `suspected_loss` compares the file with the database. If the database is older than the file, nothing is
served and no number is made until an operator decides: the same number could otherwise stand for two contents.
"""

from __future__ import annotations

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
from blocklistd.store.small_files import replace_file
from blocklistd.telemetry import ActiveAlarms

_STOPPED: Final = "Nothing is served and no number is made"
_UNKNOWN: Final = "N above every version and serial that was ever served"
_NEW_SESSION: Final = "this begins a new session with all numbers above N"


@dataclass(slots=True)
class HighestNumbers:
    """The file's content. `lists`: for each list its `session`, its `version` and the version of each signed role.
    `zones`: each zone's unwrapped serial, which continues past 2^32."""

    lists: dict[str, dict[str, Any]] = field(default_factory=dict)
    zones: dict[str, int] = field(default_factory=dict)

    @property
    def highest(self) -> int:
        """The highest of all numbers; 0 where there is none."""
        of_lists = [number for each in self.lists.values() for number in each.values() if isinstance(number, int)]
        return max([*of_lists, *self.zones.values()], default=0)

    @classmethod
    def parse(cls, body: bytes) -> HighestNumbers:
        """Reads the content of a high-water file. Raises ValueError for any other content."""
        found = orjson.loads(body)
        try:
            lists, zones = found["lists"], found["zones"]
            numbers = [number for each in lists.values() for name, number in each.items() if name != "session"]
            if any(type(number) is not int or number < 0 for number in [*numbers, *zones.values()]):
                raise ValueError("not a number")
            return cls({name: dict(each) for name, each in lists.items()}, dict(zones))
        except (KeyError, TypeError, AttributeError):
            raise ValueError("not the numbers of lists and zones") from None


class HighWater:
    """The high-water file at `path`; one process writes it. Without a path the numbers are in memory only.

    Order of calls: `open`, `check_writable`, then `record_list` and `record_zone` before each new number is served. A
    file that can't be written raises an alarm. Until it can be written again, no version or serial replaces another
    one; the live ones are still served and signed again.
    """

    def __init__(self, path: Path | None = None, alarms: ActiveAlarms | None = None) -> None:
        self._path = path
        self._alarms = alarms or ActiveAlarms()
        self._lock = threading.Lock()
        self.highest_numbers = HighestNumbers()
        self.written: Path | None = None
        """The path of the file if it contains the numbers of a list, else None."""
        self.missing: Path | None = None
        """The path of the file if `open` did not find it, or found no numbers of a list in it; else None."""

    def open(self) -> None:
        """Reads the file. A damaged file is renamed to `FILE.damaged`, a new one is begun and an alarm is raised.

        Raises StoreError if the file exists and can't be read.
        """
        if self._path is None:
            return
        with store_errors(self._path):
            try:
                self.highest_numbers = HighestNumbers.parse(self._path.read_bytes())
            except FileNotFoundError:
                self.missing = self._path
            except ValueError:
                aside = self._path.with_name(f"{self._path.name}.damaged")
                self._path.replace(aside)
                text = f"{aside} is damaged, and a new high-water file was begun: the highest numbers are not known"
                self._alarms.raise_alarm("high_water", "damaged", text)
            else:
                self.written, self.missing = (self._path, None) if self.highest_numbers.lists else (None, self._path)

    def check_writable(self) -> None:
        """Raises an alarm if no file can be made in the folder. For a start, when there is no number to write yet."""
        if self._path is None:
            return
        try:
            with store_errors(self._path.parent), tempfile.TemporaryFile(dir=self._path.parent):
                pass
        except StoreError as error:
            self._alarms.raise_alarm("high_water", "write", f"the high-water file can't be written: {error}")

    def record_list(
        self, list_id: ListId, session: str, version: Version, roles: Mapping[str, int], *, replaces: bool
    ) -> None:
        """Records a list's numbers; call it before they are served.

        `roles`: version of each signed role. `replaces`: the list has another live version, which this one replaces. A
        version other than the last one in the file counts as replacing too. Raises BehindError if a number is lower
        than the file's, StoreError if a replacing version can't be written: the numbers must then not be served.
        """
        new: dict[str, Any] = {"session": session, "version": version, **roles}
        with self._lock:
            old = self.highest_numbers.lists.get(list_id, {})
            is_other = bool(old) and (old.get("session"), old.get("version")) != (session, version)
            if not version and old.get("session", session) != session:  # a new session without a version
                new = dict(roles)
            for name, number in old.items():
                if name != "session" and number > new.get(name, number):
                    raise BehindError(
                        f"list {list_id}: {name} {new[name]} is behind {number}, which was served before: "
                        "run `blocklistd start-above N`"
                    )
            if {**old, **new} != old:
                self._keep(
                    HighestNumbers({**self.highest_numbers.lists, list_id: {**old, **new}}, self.highest_numbers.zones),
                    replaces or is_other,
                )

    def record_zone(self, zone: str, serial: int, *, replaces: bool) -> None:
        """Like `record_list`, for the unwrapped serial of a zone."""
        with self._lock:
            old = self.highest_numbers.zones.get(zone)
            if old is not None and old > serial:
                raise BehindError(
                    f"zone {zone}: serial {serial} is behind {old}, which was served before: "
                    "run `blocklistd start-above N`"
                )
            if old != serial:
                self._keep(
                    HighestNumbers(self.highest_numbers.lists, {**self.highest_numbers.zones, zone: serial}),
                    replaces or old is not None,
                )

    def _keep(self, highest_numbers: HighestNumbers, replaces: bool) -> None:
        try:
            if self._path is not None:
                body = orjson.dumps(
                    {"lists": highest_numbers.lists, "zones": highest_numbers.zones}, option=orjson.OPT_INDENT_2
                )
                replace_file(self._path, body + b"\n")
                self.written = self._path if highest_numbers.lists else None
        except StoreError as error:
            self._alarms.raise_alarm("high_water", "write", f"the high-water file can't be written: {error}")
            if replaces:
                raise
        else:
            self._alarms.clear("high_water", "write")
        self.highest_numbers = highest_numbers


def suspected_loss(
    connection: Connection, highest_numbers: HighestNumbers, head: Head | None = None, missing: Path | None = None
) -> str | None:
    """Why the database may not be the newest one, and what to do; None if no file shows a newer one.

    `highest_numbers`: numbers of the high-water file. `head`: content of the audit's head file. `missing`:
    HighWater.missing.
    """
    found = numbers(connection)
    before = high_water_path(connection)
    if found.lost:
        what = "the database is missing, but files that it named exist"
    elif missing is not None and before is not None:
        return (
            f"the high-water file {missing} is missing, or has no numbers; it was last written as {before}. Without "
            f"it, nothing shows whether the database is the newest. {_STOPPED}. Mount its disk, or put the file back, "
            f"then restart; or, if it is lost, run `blocklistd start-above N` with {_UNKNOWN}: {_NEW_SESSION}"
        )
    else:
        behind = _behind(found, highest_numbers)
        newest = audit.head(connection).number
        if head is not None and head.number > newest:
            behind.append(f"the audit has line {newest}, and had {head.number}")
        if not behind:
            return None
        more = f", and {len(behind) - 1} more" if len(behind) > 1 else ""
        what = f"the database is older than the numbers that were served: {behind[0]}{more}"
    least = max(highest_numbers.highest, found.highest)
    above = f"N at least {least}" if least else _UNKNOWN
    return (
        f"{what}. {_STOPPED}. Stop the daemon and restore the newest database; or, if none is newer "
        f"than this one, run `blocklistd start-above N` with {above}: {_NEW_SESSION}"
    )


def _behind(found: Numbers, highest_numbers: HighestNumbers) -> list[str]:
    """A text for each number of the database that is lower than in the file."""
    lines = []
    for name, known in highest_numbers.lists.items():
        for what, number in known.items():
            if what != "session" and max(found.lists.get(name, {}).get(what, 0), found.above) < number:
                lines.append(f"list {name} has {what} {found.lists.get(name, {}).get(what, 0)}, and had {number}")
    for name, serial in highest_numbers.zones.items():
        if max(found.zones.get(name, 0), found.above) < serial:
            lines.append(f"zone {name} has serial {found.zones.get(name, 0)}, and had {serial}")
    return lines
