"""What a text in the configuration can mean: numbers with their units, ids, files, schedules."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from blocklistd.config.page import Reader, Spot, Wrong, shown
from blocklistd.limits import GIB, KIB, MAX_DURATION_DAYS, MIB

Str = TypeVar("Str", bound=str)

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES: Final = {"": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}
_SUN_FIRST: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
UNIX_PATH: Final = 107  # bytes, sun_path without its zero


# -- numbers -------------------------------------------------------------------------------------------------------
def match(pattern: str, text: str) -> re.Match[str]:
    """The whole text matched; raises Wrong where it isn't."""
    if found := re.fullmatch(pattern, text):
        return found
    raise Wrong


def integer(least: int = 0) -> Reader[int]:
    def convert(spot: Spot) -> int:
        number = int(match("0|[1-9][0-9]{0,8}", spot.text())[0])
        if number < least:
            raise Wrong
        return number

    return Reader(f"a whole number from {least} up", convert)


def _duration(text: str) -> timedelta:
    found = match("([0-9]{1,10})([smhd])", text)
    seconds = int(found[1]) * _UNITS[found[2]]
    if not 0 < seconds <= MAX_DURATION_DAYS * _UNITS["d"]:
        raise Wrong(f"a duration above 0s and up to {MAX_DURATION_DAYS}d")
    return timedelta(seconds=seconds)


def written(duration: timedelta) -> str:
    """A duration as it is written in the file, in the largest unit that divides it."""
    seconds = int(duration.total_seconds())
    unit = next(unit for unit in reversed(_UNITS) if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _size(spot: Spot) -> int:
    found = match("([0-9]{1,15})(|KiB|MiB|GiB)", spot.text())
    if not int(found[1]):
        raise Wrong("a size above 0")
    return int(found[1]) * _SIZES[found[2]]


def _share(spot: Spot) -> float:
    percent = float(match(r"([0-9]{1,6}(?:\.[0-9]{1,4})?)%", spot.text())[1])
    if percent > 100:
        spot.page.tolerate(spot.key, "a share up to 100%", shown(spot.node), spot.line)
    return min(percent, 100.0) / 100


duration: Final = Reader("a duration like 30s, 15m, 6h or 14d", lambda spot: _duration(spot.text()))
duration_or_off: Final[Reader[timedelta | None]] = Reader(
    f"`off`, or {duration.expected}", lambda spot: None if spot.text() == "off" else _duration(spot.text())
)
size: Final = Reader("a size like 64MiB, 2GiB or a number of bytes", _size)
share: Final = Reader("a share like 10%", _share)
boolean: Final = Reader("`true` or `false`", lambda spot: match("true|false", spot.text())[0] == "true")
text: Final = Reader("a text", Spot.text)


def _delimiter(spot: Spot) -> str:
    return "\t" if spot.text() == "tab" else match(r'[^"\r\n\0]', spot.text())[0]


delimiter: Final = Reader("one character but a quote, or `tab`", _delimiter)
comment: Final = Reader(
    "the beginning of a comment line, without blanks, like `#`", lambda spot: match(r"[^\s\0]{1,16}", spot.text())[0]
)


def _moment(spot: Spot) -> str:
    try:
        moment = datetime.fromisoformat(spot.text())
    except ValueError:
        raise Wrong from None
    if moment.tzinfo is None:
        raise Wrong
    return spot.text()


moment: Final = Reader("a time like 2030-01-31T12:00:00Z", _moment)


def identifier(kind: Callable[[str], Str]) -> Reader[Str]:
    return Reader(
        "an id of a-z, 0-9 and -, at most 32 characters, not starting with -",
        lambda spot: kind(match("[a-z0-9][a-z0-9-]{0,31}", spot.text())[0]),
    )


def _user(spot: Spot) -> str:
    import pwd

    try:
        return pwd.getpwnam(spot.text()).pw_name
    except KeyError:
        raise Wrong from None


user: Final = Reader("the name of a user of this machine", _user)


def _group(spot: Spot) -> str:
    import grp

    try:
        return grp.getgrnam(spot.text()).gr_name
    except KeyError:
        raise Wrong from None


group: Final = Reader("the name of a group of this machine", _group)


# -- paths and files -----------------------------------------------------------------------------------------------
def _path(spot: Spot) -> Path:
    if not spot.text():  # it would be the folder of the configuration itself
        raise Wrong
    return spot.page.folder / spot.text()


path: Final = Reader("a path", _path)


def _socket_path(spot: Spot) -> Path:
    made = path.convert(spot)
    if len(os.fsencode(made)) > UNIX_PATH:
        raise Wrong(f"a path of at most {UNIX_PATH} bytes, as a Unix socket's is", f"{len(os.fsencode(made))} bytes")
    return made


def _file(spot: Spot) -> Path:
    made = path.convert(spot)
    spot.names(made, "a file")
    return made


def _pem(spot: Spot) -> Path:
    import ssl

    made = path.convert(spot)
    expected = "a file with certificates in PEM"
    if spot.names(made, expected):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=made)
        except ssl.SSLError:
            spot.page.tolerate(spot.key, expected, f"{made}, which holds none", spot.line)
        except OSError:  # we may not read it; files.look_at checks whether the daemon may
            pass
    return made


