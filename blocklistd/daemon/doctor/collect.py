"""Collects the facts for `blocklistd doctor`: from the configuration, the daemon, the machine and the state_dir."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from blocklistd import __version__
from blocklistd.config import CheckedConfig, check
from blocklistd.daemon import config_report
from blocklistd.daemon.doctor.facts import Facts
from blocklistd.daemon.doctor.host import host_facts
from blocklistd.daemon.doctor.stored import stored_facts
from blocklistd.errors import BlocklistError, ConfigError, ConfigProblem

AskDaemon = Callable[[], Any]
"""Returns the daemon's document of the hidden command `status facts`, or the reason (a text) why it does not answer."""


def collect(path: Path, ask: AskDaemon, now: datetime) -> Facts:
    """All facts that this user can see of the installation with this configuration file. Never raises BlocklistError:
    what can't be read is in `skipped`."""
    answer = ask()
    daemon, unreachable = (None, answer) if isinstance(answer, str) else (answer, "")
    checked: CheckedConfig | None = None
    skipped: list[str] = []
    problems: tuple[ConfigProblem, ...] = ()
    warnings: tuple[ConfigProblem, ...] = ()
    try:
        checked = check(path)
        problems, warnings = tuple(config_report.problems_of(checked)), tuple(config_report.warnings_of(checked))
    except ConfigError as error:
        problems = tuple(error.problems)
    if checked is None:
        skipped.append("files, disks and the stored state: the configuration can't be used: correct it first")
        return Facts(now, __version__, None, problems, warnings, daemon, unreachable, skipped=tuple(skipped))
    config, stored = checked.config, None
    try:
        stored = stored_facts(config, now)
    except (BlocklistError, OSError) as error:
        skipped.append(f"the stored state: {error}; only root and the daemon's user can read it")
    return Facts(
        now,
        __version__,
        config,
        problems,
        warnings,
        daemon,
        unreachable,
        host_facts(config),
        stored,
        tuple(skipped),
    )
