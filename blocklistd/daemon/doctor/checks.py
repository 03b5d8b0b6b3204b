"""All checks of `blocklistd doctor` in one table, and what they find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from blocklistd.daemon.doctor import machine, service
from blocklistd.daemon.doctor.check import GROUPS, Check, Level
from blocklistd.daemon.doctor.facts import Facts

CHECKS: Final[tuple[Check, ...]] = (*machine.CHECKS, *service.CHECKS)


@dataclass(frozen=True, slots=True)
class Symptom:
    """A finding with its group and the name of its check."""

    level: Level
    group: str
    check: str
    text: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What all checks have found, the worst first within each group, and the groups with the worst first. `skipped`:
    why some checks could not look."""

    found: tuple[Symptom, ...]
    skipped: tuple[str, ...]
    is_running: bool

    @property
    def worst(self) -> Level:
        """The worst level that was found; NOTE if nothing is wrong."""
        return max((one.level for one in self.found), default=Level.NOTE)

    def document(self) -> dict[str, Any]:
        """The document of `--json`."""
        return {
            "state": {Level.NOTE: "fine", Level.WARNING: "warning", Level.CRITICAL: "critical"}[self.worst],
            "running": self.is_running,
            "findings": [
                {"level": one.level.word, "group": one.group, "check": one.check, "text": one.text}
                for one in self.found
            ],
            "skipped": list(self.skipped),
        }


def diagnose(facts: Facts) -> Diagnosis:
    """Runs every check whose facts are known."""
    found = [one for check in CHECKS for one in _run(check, facts)]
    worst = {group: max((one.level for one in found if one.group == group), default=Level.NOTE) for group in GROUPS}
    found.sort(key=lambda one: (-worst[one.group], GROUPS.index(one.group), -one.level))
    return Diagnosis(tuple(found), facts.skipped, facts.daemon is not None)


def _run(check: Check, facts: Facts) -> Iterator[Symptom]:
    if all(getattr(facts, name) is not None for name in check.needs):
        for level, text, group in check.find(facts):
            yield Symptom(level, group or check.group, check.name, text)