socket_path: Final = Reader("a path", _socket_path)
certificates: Final = Reader("a file with certificates in PEM", _pem)
file: Final = Reader("a file", _file)


# -- schedules -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Schedule:
    """When a source is pulled: `every` so often, or by `cron`, one of the two.

    `cron` has five fields and means UTC. Its days of the week are names (`mon,tue`), since APScheduler counts them from
    Monday and cron from Sunday.
    """

    every: timedelta | None = None
    cron: str | None = None

    def __str__(self) -> str:
        return f"every {written(self.every)}" if self.every else str(self.cron)


def _schedule(spot: Spot) -> Schedule:
    words = spot.text().split()
    if words[:1] == ["every"]:
        return Schedule(every=_duration(" ".join(words[1:])))
    if len(words) != 5:
        raise Wrong
    day, week = words[2], weekdays(words[4].lower())
    if week is None:
        raise Wrong("days of the week as cron has them: 0 to 7 or sun to sat")
    if "*" not in (day, week):
        raise Wrong("a day of the month or of the week, and * for the other: cron itself takes either")
    cron = " ".join([*words[:4], week])
    if not _fires(cron):
        raise Wrong
    return Schedule(cron=cron)


def weekdays(cron_field: str) -> str | None:
    """Cron's days of the week (0 and 7 are Sunday) as names, in the order of the week; None where they are none."""
    days: set[int] = set()
    for part in cron_field.split(","):
        found = re.fullmatch("(?:([*])|([0-7]|[a-z]{3})(?:-([0-7]|[a-z]{3}))?)(?:/([1-7]))?", part)
        if not found or (found[4] and not (found[1] or found[3])):
            return None
        first, last = (0, 6) if found[1] else (_day(found[2]), _day(found[3] or found[2]))
        if first is None or last is None:
            return None
        days.update(day % 7 for day in range(first, last + 1 if last >= first else last + 8, int(found[4] or 1)))
    return "*" if len(days) == 7 else ",".join(_SUN_FIRST[day] for day in sorted(days))


def _day(name: str) -> int | None:
    if name.isdecimal():
        return int(name)
    return _SUN_FIRST.index(name) if name in _SUN_FIRST else None


def _fires(cron: str) -> bool:
    """Whether APScheduler can read it and there is such a day at all."""
    from apscheduler.triggers.cron import CronTrigger

    try:
        trigger = CronTrigger.from_crontab(cron, timezone=UTC)
    except (ValueError, OverflowError):
        return False
    return trigger.get_next_fire_time(None, datetime(2000, 1, 1, tzinfo=UTC)) is not None


schedule: Final = Reader("`every` and a duration (every 30m), or the five fields of a cron line", _schedule)
