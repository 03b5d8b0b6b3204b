"""Finds the newest file of a drop folder: by the dates in the names, if every name has one, else by the time of change.

Hotlines name their releases `NAME_YYYYMMDD.txt`. The time of a file says when it was copied, not which list it is: a
release that is copied again, or restored from a backup, would look newer than its successor. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

_DATE: Final = re.compile(
    r"(?<![0-9])"
    r"(20[0-9]{2})([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12][0-9]|3[01])"  # the date, year first
    r"(?:[-_.T ]?([01][0-9]|2[0-3])[-_.]?([0-5][0-9])(?:[-_.]?([0-5][0-9]))?)?"  # perhaps the time
    r"(?![0-9])"
)
"""A date with the year first, and perhaps a time: 20261128, 2026-11-28, 20261128T0930. A date with the day first can't
be read so: its month would be the first two digits of the year, 20."""


class DroppedFile(NamedTuple):
    """A file in a drop folder. `changed`: its modification time in ns."""

    changed: int
    name: str


def date_of(name: str) -> tuple[str, ...] | None:
    """The last date in a name, as digits that sort like times; None if there is none."""
    found = [match.groups("00") for match in _DATE.finditer(name)]
    return tuple(part for number, part in enumerate(found[-1]) if number != 1) if found else None


def newest(files: Iterable[DroppedFile]) -> DroppedFile | None:
    """The newest of the files; None if there are none.

    If the name of every file has a date, the latest date decides, and the time of change only between equal dates.
    Otherwise the time of change decides, and the name between equal times.
    """
    found = list(files)
    dated = [(date, file) for file in found if (date := date_of(file.name)) is not None]
    if len(dated) == len(found):
        return max(dated)[1] if dated else None
    return max(found)
