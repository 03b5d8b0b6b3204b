"""What is done by itself: an error in it ends nothing that is served, is an alarm, and is tried again."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from blocklistd.errors import BlocklistError, told, without_text
from blocklistd.telemetry import Standing

Work = Callable[[], Awaitable[object]]
log: Final = logging.getLogger(__name__)
LONGEST_PAUSE: Final = 64  # turns of `again` that are left out at most, between two tries of the same


@dataclass(slots=True)
class _Failed:
    work: Work
    tries: int = 1
    pause: int = 0


class Duties:
    """Work by name. `again` tries what has failed since it was last done, after 1, 2, 4 … turns."""

    def __init__(self, alarms: Standing) -> None:
        self._alarms = alarms
        self._failed: dict[str, _Failed] = {}

    async def do(self, name: str, work: Work) -> None:
        """Never raises, but where the task is cancelled."""
        try:
            await work()
        except Exception as error:
            self._note(name, work, error)
        else:
            self._failed.pop(name, None)
            self._alarms.stand("housekeeping", name)

    def _note(self, name: str, work: Work, error: Exception) -> None:
        failed = self._failed.get(name)
        if failed is None:
            self._failed[name] = _Failed(work)
            if not isinstance(error, BlocklistError):
                log.error("%s: %s", name, told(error), exc_info=without_text(error))
        else:
            failed.work, failed.pause = work, min(2**failed.tries - 1, LONGEST_PAUSE)
            failed.tries += 1
        self._alarms.stand("housekeeping", name, f"{name}: {told(error)}: it is tried again")

    def duty(self, name: str, work: Work) -> Work:
        """The same, to be called later."""
        return functools.partial(self.do, name, work)

    async def again(self) -> None:
        """One turn."""
        for name, failed in list(self._failed.items()):
            if failed.pause:
                failed.pause -= 1
            else:
                await self.do(name, failed.work)
