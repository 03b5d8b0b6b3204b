"""Runs the daemon's recurring work: an error stops nothing else, raises an alarm, and is followed by another try."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from blocklistd.errors import BlocklistError, told, without_text
from blocklistd.events import Event
from blocklistd.telemetry import ActiveAlarms

Work = Callable[[], Awaitable[object]]
log: Final = logging.getLogger(__name__)
LONGEST_PAUSE: Final = 64  # the most turns of `again` that are skipped between two tries of the same work


@dataclass(slots=True)
class _Failed:
    work: Work
    tries: int = 1
    pause: int = 0


class Duties:
    """Runs work by name, and keeps what failed. Each call of `again` is a turn: it tries failed work after 1, 2, 4 …
    turns."""

    def __init__(self, alarms: ActiveAlarms) -> None:
        self._alarms = alarms
        self._failed: dict[str, _Failed] = {}

    async def do(self, name: str, work: Work) -> None:
        """Runs the work. Raises nothing but CancelledError."""
        try:
            await work()
        except Exception as error:
            self._note(name, work, error)
        else:
            self._failed.pop(name, None)
            self._alarms.clear("housekeeping", name)

    def _note(self, name: str, work: Work, error: Exception) -> None:
        failed = self._failed.get(name)
        if failed is None:
            self._failed[name] = _Failed(work)
            if not isinstance(error, BlocklistError):
                Event.HOUSEKEEPING_FAILED.log(log, task=name, error=told(error), exc_info=without_text(error))
        else:
            failed.work, failed.pause = work, min(2**failed.tries - 1, LONGEST_PAUSE)
            failed.tries += 1
        self._alarms.raise_alarm("housekeeping", name, f"{name}: {told(error)}: it is tried again")

    def duty(self, name: str, work: Work) -> Work:
        """`do` with these arguments, as a callable."""
        return functools.partial(self.do, name, work)

    async def again(self) -> None:
        """Tries the failed work whose pause is over."""
        for name, failed in list(self._failed.items()):
            if failed.pause:
                failed.pause -= 1
            else:
                await self.do(name, failed.work)
