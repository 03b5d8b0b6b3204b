"""Options that name a time: as RFC 3339, or as a duration before or after now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from blocklistd.daemon.commands.command import word
from blocklistd.errors import RefusedError
from blocklistd.limits import MAX_GRACE_DAYS, MAX_OBJECTIVE_DAYS

_DURATION: Final = re.compile("([0-9]{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def past(value: object) -> str:
    """Reads a time, or a duration before now; returns the text. Raises RefusedError."""
    moment_before(word(value), datetime.now(UTC))
    return str(value)


def coming(value: object) -> str:
    """Reads a time, or a duration after now; returns the text. Raises RefusedError."""
    moment_after(word(value), datetime.now(UTC))
    return str(value)


def grace(value: object) -> str:
    """Reads a duration of at most MAX_GRACE_DAYS; 0s is one. Returns the text. Raises RefusedError."""
    duration(word(value))
    return str(value)


def objective(value: object) -> str:
    """Reads the objective of a subscriber, or `off`. Returns the text. Raises RefusedError."""
    objective_of(word(value))
    return str(value)


def objective_of(text: str | None) -> timedelta | None:
    """The objective that a text names; zero for `off`, None for None. Raises RefusedError."""
    if text is None:
        return None
    given = _DURATION.fullmatch(text)
    found = timedelta(**{_UNITS[given[2]]: int(given[1])}) if given else timedelta(0)
    if text != "off" and not timedelta(0) < found <= timedelta(days=MAX_OBJECTIVE_DAYS):
        raise RefusedError(f"expected a duration like 30m or 6h, at most {MAX_OBJECTIVE_DAYS}d, or off")
    return found


def duration(text: str) -> timedelta:
    """The duration that a text of `grace` names. Raises RefusedError."""
    given = _DURATION.fullmatch(text)
    found = timedelta(**{_UNITS[given[2]]: int(given[1])}) if given else None
    if found is None or found > timedelta(days=MAX_GRACE_DAYS):
        raise RefusedError(f"expected a duration like 7d, 12h or 0s, at most {MAX_GRACE_DAYS}d")
    return found


def moment_before(text: str, now: datetime) -> datetime:
    """The time that a text names; a duration ends now. Raises RefusedError for another text."""
    return _moment(text, now, -1, "how long ago it was, like 2d or 6h")


def moment_after(text: str, now: datetime) -> datetime:
    """The time that a text names; a duration begins now. Raises RefusedError for another text."""
    return _moment(text, now, 1, "how long from now, like 7d or 12h")


def _moment(text: str, now: datetime, sign: int, duration: str) -> datetime:
    try:
        if given := _DURATION.fullmatch(text):
            return now + sign * timedelta(**{_UNITS[given[2]]: int(given[1])})
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError("no time zone")
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise RefusedError(f"expected a time like 2030-01-31T12:00:00Z, or {duration}") from None
