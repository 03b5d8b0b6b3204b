"""Readers of scalars: numbers with units, ids, times, users, files and schedules."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from blocklistd.config.document import MAX_EXCERPT, ConfigNode, InvalidValue, Reader, excerpt
from blocklistd.config.reader import choice
from blocklistd.language import LANGUAGES
from blocklistd.limits import GIB, KIB, MAX_DURATION_DAYS, MAX_NODE_NAME, MIB
from blocklistd.receipts import NODE
from blocklistd.sources.formats.dates import canonical_date, is_zone, zone_names

Str = TypeVar("Str", bound=str)

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES: Final = {"": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}
_SUN_FIRST: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
UNIX_PATH: Final = 107  # bytes of a Unix socket's path: sun_path without its final zero


# -- numbers -------------------------------------------------------------------------------------------------------
def match(pattern: str, text: str) -> re.Match[str]:
    """Matches `pattern` with all of `text`. Raises InvalidValue if it does not match."""
    if found := re.fullmatch(pattern, text):
        return found
    raise InvalidValue


def integer(minimum: int = 0) -> Reader[int]:
    """Reads a decimal number from `minimum` to 999,999,999."""

    def convert(node: ConfigNode) -> int:
        number = int(match("0|[1-9][0-9]{0,8}", node.text())[0])
        if number < minimum:
            raise InvalidValue
        return number

    return Reader(f"a whole number from {minimum} up", convert)


def _duration(text: str) -> timedelta:
    found = match("([0-9]{1,10})([smhd])", text)
    seconds = int(found[1]) * _UNITS[found[2]]
    if not 0 < seconds <= MAX_DURATION_DAYS * _UNITS["d"]:
        raise InvalidValue(f"a duration above 0s and up to {MAX_DURATION_DAYS}d")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """A duration as in the configuration file, in the largest unit without a fraction: 90m, 2h."""
    seconds = int(duration.total_seconds())
    unit = next(unit for unit in reversed(_UNITS) if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _size(node: ConfigNode) -> int:
    found = match("([0-9]{1,15})(|KiB|MiB|GiB)", node.text())
    if not int(found[1]):
        raise InvalidValue("a size above 0")
    return int(found[1]) * _SIZES[found[2]]


def _share(node: ConfigNode) -> float:
    percent = float(match(r"([0-9]{1,6}(?:\.[0-9]{1,4})?)%", node.text())[1])
    if percent > 100:
        node.document.report_nonfatal(node.key, "a share up to 100%", excerpt(node.yaml_node), node.line)
    return min(percent, 100.0) / 100


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most so many requests in so many seconds."""

    requests: int
    seconds: int

    def __str__(self) -> str:
        unit = next(unit for unit, seconds in _UNITS.items() if seconds == self.seconds)
        return f"{self.requests}/{unit}"


def _rate(node: ConfigNode) -> RateLimit | None:
    if node.text() == "off":
        return None
    found = match("([1-9][0-9]{0,8})/([smh])", node.text())
    return RateLimit(int(found[1]), _UNITS[found[2]])


rate_or_off: Final[Reader[RateLimit | None]] = Reader("`off`, or a rate like 600/m, 10/s or 9000/h", _rate)
duration: Final = Reader("a duration like 30s, 15m, 6h or 14d", lambda node: _duration(node.text()))
duration_or_off: Final[Reader[timedelta | None]] = Reader(
    f"`off`, or {duration.expected}", lambda node: None if node.text() == "off" else _duration(node.text())
)
size: Final = Reader("a size like 64MiB, 2GiB or a number of bytes", _size)
share: Final = Reader("a share like 10%", _share)
boolean: Final = Reader("`true` or `false`", lambda node: match("true|false", node.text())[0] == "true")
text: Final = Reader("a text", ConfigNode.text)
language: Final[Reader[str]] = choice(*LANGUAGES)
node_name: Final = Reader(
    f"1 to {MAX_NODE_NAME} letters, digits, dots, hyphens or underscores",
    lambda node: match(NODE.pattern, node.text())[0],
)


def _text_or_null(node: ConfigNode) -> str | None:
    return None if node.is_null else node.text().strip() or None


text_or_null: Final[Reader[str | None]] = Reader("a text, or null for an absent or empty field", _text_or_null)


def _delimiter(node: ConfigNode) -> str:
    return "\t" if node.text() == "tab" else match(r'[^"\r\n\0]', node.text())[0]


delimiter: Final = Reader("one character but a quote, or `tab`", _delimiter)
comment: Final = Reader(
    "the beginning of a comment line, without blanks, like `#`", lambda node: match(r"[^\s\0]{1,16}", node.text())[0]
)


