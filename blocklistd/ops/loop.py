"""How late the event loop is: whatever holds it holds every subscriber."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from blocklistd.errors import told, without_text
from blocklistd.events import Event
from blocklistd.ops import systemd

log: Final = logging.getLogger(__name__)

INTERVAL: Final = 0.25  # seconds between two looks


async def watch(observe: Callable[[float], None], interval: float = INTERVAL) -> None:
    """Tells again and again by how many seconds the loop came later than it was asked to. Ends when it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        observe(max(0.0, loop.time() - due))


def unheard(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error that nobody waits for; asyncio's own handler would show what was being worked on."""
    error = context.get("exception")
    if error is None:
        Event.LOOP_ERROR.log(log, error=context["message"])
    else:
        Event.LOOP_ERROR.log(log, error=type(error).__name__, exc_info=without_text(error))


async def feed(interval: float | None) -> None:
    """Gives systemd's watchdog a sign of life every so many seconds, while the loop turns. None: nobody watches."""
    while interval is not None:
        systemd.notify("WATCHDOG=1")
        await asyncio.sleep(interval)


async def in_turn(*steps: Callable[[], Awaitable[None]]) -> None:
    """One after the other; what fails is logged, and keeps nothing behind it from its turn."""
    for step in steps:
        try:
            await step()
        except Exception as error:
            Event.STEP_FAILED.log(log, step=step.__name__.strip("_"), reason=told(error), exc_info=without_text(error))
