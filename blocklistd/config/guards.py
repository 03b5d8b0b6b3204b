"""The settings of a list's guards: when a candidate is held for review."""

from __future__ import annotations

from pathlib import Path

from blocklistd.config import values
from blocklistd.config.reader import config_section, not_built, or_off, section, setting


@config_section
class DailyGuardSettings:
    """Limits for the sum of a candidate and the unreviewed changes of the 24 h before it, as fractions."""

    max_added: float = setting(values.share, default=0.4)
    max_removed: float = setting(values.share, default=0.2)


@config_section
class GuardSettings:
    """Limits above which a candidate is held for review.

    `max_added` and `max_removed` are fractions of the live entries (0.2 is 20 %), `max_rejected` of the entries of a
    pull. `min_change` and `min_entries` are numbers of entries. `daily` is None if it is off.
    """

    max_added: float = setting(values.share, default=0.2)
    max_removed: float = setting(values.share, default=0.1)
    daily: DailyGuardSettings | None = setting(or_off(section(DailyGuardSettings)), default_factory=DailyGuardSettings)
    min_change: int = setting(values.integer(), default=10)
    min_entries: int = setting(values.integer(), default=1)
    max_rejected: float = setting(values.share, default=0.01)
    never_block: tuple[Path, ...] = setting(not_built([], ()), default=())
    shared_hosts: tuple[Path, ...] = setting(not_built([], ()), default=())
    allow_public_suffix: bool = setting(values.boolean, default=False)
    allow_ip: bool = setting(values.boolean, default=False)
