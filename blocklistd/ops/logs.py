"""The formats of the log: JSON lines, the journal's priorities under systemd, colours on a terminal.

The package logs through blocklistd.events only. The JSON format has an event's name and fields, the others its message.
"""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

import orjson

Format = Literal["auto", "json", "text", "journal"]

_PRIORITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_COLOUR: Final = {
    logging.DEBUG: "2",
    logging.INFO: "0",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "31;1",
}


class JsonLines(logging.Formatter):
    """One object a line: time (RFC 3339), level, logger, message; traceback, if there is one.

    A record of blocklistd.events also has `event`, and each field that has a value. Fields are strings, numbers, or
    lists of strings.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if (event := getattr(record, "event", None)) is not None:
            line["event"] = event
        line["message"] = record.getMessage()
        fields: dict[str, object] = getattr(record, "fields", {})
        line |= {name: value for name, value in fields.items() if value is not None}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps({key: _plain(value) for key, value in line.items()}).decode()


def _plain(value: object) -> object:
    """The value as JSON has it; text without lone surrogates, which a file name may have."""
    if isinstance(value, int | float):
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value).encode(errors="backslashreplace").decode()


class Journal(logging.Formatter):
    """Lines that begin with their priority (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITY.get(record.levelno, 6)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class Terminal(logging.Formatter):
    """Lines for people: time of day, level, message, in the colour of the level if `colours`."""

    def __init__(self, colours: bool) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"\x1b[{_COLOUR.get(record.levelno, '0')}m{text}\x1b[0m" if self._colours else text


LIBRARIES: Final = {
    "apscheduler": logging.ERROR,  # its warnings repeat ours
    "apscheduler.executors": logging.CRITICAL,  # its tracebacks hold what was worked on
    "asyncio": logging.ERROR,  # in debug mode it warns of slow calls, with their arguments
    "aiohttp.server": logging.CRITICAL,  # its tracebacks contain bytes that a client sent
}
"""The lowest level that is logged of a library."""


def formatter(format: str, stream: TextIO) -> logging.Formatter:
    """The formatter for a format and the stream that it writes to.

    `auto`: the journal's if the stream is the journal's, text on a terminal, else JSON.
    """
    if format == "auto":
        format = "journal" if _is_journal(stream) else "text" if stream.isatty() else "json"
    if format == "journal":
        return Journal("%(name)s: %(message)s")
    return Terminal(stream.isatty()) if format == "text" else JsonLines()


def _is_journal(stream: TextIO) -> bool:
    """Whether the stream is the journal's: $JOURNAL_STREAM is its device and inode (systemd.exec(5)).

    The variable alone proves nothing: all processes of a session inherit it.
    """
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def configure(level: str, format: str, stream: TextIO | None = None) -> None:
    """Sets up the root logger, at a start and at each reload. Libraries log from WARNING up, or from their level in
    LIBRARIES.

    `stream`: stderr by default.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(format, stream))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("blocklistd").setLevel(level.upper())
    for name, lowest in LIBRARIES.items():
        logging.getLogger(name).setLevel(lowest)
