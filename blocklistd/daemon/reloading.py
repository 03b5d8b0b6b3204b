"""Reloads the configuration: applies all of the new configuration, or none of it.

1. Check the new file, and read the names of its guards. An error, or a changed key that needs a restart: refuse the
   reload, report every error, keep the running configuration.
2. Give each part its section (Parts.configure), clear the alarms about the configuration, set the log's level.
3. Serve the lists, schedule the work, publish the zones, check the alarms. An error here is logged; the rest goes on.
4. In the background, reconcile: judge held candidates again, and compose the lists whose sources changed.

`blocklistd reload` prints the changed keys or every error; after a SIGHUP they are in the log. A halted daemon refuses.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from blocklistd.config import CheckedConfig, check
from blocklistd.daemon import plans, zonemd
from blocklistd.daemon.start import changes_for_a_restart
from blocklistd.daemon.state_checks import problem_at
from blocklistd.errors import BlocklistError, ConfigError, ConfigProblem, redacted, safe_message
from blocklistd.events import Event
from blocklistd.model import Act
from blocklistd.ops import logs, loop, systemd
from blocklistd.store import subscribers

if TYPE_CHECKING:
    from blocklistd.daemon.parts import Parts

log: Final = logging.getLogger(__name__)

Change = tuple[str, str]
"""A key of the configuration, and its change: `added`, `removed`, `changed`, or `read again` (the value is the same,
but the file that it names has new content)."""


class Reloading:
    """Runs reloads, one at a time. `running` is the configuration in force."""

    def __init__(self, parts: Parts, running: CheckedConfig) -> None:
        self._parts = parts
        self.running = running
        self._lock = asyncio.Lock()

    async def run(self, act: Act | None = None) -> list[Change]:
        """Reloads, and returns the changes. `act`: the command; None: a SIGHUP, whose sender is unknown.

        Raises ConfigError with every error in the configuration, or another BlocklistError or OSError; the running
        configuration then stays.
        """
        async with self._lock:
            systemd.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                return await self._run(act)
            except (BlocklistError, OSError) as error:
                for problem in error.problems if isinstance(error, ConfigError) else [error]:
                    Event.RELOAD_REFUSED.log(log, reason=problem)
                raise
            finally:
                systemd.notify("READY=1")

    async def run_quietly(self) -> None:
        """Reloads after a SIGHUP. Never raises an error: errors are in the log."""
        try:
            await self.run()
        except (BlocklistError, OSError):
            return  # logged by `run`
        except Exception as error:
            Event.RELOAD_FAILED.log(log, reason=safe_message(error), exc_info=redacted(error))

    async def _run(self, act: Act | None) -> list[Change]:
        parts = self._parts
        parts.resources.database.require()
        checked = await asyncio.to_thread(check, parts.config.path)
        new = checked.config
        known = await parts.resources.database.reading(subscribers.load)
        problems = [*checked.problems, *zonemd.problems_of(checked, known.values())]
        need_restart = [_restart_problem(checked, key) for key in changes_for_a_restart(parts.config, new)]
        if problems or need_restart:
            raise ConfigError([*problems, *need_restart])
        names = await parts.guard_names.read(new)
        unusable = [problem.of_file(new, checked.lines) for problem in names.problems]
        unusable += [problem.of_file(new, checked.lines) for problem in names.exceptions.problems]
        if unusable:
            raise ConfigError(unusable)
        await parts.configure(new, await asyncio.to_thread(plans.source_plans, new), names)
        await parts.guard_names.exceptions.record()
        changed = [*changed_keys(self.running, checked)]
        self.running = checked
        parts.alarms.clear_configuration_alarms()
        log_warnings(checked)
        logs.configure(new.ops.log.level, new.ops.log.format)
        await loop.run_steps(
            *(parts.serve_lists, parts.housekeeping.schedule, parts.zones.advance, parts.update_catalogs),
            parts.housekeeping.check_alarms,
        )
        Event.RELOADED.log(log, file=new.path, changed=[key for key, _ in changed])
        parts.releases.in_background(self._reconcile(act))
        return changed

    async def _reconcile(self, act: Act | None) -> None:
        parts = self._parts
        await parts.tasks.do("reconcile", functools.partial(parts.reconciler.reconcile, act))
        await parts.housekeeping.count_due()


def log_warnings(checked: CheckedConfig) -> None:
    """Logs the warnings of a configuration."""
    for warning in checked.warnings:
        Event.CONFIGURATION_WARNING.log(log, warning=warning)


def _restart_problem(checked: CheckedConfig, key: str) -> ConfigProblem:
    expected = "the running value, since only a restart changes it: restore it, or run `systemctl restart blocklistd`"
    return problem_at(checked, key, "another value than the running one", expected)


def changed_keys(old: CheckedConfig, new: CheckedConfig) -> Iterator[Change]:
    """The changed keys in the order of the configuration's sections, then the keys whose file has new content."""
    changed = list(_changed_keys("", old.config, new.config))
    yield from changed
    for key, content in new.contents.items():
        if (
            key in old.contents
            and old.contents[key] != content
            and not any(f"{key}.".startswith(f"{one}.") for one, _ in changed)
        ):
            yield key, "read again"


def _changed_keys(key: str, old: Any, new: Any) -> Iterator[Change]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            if name not in new or name not in old:
                yield f"{key}.{name}", "removed" if name not in new else "added"
            else:
                yield from _changed_keys(f"{key}.{name}", old[name], new[name])
    elif dataclasses.is_dataclass(old) and type(old) is type(new) and (names := _keys(old)):
        for name in names:
            yield from _changed_keys(f"{key}.{name}" if key else name, getattr(old, name), getattr(new, name))
    else:
        yield key, "added" if old is None else "removed" if new is None else "changed"


def _keys(section: Any) -> list[str]:
    """The names of a section's keys; empty for a value such as an address."""
    return [one.name for one in dataclasses.fields(section) if "reader" in one.metadata]
