"""Times as they are written everywhere: RFC 3339, UTC, whole seconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Answers the time, with its zone."""


def rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_now() -> datetime:
    """The clock of the shells; pure code is given the time."""
    return datetime.now(UTC)
