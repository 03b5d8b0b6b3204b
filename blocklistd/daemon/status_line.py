"""The line that `systemctl status` shows: the live versions, the held candidates and the active alarms. No entry."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from blocklistd.errors import StoreError
from blocklistd.model import ListId
from blocklistd.ops import systemd
from blocklistd.store import candidates

if TYPE_CHECKING:
    from blocklistd.daemon.parts import Parts

EVERY: Final = 2.0  # seconds between two looks whether the line has changed
LISTS: Final = 8  # lists that the line names
LENGTH: Final = 400  # characters of the line


def status_line(versions: Mapping[ListId, int], held: Mapping[ListId, int], alarms: int) -> str:
    """The line of a daemon that serves. `versions`: the live version of each list, 0 without one. `held`: the number of
    held candidates by list. `alarms`: the number of active alarms."""
    shown = [f"{name} {version or 'without a version'}" for name, version in list(versions.items())[:LISTS]]
    more = [f"{len(versions) - LISTS} more"] if len(versions) > LISTS else []
    parts = [f"serving {', '.join([*shown, *more])}" if shown else "serving no list"]
    if held:
        parts.append(f"held: {', '.join(f'{count} of {name}' for name, count in list(held.items())[:LISTS])}")
    if alarms:
        parts.append(f"{alarms} {'alarm' if alarms == 1 else 'alarms'}: run `blocklistd status`")
    return "; ".join(parts)[:LENGTH]


async def keep_current(parts: Parts) -> None:
    """Sends the line to systemd whenever it has changed, until cancelled. Returns at once without systemd."""
    sent = None
    while systemd.is_notified():
        line = await _line(parts)
        if line != sent:
            systemd.notify(f"STATUS={line}")
            sent = line
        await asyncio.sleep(EVERY)


async def _line(parts: Parts) -> str:
    if parts.halted is not None:
        return f"halted: {parts.halted.splitlines()[0]}"[:LENGTH]
    versions = {view.id: view.version for view in parts.live_lists}
    try:
        held = await parts.resources.database.reading(candidates.held_by_list)
    except StoreError:  # an alarm says so
        held = {}
    return status_line(versions, held, len(parts.resources.alarms.active()))
