"""Whether a candidate may be published as it is. Pure: figures in, `Accept` or `Hold` out.

A guard trips on strictly more than its share of the live entries before. Nobody's mistake, at a hotline or on the way,
makes thousands of names vanish or appear without a person having looked at the figures.

`pipeline/settle.py` asks, and holds for two more reasons: an approved change with another delta (`base`), and a held
one that no guard holds any more (`decision`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from blocklistd.model import Reason


class Limits(Protocol):
    """The guards of a list's configuration; shares are fractions (0.2 is 20 %)."""

    @property
    def max_added(self) -> float: ...
    @property
    def max_removed(self) -> float: ...
    @property
    def min_change(self) -> int: ...
    @property
    def min_entries(self) -> int: ...
    @property
    def max_rejected(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Figures:
    """A candidate in numbers: `live` entries before (None: the list has no version yet), and what would change."""

    live: int | None
    added: int
    removed: int
    records: int
    rejected: int

    @property
    def entries(self) -> int:
        return (self.live or 0) + self.added - self.removed


@dataclass(frozen=True, slots=True)
class Accept:
    """Nothing stands against publishing."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A person has to look; each reason has its figures."""

    reasons: tuple[Reason, ...]


def judge(figures: Figures, limits: Limits, *, review: bool) -> Accept | Hold:
    """`review` is a list whose every version needs a person.

    A first version has nothing to be compared with, so only `min_entries` and `review` apply to it.
    """
    reasons = []
    if figures.live is not None:
        reasons += _share("max_added", figures.added, figures.live, limits.max_added, limits.min_change)
        reasons += _share("max_removed", figures.removed, figures.live, limits.max_removed, limits.min_change)
        reasons += refused(figures.records, figures.rejected, limits)
    if figures.entries < limits.min_entries:
        reasons.append(Reason("min_entries", str(limits.min_entries), f"{figures.entries} entries"))
    if review:
        reasons.append(Reason("release", "review", "every version of this list is released by a reviewer"))
    return Hold(tuple(reasons)) if reasons else Accept()


def refused(records: int, rejected: int, limits: Limits) -> list[Reason]:
    """The reason that follows from a body alone, and not from what it would change in the list."""
    return _share("max_rejected", rejected, records, limits.max_rejected, 0)


def _share(guard: str, count: int, of: int, limit: float, always: int) -> list[Reason]:
    # in whole millionths: 0.29 * 100 is a little less than 29, and a share that is met exactly is not exceeded
    if count <= always or count * 1_000_000 <= round(limit * 1_000_000) * of:
        return []
    found = f"{count / of:.1%} ({count} of {of})" if of else f"{count} of {of}"
    return [Reason(guard, f"{limit * 100:.6g}%", found)]
