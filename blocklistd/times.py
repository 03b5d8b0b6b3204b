"""Times are written by RFC 3339, in UTC and whole seconds. A CheckedClock rejects a system clock that is far off."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

TOLERANCE: Final = timedelta(minutes=1)  # the most by which right clocks differ
FURTHEST: Final = timedelta(days=365)  # the most that a right clock is ahead of the newest recorded time
STEPS: Final = 64  # steps forward that are remembered: each may be taken back

Clock = Callable[[], datetime]
"""Answers the time, as an aware datetime."""


def rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_now() -> datetime:
    """The system's clock, for code that does I/O; pure code is given the time."""
    return datetime.now(UTC)


def passed() -> float:
    """Seconds of a monotonic clock that also counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class CheckedClock:
    """The system's clock, unless it is behind the newest recorded time or more than a year ahead of it.

    Then `wrong` says so, and the time is the last believed one plus the time that has passed since: so a wrong clock
    lets nothing expire, and makes no time go back. Call `begin` first.
    """

    def __init__(self, wall: Callable[[], datetime] = utc_now, passed: Callable[[], float] = passed) -> None:
        self._wall = wall
        self._passed = passed
        self._lock = threading.Lock()
        self._believed = wall(), passed()
        self._steps: deque[tuple[datetime, float]] = deque(maxlen=STEPS)
        """The pair (time, `passed`) that was believed before each step forward."""
        self.wrong: str | None = None

    def begin(self, recorded: datetime | None) -> None:
        """Starts from `recorded`, the newest time in the database; None where there is none."""
        if recorded is not None:
            self._believed = recorded, self._passed()
        self()
        self._steps.clear()

    def believe(self) -> None:
        """Believes the system's clock as it is now: a person found it right."""
        self._believed = self._wall(), self._passed()
        self._steps.clear()
        self.wrong = None

    def __call__(self) -> datetime:
        with self._lock:
            now, line = self._wall(), self._line(self._believed)
            if now < line - TOLERANCE and not self._takes_back(now):
                text = f"behind the newest time that was recorded, {rfc3339(line)}: put it right"
                self._say(f"{text}; or, if it is right, `blocklistd start-above N`", now)
                return line
            if now > line + FURTHEST:
                text = (
                    f"more than a year ahead of all that was recorded, up to {rfc3339(line)}: put it right; or, if it "
                )
                self._say(f"{text}is right and this state is that old, `blocklistd start-above N`", now)
                return line
            if now > line + TOLERANCE:
                self._steps.append(self._believed)
            if now > line or now < line - TOLERANCE:
                self._believed = now, self._passed()
            self.wrong = None
            return now

    def _takes_back(self, now: datetime) -> bool:
        """Whether the clock is where it would be without one of the steps forward and all later ones."""
        for number, before in enumerate(self._steps):
            if abs(now - self._line(before)) <= TOLERANCE:
                while len(self._steps) > number:
                    self._steps.pop()
                return True
        return False

    def latest(self) -> datetime:
        """The later of the believed time and the system's: a new signature must not expire before either."""
        return max(self(), self._wall())

    def _line(self, since: tuple[datetime, float]) -> datetime:
        return since[0] + timedelta(seconds=self._passed() - since[1])

    def _say(self, text: str, now: datetime) -> None:
        """Sets `wrong`, which then stays the same until the clock is believed again."""
        if self.wrong is None:
            self.wrong = f"the clock says {rfc3339(now)}, {text}. Meanwhile time goes on from what was recorded"
