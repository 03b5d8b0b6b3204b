"""RFC 3339 times, and a CheckedClock, which does not believe a system clock that is far off.

States of a CheckedClock:

    right → wrong   the system's clock is more than a minute behind the expected time, or more than a year ahead of it
    wrong → right   the system's clock is right again, or an operator confirmed it (`believe`)

The expected time is the newest recorded or believed time, plus the time that has passed since on a monotonic clock.
While the clock is wrong, the CheckedClock returns the expected time. A smaller step forward is believed and remembered.
So a clock that is set back by such a step, to where it would be without the step, is believed too.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

TOLERANCE: Final = timedelta(minutes=1)  # the most by which right clocks differ
MAX_AHEAD: Final = timedelta(days=365)  # the most that a right clock is ahead of the expected time
STEPS: Final = 64  # steps forward that are remembered, since each may be taken back

Clock = Callable[[], datetime]
"""Returns the time, as an aware datetime."""


def rfc3339(time: datetime) -> str:
    """The text of a time by RFC 3339, in UTC and whole seconds."""
    # not strftime: its %Y has no zeros before the year 9, which then can't be parsed
    return time.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def rfc3339_precise(time: datetime) -> str:
    """The text of a time by RFC 3339, in UTC and milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def utc_now() -> datetime:
    """The time of the system's clock. Only for code that does I/O; pure code gets the time as an argument."""
    return datetime.now(UTC)


def passed() -> float:
    """Seconds of a monotonic clock that also runs while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class CheckedClock:
    """The system's clock, unless that is behind the expected time or more than a year ahead of it (see the module).

    While the clock is wrong, `wrong` is a message for the operator, and the time is the expected one. So a wrong clock
    makes nothing expire, and no recorded time is later than the present one. Call `begin` first, then the object itself
    for the time.
    """

    def __init__(self, wall: Callable[[], datetime] = utc_now, passed: Callable[[], float] = passed) -> None:
        self._wall = wall
        self._passed = passed
        self._lock = threading.Lock()
        self._believed = wall(), passed()
        self._steps: deque[tuple[datetime, float]] = deque(maxlen=STEPS)
        """For each step forward the pair (time, `passed`) that was believed before it."""
        self.wrong: str | None = None

    def begin(self, recorded: datetime | None) -> None:
        """Starts from `recorded`, the newest time in the database; None if it has no time."""
        if recorded is not None:
            self._believed = recorded, self._passed()
        self()
        self._steps.clear()

    def believe(self) -> None:
        """Believes the system's clock as it is now: an operator confirmed it."""
        self._believed = self._wall(), self._passed()
        self._steps.clear()
        self.wrong = None

    def __call__(self) -> datetime:
        with self._lock:
            now, expected = self._wall(), self._expected(self._believed)
            if now < expected - TOLERANCE and not self._takes_back(now):
                text = f"behind the newest recorded time, {rfc3339(expected)}: put it right"
                self._set_wrong(f"{text}; or, if it is right, run `blocklistd start-above N`", now)
                return expected
            if now > expected + MAX_AHEAD:
                text = f"more than a year ahead of the newest recorded time, {rfc3339(expected)}: put it right"
                self._set_wrong(
                    f"{text}; or, if it is right and this state is old, run `blocklistd start-above N`", now
                )
                return expected
            if now > expected + TOLERANCE:
                self._steps.append(self._believed)
            if now > expected or now < expected - TOLERANCE:
                self._believed = now, self._passed()
            self.wrong = None
            return now

    def _takes_back(self, now: datetime) -> bool:
        """Whether the clock is where it would be without one of the steps forward and the later ones. Forgets these
        steps then."""
        for number, before in enumerate(self._steps):
            if abs(now - self._expected(before)) <= TOLERANCE:
                while len(self._steps) > number:
                    self._steps.pop()
                return True
        return False

    def latest(self) -> datetime:
        """The later of the checked time and the system's: a new signature must not be expired by either of them."""
        return max(self(), self._wall())

    def _expected(self, since: tuple[datetime, float]) -> datetime:
        """A believed time plus the time that has passed since."""
        return since[0] + timedelta(seconds=self._passed() - since[1])

    def _set_wrong(self, text: str, now: datetime) -> None:
        """Sets `wrong` if it is not set: the text stays the same while the clock is wrong."""
        if self.wrong is None:
            self.wrong = f"the clock shows {rfc3339(now)}, {text}. Until then the recorded time goes on"
