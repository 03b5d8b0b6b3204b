"""How late the event loop is: whatever holds it holds every subscriber."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from blocklistd.ops import systemd

INTERVAL: Final = 0.25  # seconds between two looks


async def watch(observe: Callable[[float], None], interval: float = INTERVAL) -> None:
    """Tells again and again by how many seconds the loop came later than it was asked to. Ends when it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        observe(max(0.0, loop.time() - due))


async def feed(interval: float | None) -> None:
    """Gives systemd's watchdog a sign of life every so many seconds, while the loop turns. None: nobody watches."""
    while interval is not None:
        systemd.notify("WATCHDOG=1")
        await asyncio.sleep(interval)
