"""Reads the dates of records, and makes one canonical form of each: equal instants are equal bytes.

| attribute | found | canonical form |
|---|---|---|
| `verified_at` | a date | the date: `2026-11-20` |
| `expires` | a date | the instant at which that day ends in the source's time zone |
| both | a date and a time | that instant |

An instant is written in UTC and whole seconds: `2026-11-20T12:30:00Z`. So `expires` never needs the time zone again,
and texts of instants sort by time. The canonical form of a canonical form is itself.

A local time that the clocks skip or repeat is read by RFC 5545 section 3.3.5: a skipped one with the offset before the
change, a repeated one as the first of the two. A day ends with the last of its instants.
"""

from __future__ import annotations

import _strptime  # type: ignore[import-not-found]  # noqa: F401  # loaded before the sandbox, for datetime.strptime
import re
import zoneinfo
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import cache, lru_cache
from typing import Final

DATES: Final = ("expires", "verified_at")
"""The attributes that are dates, with or without a time."""

_DAY: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(
    "([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,][0-9]{1,9})?"
    " ?(?:([Zz]|UTC)|([+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?))?"
)
_LONGEST: Final = 64  # characters; no date is longer, and longer texts would fill the memory of the cache
_LEAST: Final = 1_000_000_000
"""The smallest number that is Unix seconds: 2001-09-09. Smaller numbers may be days, like 20261120, or mean `none`."""
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)
_NO_ZONES: Final = frozenset({"Factory", "localtime"})  # files beside the zones; they differ between machines


def canonical_date(key: str, found: str | int, zone: str = "UTC") -> str | None:
    """The canonical form of a date. None if it is no date.

    `key`: one of DATES. `found`: a text without blanks at its ends, or a number of JSON, which is Unix seconds. `zone`:
    the IANA time zone of dates and times that name no offset; its file is opened at the first use (`load_zone`).
    """
    if isinstance(found, int):
        is_time = not isinstance(found, bool) and _LEAST <= found <= _LAST.timestamp()
        return _text(datetime.fromtimestamp(found, UTC)) if is_time else None
    return _canonical(found, zone, key == "expires") if len(found) <= _LONGEST else None


def load_zone(name: str) -> None:
    """Open the file of a time zone, before a sandbox forbids it. Raises KeyError or ValueError for an unknown zone."""
    _zone(name)


def is_zone(name: str) -> bool:
    """Whether this is the name of a time zone (IANA), as on each machine."""
    return name == "UTC" or name in zone_names()


@cache
def zone_names() -> frozenset[str]:
    """The names of all time zones (IANA)."""
    return frozenset(zoneinfo.available_timezones() - _NO_ZONES)


@cache
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)


@lru_cache(maxsize=1 << 14)  # most dates of a list occur many times
def _canonical(text: str, zone: str, ends: bool) -> str | None:
    try:
        if _DAY.fullmatch(text):
            day = date.fromisoformat(text)
            return _text(_end(day, _zone(zone))) if ends else text
        if parts := _TIME.fullmatch(text):
            clock = datetime.combine(date.fromisoformat(parts[1]), time.fromisoformat(parts[2]))
            return _text(_instant(clock, UTC if parts[3] else _offset(parts[4]) or _zone(zone)))
    except ValueError:
        return None
    return None


def _offset(text: str | None) -> tzinfo | None:
    # not by strptime: its first call imports a module, which the sandbox forbids
    if not text:
        return None
    minutes = int(text[1:3]) * 60 + int(text[3:].removeprefix(":") or 0)
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def _end(day: date, zone: tzinfo) -> datetime:
    """The instant at which a day ends."""
    if day == date.max:
        return _LAST
    midnight = datetime.combine(day + timedelta(days=1), time.min)
    return max(_instant(midnight.replace(fold=fold), zone) for fold in (0, 1))


def _instant(clock: datetime, zone: tzinfo) -> datetime:
    """The instant of a local time, within the years that RFC 3339 can express."""
    try:
        return clock.replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return _FIRST if clock.year == 1 else _LAST


def _text(instant: datetime) -> str:
    return f"{instant.replace(microsecond=0, tzinfo=None).isoformat()}Z"
