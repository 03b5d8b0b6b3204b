"""A check of `blocklistd doctor` as a value: its name, what it finds, and the function from the facts to its findings.

Checks are pure. A text says what is wrong, then what to do, and contains no entry.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from blocklistd.daemon.doctor.facts import Facts
from blocklistd.language.context import N_


class Level(enum.IntEnum):
    """How bad a finding is. NOTE: nothing is wrong now. WARNING: it will be, or a part is. CRITICAL: subscribers are
    affected, or soon will be."""

    NOTE = 0
    WARNING = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        """The level for people and for `--json`, in English."""
        return {Level.NOTE: N_("note"), Level.WARNING: N_("warning"), Level.CRITICAL: N_("critical")}[self]


class Finding(NamedTuple):
    """What a check has found. `group`: where it is shown, if not in the group of the check."""

    level: Level
    text: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `what`: the condition that it finds, for the guide. `needs`: the facts without which it is skipped:
    "daemon", "config", "host" or "stored"."""

    name: str
    group: str
    what: str
    find: Callable[[Facts], Iterable[Finding]]
    needs: tuple[str, ...] = ()


GROUPS: Final = (
    *(N_("daemon"), N_("configuration"), N_("clock"), N_("disk"), N_("keys and certificates"), N_("sources")),
    *(N_("guards"), N_("lists"), N_("subscribers"), N_("state")),
)
"""The groups, in the order in which equally bad ones are shown."""
