"""Whether a candidate may be published as it is. Pure: figures in, `Accept` or `Hold` out.

A guard trips on strictly more than its share of the entries that were live before. No mistake, at a hotline or on the
way, may add or remove thousands of names before a person has looked at the figures, in one step or in many small ones.
The daily guards therefore add up all changes that were released within WINDOW without a person.

`pipeline/settle.py` asks, and holds for two more reasons: an approved change with another delta (`base`), and a held
one that no guard holds any more (`decision`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from blocklistd.model import Reason

WINDOW: Final = timedelta(days=1)
"""The time over which the daily guards add up changes, and in which `min_change` is granted once."""


FROM_EMPTY: Final = (
    "compared with an empty list: no share can be computed, so each change above min_change is held until a person "
    "approves one that fills the list"
)
"""What the guards of shares say where no entry was live before."""


@dataclass(frozen=True, slots=True)
class DailyLimits:
    """Shares of the entries that would be live without the changes of WINDOW that no person released."""

    max_added: float
    max_removed: float


class Limits(Protocol):
    """The guards of a list's configuration; shares are fractions (0.2 is 20 %)."""

    @property
    def max_added(self) -> float: ...
    @property
    def max_removed(self) -> float: ...
    @property
    def daily(self) -> DailyLimits | None: ...
    @property
    def min_change(self) -> int: ...
    @property
    def min_entries(self) -> int: ...
    @property
    def max_rejected(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a candidate: `live` entries before (None: the list has no version yet), and what would change.

    `day_added` and `day_removed`: entries that versions within WINDOW added and removed, without those that a person
    released and without the list's first.
    """

    live: int | None
    added: int
    removed: int
    records: int
    rejected: int
    day_added: int = 0
    day_removed: int = 0

    @property
    def entries(self) -> int:
        return (self.live or 0) + self.added - self.removed


@dataclass(frozen=True, slots=True)
class Accept:
    """No guard holds the candidate."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A person has to decide; each reason has its figures."""

    reasons: tuple[Reason, ...]


def judge(figures: Figures, limits: Limits, *, review: bool) -> Accept | Hold:
    """Whether a candidate may be released. `review`: every version of the list needs a person.

    A first version has nothing to be compared with, so only `max_rejected`, `min_entries` and `review` apply to it.
    """
    reasons = []
    if figures.live is not None:
        reasons += _changes(figures, figures.live, limits)
    reasons += _share("max_rejected", figures.rejected, figures.records, limits.max_rejected)
    if figures.entries < limits.min_entries:
        reasons.append(Reason("min_entries", str(limits.min_entries), f"{figures.entries} entries"))
    if review:
        reasons.append(Reason("release", "review", "every version of this list is released by a reviewer"))
    return Hold(tuple(reasons)) if reasons else Accept()


def _changes(figures: Figures, live: int, limits: Limits) -> list[Reason]:
    """The guards of added and of removed entries that trip: of this change alone, and of all within WINDOW."""
    before = max(0, live - figures.day_added + figures.day_removed)
    daily = limits.daily
    reasons = []
    for guard, count, earlier, limit, day_limit in (
        ("max_added", figures.added, figures.day_added, limits.max_added, daily.max_added if daily else None),
        ("max_removed", figures.removed, figures.day_removed, limits.max_removed, daily.max_removed if daily else None),
    ):
        total = earlier + count
        if count == 0 or total <= limits.min_change:
            continue
        found = _share(guard, count, live, limit)
        if day_limit is not None and (earlier or not found):  # else the sum says the same again
            found += _share(f"daily.{guard}", total, before, day_limit, " in 24 h")
        reasons += found
    return reasons


def _share(guard: str, count: int, of: int, limit: float, when: str = "") -> list[Reason]:
    # in whole millionths: 0.29 * 100 is a little less than 29, and a share that is met exactly is not exceeded
    if count * 1_000_000 <= round(limit * 1_000_000) * of:
        return []
    found = f"{count / of:.1%} ({count} of {of}{when})" if of else f"{count}{when}, {FROM_EMPTY}"
    return [Reason(guard, f"{limit * 100:.6g}%", found)]
