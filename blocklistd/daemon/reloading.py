"""A reload applies all of the new configuration or none of it. `blocklistd reload` prints the changed keys or every
error; after a SIGHUP the log has the same."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from blocklistd.config import CheckedConfig, check
from blocklistd.daemon import plans
from blocklistd.daemon.start import fixed_changes
from blocklistd.errors import BlocklistError, ConfigError, ConfigProblem, told, without_text
from blocklistd.events import Event
from blocklistd.ops import logs, loop, systemd

if TYPE_CHECKING:
    from blocklistd.daemon.parts import Parts

log: Final = logging.getLogger(__name__)

Change = tuple[str, str]
"""A key of the configuration, and how it changed: `added`, `removed`, `changed`, or `read again` where the key is the
same and the file that it names has other content."""


class Reloading:
    """Runs reloads, one at a time. `running` is the configuration in force."""

    def __init__(self, parts: Parts, running: CheckedConfig) -> None:
        self._parts = parts
        self._running = running
        self._lock = asyncio.Lock()

    async def run(self) -> list[Change]:
        """Reloads; returns what changed. Raises ConfigError with every error in the configuration, or another
        BlocklistError or OSError; then the running configuration stays."""
        async with self._lock:
            systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                return await self._run()
            except (BlocklistError, OSError) as error:
                for problem in error.problems if isinstance(error, ConfigError) else [error]:
                    Event.RELOAD_REFUSED.log(log, reason=problem)
                raise
            finally:
                systemd.notify("READY=1")

    async def run_quietly(self) -> None:
        """Reloads after a SIGHUP. Never raises: errors are in the log."""
        try:
            await self.run()
        except (BlocklistError, OSError):
            return  # `run` has logged it
        except Exception as error:
            Event.RELOAD_FAILED.log(log, reason=told(error), exc_info=without_text(error))

    async def _run(self) -> list[Change]:
        parts = self._parts
        parts.resources.database.require()
        read = await asyncio.to_thread(check, parts.config.path)
        new = read.config
        fixed = [_needs_restart(read, key) for key in fixed_changes(parts.config, new)]
        if read.problems or fixed:
            raise ConfigError([*read.problems, *fixed])
        await parts.configure(new, await asyncio.to_thread(plans.source_plans, new))
        changed = [*differences(self._running, read)]
        self._running = read
        parts.alarms.mended()
        warn(read)
        logs.configure(new.ops.log.level, new.ops.log.format)
        await loop.in_turn(
            parts.serve_lists, parts.housekeeping.schedule, parts.zones.advance, parts.housekeeping.look_for_alarms
        )
        Event.RELOADED.log(log, file=new.path, changed=[key for key, _ in changed])
        parts.releases.in_background(parts.duties.do("reconcile", parts.reconciling.reconcile))
        return changed


def warn(read: CheckedConfig) -> None:
    """Logs the warnings of a configuration."""
    for warning in read.warnings:
        Event.CONFIGURATION_WARNING.log(log, warning=warning)


def _needs_restart(read: CheckedConfig, key: str) -> ConfigProblem:
    written = key.partition(" ")[0]
    while written and written not in read.lines:
        written = written.rpartition(".")[0]
    return ConfigProblem(
        read.config.path,
        read.lines.get(written, 1),
        key,
        "another value than the one that runs",
        "the same: it can only be changed by a restart (`systemctl restart blocklistd`)",
    )


def differences(old: CheckedConfig, new: CheckedConfig) -> Iterator[Change]:
    """The keys that differ, in the order of the configuration's sections, then the files with other content."""
    changed = list(_differences("", old.config, new.config))
    yield from changed
    for key, content in new.contents.items():
        if (
            key in old.contents
            and old.contents[key] != content
            and not any(f"{key}.".startswith(f"{one}.") for one, _ in changed)
        ):
            yield key, "read again"


def _differences(key: str, old: Any, new: Any) -> Iterator[Change]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            if name not in new or name not in old:
                yield f"{key}.{name}", "removed" if name not in new else "added"
            else:
                yield from _differences(f"{key}.{name}", old[name], new[name])
    elif dataclasses.is_dataclass(old) and type(old) is type(new) and (names := _keys(old)):
        for name in names:
            yield from _differences(f"{key}.{name}" if key else name, getattr(old, name), getattr(new, name))
    else:
        yield key, "added" if old is None else "removed" if new is None else "changed"


def _keys(section: Any) -> list[str]:
    """The names of a section's keys; empty for a value such as an address."""
    return [one.name for one in dataclasses.fields(section) if "reader" in one.metadata]
