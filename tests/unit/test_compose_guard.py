"""Whether a candidate is held: strictly more than its share, and not for a handful."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.compose.guard import Accept, DailyLimits, Figures, Hold, judge

DAILY = DailyLimits(0.40, 0.20)


@dataclass(frozen=True)
class Guards:
    max_added: float = 0.20
    max_removed: float = 0.10
    daily: DailyLimits | None = DAILY
    min_change: int = 10
    min_entries: int = 1
    max_rejected: float = 0.01


LIVE = Figures(live=1000, added=0, removed=0, records=1000, rejected=0)


def tripped(figures: Figures, guards: Guards | None = None, *, release: str = "auto") -> list[str]:
    verdict = judge(figures, guards or Guards(), release=release)
    return [reason.guard for reason in verdict.reasons] if isinstance(verdict, Hold) else []


@pytest.mark.parametrize(
    ("figures", "guards"),
    [
        (replace(LIVE, added=200), []),  # met exactly, not exceeded
        (replace(LIVE, added=201), ["max_added"]),
        (replace(LIVE, removed=100), []),
        (replace(LIVE, removed=101), ["max_removed"]),
        (replace(LIVE, added=201, removed=101), ["max_added", "max_removed"]),
        (replace(LIVE, rejected=10), []),
        (replace(LIVE, rejected=11), ["max_rejected"]),
        (replace(LIVE, removed=1000), ["max_removed", "min_entries"]),
        (Figures(live=20, added=10, removed=10, records=20, rejected=0), []),  # so many may always change
        (Figures(live=20, added=11, removed=0, records=31, rejected=0), ["max_added"]),
        (Figures(live=None, added=10**6, removed=0, records=10**6, rejected=10**4), []),  # nothing to compare with
        (Figures(live=None, added=1, removed=0, records=1000, rejected=999), ["max_rejected"]),
        (Figures(live=None, added=0, removed=0, records=0, rejected=0), ["min_entries"]),
    ],
)
def test_guards_trip_on_strictly_more(figures: Figures, guards: list[str]) -> None:
    assert tripped(figures) == guards


@pytest.mark.parametrize(
    ("figures", "guards"),
    [
        (replace(LIVE, live=1200, added=200, day_added=200), []),  # 400 of the 1000 that were there before: met exactly
        (replace(LIVE, live=1200, added=201, day_added=200), ["daily.max_added"]),
        (replace(LIVE, live=900, removed=90, day_removed=110, day_added=10), []),
        (replace(LIVE, live=900, removed=90, day_removed=111, day_added=11), ["daily.max_removed"]),
        (replace(LIVE, live=900, removed=91, day_removed=110, day_added=10), ["max_removed", "daily.max_removed"]),
        (replace(LIVE, removed=101), ["max_removed"]),  # the first of a day: its sum says nothing more
        (replace(LIVE, live=1400, removed=1, day_added=500), []),  # nothing is added
        (Figures(live=25, added=5, removed=0, records=30, rejected=0, day_added=5), []),
        (Figures(live=26, added=5, removed=0, records=31, rejected=0, day_added=6), ["daily.max_added"]),
        (Figures(live=30, added=10, removed=0, records=40, rejected=0, day_added=10), ["max_added", "daily.max_added"]),
        (Figures(live=0, added=11, removed=0, records=11, rejected=0, day_added=5), ["max_added", "daily.max_added"]),
    ],
)
def test_guards_remember_a_day_and_grant_min_change_once_in_it(figures: Figures, guards: list[str]) -> None:
    assert tripped(figures) == guards


def test_without_daily_guards_each_change_is_judged_alone() -> None:
    guards = Guards(daily=None)
    assert tripped(replace(LIVE, added=200, removed=100, day_added=900, day_removed=900), guards) == []
    assert tripped(Figures(30, 10, 0, 40, 0, day_added=10), guards) == ["max_added"]


def test_pulls_within_the_shares_do_not_replace_a_list_in_a_day() -> None:
    """Nine percent come and go every half hour."""
    live, day = 1000, 0
    for _ in range(48):
        count = live * 9 // 100
        if not tripped(Figures(live, count, count, live, 0, day, day)):
            day += count
    assert day == 180


def test_the_real_jumps_trip_and_their_neighbours_do_not() -> None:
    """The shares of the churn that a public list had: 20.4 % at one step, 19.97 % at another."""
    assert tripped(Figures(107103, 21887, 3929, 129000, 0)) == ["max_added"]
    assert tripped(Figures(105516, 21069, 2965, 127000, 0)) == []


def test_a_reason_has_its_limit_and_its_figures() -> None:
    verdict = judge(replace(LIVE, removed=500), Guards(), release="auto")
    assert isinstance(verdict, Hold)
    assert str(verdict.reasons[0]) == "max_removed: 50.0% (500 of 1000), limit 10%"
    verdict = judge(replace(LIVE, live=1200, added=210, day_added=200), Guards(), release="auto")
    assert isinstance(verdict, Hold)
    assert list(map(str, verdict.reasons)) == ["daily.max_added: 41.0% (410 of 1000 in 24 h), limit 40%"]


@pytest.mark.parametrize(
    ("figures", "found"),
    [
        (Figures(live=0, added=6000, removed=0, records=6000, rejected=0), ["max_added: 6000, compared"]),
        (
            Figures(live=5, added=6, removed=0, records=11, rejected=0, day_added=5),
            ["max_added: 120.0% (6 of 5)", "daily.max_added: 11 in 24 h, compared"],
        ),
    ],
)
def test_where_the_list_was_empty_the_reason_says_so_and_how_to_go_on(figures: Figures, found: list[str]) -> None:
    verdict = judge(figures, Guards(), release="auto")
    assert isinstance(verdict, Hold)
    said = list(map(str, verdict.reasons))
    assert [text[: len(start)] for text, start in zip(said, found, strict=True)] == found
    assert "with an empty list" in said[-1]
    assert "until a person approves one that fills the list" in said[-1]
    assert "of 0" not in said[-1]


def test_a_list_under_review_is_always_held() -> None:
    assert tripped(replace(LIVE, added=1), release="review") == ["release"]
    assert tripped(replace(LIVE, added=1), release="two-person") == ["release"]


@given(st.integers(1, 10**7), st.integers(0, 10_000))
def test_a_share_that_is_met_exactly_is_never_exceeded(unit: int, basis_points: int) -> None:
    """Binary fractions must not make 29 of 100 more than 29 %."""
    figures = Figures(live=unit * 10_000, added=unit * basis_points, removed=0, records=1, rejected=0)
    limits = Guards(max_added=basis_points / 10_000, daily=None, min_change=0)
    assert judge(figures, limits, release="auto") == Accept()
    assert tripped(replace(figures, added=figures.added + 1), limits) == ["max_added"]
