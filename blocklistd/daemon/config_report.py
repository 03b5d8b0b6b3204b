"""Everything that `check-config` reports of a configuration without fatal errors; `doctor` reports the same."""

from __future__ import annotations

from blocklistd.config import CheckedConfig
from blocklistd.daemon import guard_names, state_checks, zonemd
from blocklistd.errors import ConfigProblem


def problems_of(checked: CheckedConfig) -> list[ConfigProblem]:
    """Every error, in the order of the lines: those of the file, of guard files, of the state, and of zones that their
    subscribers can't take."""
    config = checked.config
    found = [*checked.problems, *guard_names.problems_of(config, checked.lines), *state_checks.problems_of(checked)]
    found += zonemd.problems_of(checked, zonemd.stored_subscribers(config.state_dir, config.database))
    return sorted(found, key=lambda problem: problem.line)


def warnings_of(checked: CheckedConfig) -> list[ConfigProblem]:
    """Every warning."""
    return [*checked.warnings, *state_checks.warnings_of(checked)]