def _moment(node: ConfigNode) -> str:
    if canonical_date("expires", node.text()) is None:
        raise InvalidValue
    return node.text()


moment: Final = Reader("a date like 2030-01-31, or a time like 2030-01-31T12:00:00Z", _moment)


def _timezone(node: ConfigNode) -> str:
    name = node.text()
    if not is_zone(name):
        by_lower = {known.lower(): known for known in sorted(zone_names())}
        near = difflib.get_close_matches(name.lower()[:MAX_EXCERPT], by_lower, n=1, cutoff=0.5)
        raise InvalidValue(f"an IANA time zone like `{by_lower[near[0]] if near else 'Europe/Warsaw'}`")
    return name


timezone: Final = Reader("an IANA time zone like `Europe/Warsaw`", _timezone)


def identifier(kind: Callable[[str], Str]) -> Reader[Str]:
    """Reads an id; `kind` is its type, for example ListId."""
    return Reader(
        "an id of a-z, 0-9 and -, at most 32 characters, not starting with -",
        lambda node: kind(match("[a-z0-9][a-z0-9-]{0,31}", node.text())[0]),
    )


def _user(node: ConfigNode) -> str:
    import pwd

    try:
        return pwd.getpwnam(node.text()).pw_name
    except KeyError:
        raise InvalidValue from None


user: Final = Reader("the name of a user of this machine", _user)


def _group(node: ConfigNode) -> str:
    import grp

    try:
        return grp.getgrnam(node.text()).gr_name
    except KeyError:
        raise InvalidValue from None


group: Final = Reader("the name of a group of this machine", _group)


# -- paths and files -----------------------------------------------------------------------------------------------
def _path(node: ConfigNode) -> Path:
    if not node.text():  # an empty path would name the folder of the configuration
        raise InvalidValue
    return node.document.folder / node.text()


path: Final = Reader("a path", _path)


def _socket_path(node: ConfigNode) -> Path:
    made = path.convert(node)
    if len(os.fsencode(made)) > UNIX_PATH:
        raise InvalidValue(
            f"a path of at most {UNIX_PATH} bytes, as a Unix socket's is", f"{len(os.fsencode(made))} bytes"
        )
    return made


def _file(node: ConfigNode) -> Path:
    made = path.convert(node)
    node.add_file(made, "a file")
    return made


def _pem(node: ConfigNode) -> Path:
    import ssl

    made = path.convert(node)
    expected = "a file with certificates in PEM"
    if node.add_file(made, expected):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=made)
        except ssl.SSLError:
            node.document.report_nonfatal(node.key, expected, f"{made}, which holds none", node.line)
        except OSError:  # this process may not read it; files.check_access checks whether the daemon may
            pass
    return made


socket_path: Final = Reader("a path", _socket_path)
certificates: Final = Reader("a file with certificates in PEM", _pem)
file: Final = Reader("a file", _file)


# -- schedules -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Schedule:
    """When a source is pulled: `every` is the interval, or `cron` a cron line; the other one is None.

    `cron` has five fields in UTC. Its days of the week are names (`mon,tue`), because APScheduler numbers them from
    Monday and cron from Sunday.
    """

    every: timedelta | None = None
    cron: str | None = None

    def __str__(self) -> str:
        return f"every {format_duration(self.every)}" if self.every else str(self.cron)


def _schedule(node: ConfigNode) -> Schedule:
    words = node.text().split()
    if words[:1] == ["every"]:
        return Schedule(every=_duration(" ".join(words[1:])))
    if len(words) != 5:
        raise InvalidValue
    day, week = words[2], weekdays(words[4].lower())
    if week is None:
        raise InvalidValue("days of the week as cron has them: 0 to 7 or sun to sat")
    if "*" not in (day, week):
        raise InvalidValue("a day of the month or of the week, and * for the other: cron itself takes either")
    cron = " ".join([*words[:4], week])
    if not _fires(cron):
        raise InvalidValue
    return Schedule(cron=cron)


def weekdays(cron_field: str) -> str | None:
    """The days in a cron field (0 and 7 are Sunday) as names, in the order from Sunday; None for an invalid field."""
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
    """Whether APScheduler accepts the line and the line has any date: not the 31st of February."""
    from apscheduler.triggers.cron import CronTrigger

    try:
        trigger = CronTrigger.from_crontab(cron, timezone=UTC)
    except (ValueError, OverflowError):
        return False
    return trigger.get_next_fire_time(None, datetime(2000, 1, 1, tzinfo=UTC)) is not None


schedule: Final = Reader("`every` and a duration (every 30m), or the five fields of a cron line", _schedule)
