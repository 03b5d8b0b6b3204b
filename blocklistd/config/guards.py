"""The configuration of a list's guards."""

from __future__ import annotations

from pathlib import Path

from blocklistd.config import values
from blocklistd.config.reader import keyed, only, section, setting, unless_off


@keyed
class Daily:
    """Limits for a candidate and all changes of the 24 h before it that no person released, added up."""

    max_added: float = setting(values.share, default=0.4)
    max_removed: float = setting(values.share, default=0.2)


@keyed
class Guards:
    """Limits above which a candidate is held for review; shares are fractions of the live entries (0.2 is 20 %)."""

    max_added: float = setting(values.share, default=0.2)
    max_removed: float = setting(values.share, default=0.1)
    daily: Daily | None = setting(unless_off(section(Daily)), default_factory=Daily)
    min_change: int = setting(values.integer(), default=10)
    min_entries: int = setting(values.integer(), default=1)
    max_rejected: float = setting(values.share, default=0.01)
    never_block: tuple[Path, ...] = setting(only([], ()), default=())
    shared_hosts: tuple[Path, ...] = setting(only([], ()), default=())
    allow_public_suffix: bool = setting(values.boolean, default=False)
    allow_ip: bool = setting(values.boolean, default=False)
