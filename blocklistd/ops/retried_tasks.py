"""Runs the daemon's recurring tasks: an error of one stops no other, raises an alarm, and the task is tried again.

A task, known by its name, is in one of two states, in memory only:

- not failed: `do` runs it. An error makes it failed and raises the alarm.
- failed: `do` runs it too. `again`, called once a minute, tries it at the first call, then skips 1, 3, 7 … calls, at
  most LONGEST_PAUSE. Success clears the alarm; another error keeps it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from blocklistd.errors import BlocklistError, redacted, safe_message
from blocklistd.events import Event
from blocklistd.telemetry import ActiveAlarms

Work = Callable[[], Awaitable[object]]
log: Final = logging.getLogger(__name__)
LONGEST_PAUSE: Final = 64  # the most calls of `again` that skip a failed task


@dataclass(slots=True)
class _Failed:
    """A failed task. `tries`: the number of its errors; `pause`: the calls of `again` to skip."""

    work: Work
    tries: int = 1
    pause: int = 0


class RetriedTasks:
    """Runs tasks, and tries the failed ones again."""

    def __init__(self, alarms: ActiveAlarms) -> None:
        self._alarms = alarms
        self._failed: dict[str, _Failed] = {}

    async def do(self, name: str, work: Work) -> None:
        """Runs a task. Raises CancelledError only: any other error is an alarm, and a log event if it is unexpected."""
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
                Event.HOUSEKEEPING_FAILED.log(log, task=name, error=safe_message(error), exc_info=redacted(error))
        else:
            failed.work, failed.pause = work, min(2**failed.tries - 1, LONGEST_PAUSE)
            failed.tries += 1
        self._alarms.raise_alarm(
            "housekeeping", name, f"the recurring task {name} failed: {safe_message(error)}: it is tried again"
        )

    def retried(self, name: str, work: Work) -> Work:
        """`do` with these arguments, as a callable for the scheduler."""
        return functools.partial(self.do, name, work)

    async def again(self) -> None:
        """Tries the failed tasks whose pause has ended. Called once a minute."""
        for name, failed in list(self._failed.items()):
            if failed.pause:
                failed.pause -= 1
            else:
                await self.do(name, failed.work)
