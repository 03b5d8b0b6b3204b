"""Judges whether a change of a list may be released without a person. Pure: figures in, `Accept` or `Hold` out.

A guard trips if a change exceeds its limit, a share of the entries that were live before; a change that equals the
limit passes. So no mistake can add or remove thousands of names before a person has seen the figures: not in one step,
and not in many small ones, since the daily guards add up all changes that were released within WINDOW without a person.

Two reasons to hold a change are no guards; pipeline/commit.py gives them:

- `base`: the change was approved, but on the live version it gives another delta than the approved one.
- `decision`: the change is held already, and no guard trips any more. A person still decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Protocol

from blocklistd.change import Reason

WINDOW: Final = timedelta(days=1)
"""The period over which the daily guards add up changes. `min_change` limits the sum, too."""

FROM_EMPTY: Final = (
    "compared with an empty list: no share can be computed, so each change above min_change is held until a person "
    "approves one that fills the list"
)
"""The figure that guards with a share report if no entry was live before."""


BY_PEOPLE: Final = {
    "review": "every version of this list is released by a reviewer",
    "two-person": "every version of this list is released by two reviewers",
}
"""The release rules of a list whose versions people release."""


def approvals_needed(release: str) -> int:
    """How many users must approve a held change of a list, whatever holds it. `release`: the list's release rule."""
    return 2 if release == "two-person" else 1


@dataclass(frozen=True, slots=True)
class DailyLimits:
    """Limits of the changes within WINDOW that no person released, as fractions of the entries that would be live
    without these changes."""

    max_added: float
    max_removed: float


class Limits(Protocol):
    """The guards of a list's configuration; shares are fractions (0.2 is 20 %)."""

    @property
    def max_added(self) -> float:
        """Share of the live entries that a change may add."""

    @property
    def max_removed(self) -> float:
        """Share of the live entries that a change may remove."""

    @property
    def daily(self) -> DailyLimits | None:
        """Limits of the sum of changes within WINDOW; None: no such limit."""

    @property
    def min_change(self) -> int:
        """Entries that may be added, and removed, within WINDOW in any case; above it the shares are compared."""

    @property
    def min_entries(self) -> int:
        """Entries that the list must have after the change."""

    @property
    def max_rejected(self) -> float:
        """Share of a body's records that may be rejected."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a change, in entries. `live`: entries of the live version; None if the list has no version yet.
    `records` and `rejected` count the records of the body that brought the change.

    `day_added` and `day_removed`: entries that the versions within WINDOW added and removed; the list's first version
    and versions that a person released do not count.
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
        """Entries of the list after the change."""
        return (self.live or 0) + self.added - self.removed


@dataclass(frozen=True, slots=True)
class Accept:
    """No guard holds the change."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A person has to decide. One reason, with its figures, for each guard that tripped."""

    reasons: tuple[Reason, ...]


def judge(figures: Figures, limits: Limits, *, release: str) -> Accept | Hold:
    """Judge a change. `release`: the list's release rule (BY_PEOPLE), or `auto`: the guards alone judge.

    A first version can't be compared with another, so only `max_rejected`, `min_entries` and `release` apply to it.
    """
    reasons = []
    if figures.live is not None:
        reasons += _changes(figures, figures.live, limits)
    reasons += _share("max_rejected", figures.rejected, figures.records, limits.max_rejected)
    if figures.entries < limits.min_entries:
        reasons.append(Reason("min_entries", str(limits.min_entries), f"{figures.entries} entries"))
    reasons += _by_people(release)
    return Hold(tuple(reasons)) if reasons else Accept()


def judge_expiry(figures: Figures, limits: Limits, *, release: str) -> tuple[Reason, ...]:
    """The reasons to hold an expiry. What it removes is judged by `max_removed` alone, since each source and the list's
    configuration have said when its entries end; the changes of the day before do not count.

    An expiry that adds entries (a clock was set back, or ages were lost) is judged as any addition. `release`: as in
    `judge`.
    """
    reasons = []
    if figures.removed > limits.min_change:
        reasons += _share("max_removed", figures.removed, figures.live or 0, limits.max_removed)
    if figures.added:
        reasons += _changes(replace(figures, removed=0), figures.live or 0, limits) + _by_people(release)
    return tuple(reasons)


def judge_movement(zone: str, figures: Figures, limits: Limits) -> list[Reason]:
    """Judge the entries that a zone selects by category: `live` of them, of which `added` join and `removed` leave."""
    found = _changes(figures, figures.live or 0, limits)
    return [
        Reason(reason.guard, reason.limit, f"{reason.found}, of the entries that zone {zone} selects")
        for reason in found
    ]


def _by_people(release: str) -> list[Reason]:
    return [Reason("release", release, BY_PEOPLE[release])] if release in BY_PEOPLE else []


def _changes(figures: Figures, live: int, limits: Limits) -> list[Reason]:
    """The guards of added and removed entries that trip: for this change alone, and for the sum within WINDOW."""
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
        if day_limit is not None and (earlier or not found):  # else the sum is this change alone
            found += _share(f"daily.{guard}", total, before, day_limit, " in 24 h")
        reasons += found
    return reasons


def _share(guard: str, count: int, of: int, limit: float, when: str = "") -> list[Reason]:
    # in integers of millionths: in floating point 0.29 * 100 is less than 29, and a limit that is met would trip
    if count * 1_000_000 <= round(limit * 1_000_000) * of:
        return []
    found = f"{count / of:.1%} ({count} of {of}{when})" if of else f"{count}{when}, {FROM_EMPTY}"
    return [Reason(guard, f"{limit * 100:.6g}%", found)]
