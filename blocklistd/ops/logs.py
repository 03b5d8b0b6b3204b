"""Logs: JSON lines for machines, the journal's priorities under systemd, colours on a terminal. Never an entry."""

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
    """One object a line: time, level, logger, message, and an error's traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(
            {key: text.encode(errors="backslashreplace").decode() for key, text in line.items()}
        ).decode()


class Journal(logging.Formatter):
    """sd-daemon(3): each line begins with its priority."""

    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITY.get(record.levelno, 6)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class Terminal(logging.Formatter):
    """For eyes: time of day, level in its colour."""

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
    "aiohttp.server": logging.CRITICAL,  # its tracebacks hold what a stranger sent
}
"""From which level on some are heard."""


def formatter(wanted: str, stream: TextIO) -> logging.Formatter:
    """`auto`: the journal under systemd, text on a terminal, else JSON."""
    if wanted == "auto":
        wanted = "journal" if _is_journal(stream) else "text" if stream.isatty() else "json"
    if wanted == "journal":
        return Journal("%(name)s: %(message)s")
    return Terminal(stream.isatty()) if wanted == "text" else JsonLines()


def _is_journal(stream: TextIO) -> bool:
    """systemd.exec(5), $JOURNAL_STREAM: device and inode, since the variable alone is inherited by whole sessions."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def configure(level: str, wanted: str, stream: TextIO | None = None) -> None:
    """Sets up the root logger; called again by a reload. Libraries are heard from WARNING up."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(wanted, stream))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("blocklistd").setLevel(level.upper())
    for name, lowest in LIBRARIES.items():
        logging.getLogger(name).setLevel(lowest)
