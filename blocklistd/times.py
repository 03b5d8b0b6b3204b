"""Times: how they are written, RFC 3339 in UTC and whole seconds, and a clock that is believed within bounds."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

TOLERANCE: Final = timedelta(minutes=1)  # that clocks may differ by
FURTHEST: Final = timedelta(days=365)  # that a clock may be ahead of all that was recorded
STEPS: Final = 64  # forward at once, that are remembered: each may be taken back

Clock = Callable[[], datetime]
"""Answers the time, with its zone."""


def rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_now() -> datetime:
    """The clock of the shells; pure code is given the time."""
    return datetime.now(UTC)


def passed() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class CheckedClock:
    """The system's clock, unless it is behind the newest time that was recorded, or a year ahead of it.

    Then `wrong` says so, and time goes on from the last that was believed, as time passes: nothing that has a time
    expires, comes again or goes back by a clock that is wrong.
    """

    def __init__(self, wall: Callable[[], datetime] = utc_now, passed: Callable[[], float] = passed) -> None:
        self._wall = wall
        self._passed = passed
        self._lock = threading.Lock()
        self._believed = wall(), passed()
        self._steps: deque[tuple[datetime, float]] = deque(maxlen=STEPS)
        """What was believed before each step forward."""
        self.wrong: str | None = None

    def begin(self, recorded: datetime | None) -> None:
        """`recorded` is the newest time of the state; None where there is none."""
        if recorded is not None:
            self._believed = recorded, self._passed()
        self()
        self._steps.clear()

    def believe(self) -> None:
        """A person says that the clock is right."""
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
        """Whether a step forward that was believed, and all after it, were taken back."""
        for number, before in enumerate(self._steps):
            if abs(now - self._line(before)) <= TOLERANCE:
                while len(self._steps) > number:
                    self._steps.pop()
                return True
        return False

    def latest(self) -> datetime:
        """The latest that it can be now: what is made to last has to last beyond it."""
        return max(self(), self._wall())

    def _line(self, since: tuple[datetime, float]) -> datetime:
        return since[0] + timedelta(seconds=self._passed() - since[1])

    def _say(self, text: str, now: datetime) -> None:
        """Once, until it is over: the same words each time."""
        if self.wrong is None:
            self.wrong = f"the clock says {rfc3339(now)}, {text}. Meanwhile time goes on from what was recorded"
