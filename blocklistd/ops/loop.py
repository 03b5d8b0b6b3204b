"""The event loop: its lateness, systemd's watchdog, and errors that no code handles.

A late loop delays every client, so its lateness is measured. A loop that hangs stops feeding the watchdog.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from blocklistd.errors import redacted, redacted_if_unexpected, safe_message
from blocklistd.events import Event
from blocklistd.ops import systemd

log: Final = logging.getLogger(__name__)

INTERVAL: Final = 0.25  # seconds between two measurements


async def measure_lag(observe: Callable[[float], None], interval: float = INTERVAL) -> None:
    """Calls `observe` every `interval` seconds with the lateness of the loop in seconds, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        observe(max(0.0, loop.time() - due))


def log_unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs an error that no task waits for: a handler for loop.set_exception_handler.

    asyncio's own handler logs the error's text and the repr of the task, which may contain an entry.
    """
    error = context.get("exception")
    if error is None:
        Event.LOOP_ERROR.log(log, error=context["message"])
    else:
        Event.LOOP_ERROR.log(log, error=type(error).__name__, exc_info=redacted(error))


async def feed_watchdog(interval: float | None) -> None:
    """Notifies systemd's watchdog every `interval` seconds, until cancelled. Returns at once if `interval` is None."""
    while interval is not None:
        systemd.notify("WATCHDOG=1")
        await asyncio.sleep(interval)


async def run_steps(*steps: Callable[[], Awaitable[None]]) -> None:
    """Runs the steps in order. Logs an error, and goes on with the next step."""
    for step in steps:
        try:
            await step()
        except Exception as error:
            name, trace = step.__name__.strip("_"), redacted_if_unexpected(error)
            Event.STEP_FAILED.log(log, step=name, reason=safe_message(error), exc_info=trace)
