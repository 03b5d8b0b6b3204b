"""The demo's generator: a list like the recorded one, under reserved names, the same in each run."""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice

import pytest

from blocklistd.compose.guard import Figures, Hold, judge
from blocklistd.demo.generator import ADDED_DOTS, JUMPS, Churn, sha256s, urls
from blocklistd.kinds.name import name as canonical_name
from blocklistd.kinds.url import url as canonical_url
from tests.versions_of import plan

HELD = [9, 21, 59, 69, 75, 81]


def ancestors_listed(names: list[str]) -> float:
    """The share of names that have a listed name above them."""
    listed = set(names)
    labels = [name.split(".") for name in names]
    return sum(any(".".join(each[at:]) in listed for at in range(1, len(each))) for each in labels) / len(names)


def test_the_same_arguments_make_the_same_names() -> None:
    one, two = Churn(seed=3, size=2000), Churn(seed=3, size=2000)
    assert one.base == two.base
    assert list(one) == list(two) == list(one), "and again by the same object"
    assert Churn(seed=4, size=2000).base != one.base


def test_each_step_follows_from_the_one_before() -> None:
    churn = Churn(seed=5, size=3000)
    live = set(churn.base)
    assert len(live) == 3000
    returned = 0
    ever = set(live)
    for number, step in enumerate(churn, 1):
        assert step.number == number
        added, removed = set(step.added), set(step.removed)
        assert len(added) == len(step.added)
        assert len(removed) == len(step.removed)
        assert not added & live
        assert removed <= live
        returned += len(added & ever)
        live = (live - removed) | added
        ever |= added
    assert number == 88
    assert returned, "some return that left before"


@pytest.mark.parametrize("size", [1000, 1013, 7919, 20_000])
@pytest.mark.parametrize("seed", [0, 1, 2008])
def test_the_default_guards_hold_the_jumps_and_no_other_step(seed: int, size: int) -> None:
    live = size
    held = []
    for step in Churn(seed, size):
        added, removed = len(step.added), len(step.removed)
        figures = Figures(live=live, added=added, removed=removed, records=live + added - removed, rejected=0)
        if isinstance(judge(figures, plan("hotline"), release="auto"), Hold):
            held.append(step.number)
        live += added - removed
    assert held == HELD


def test_large_steps_have_the_recorded_shares() -> None:
    live = 10_000
    for step in Churn(seed=1, size=live):
        if step.number in JUMPS:
            added, removed = JUMPS[step.number]
            assert len(step.added) == pytest.approx(added * live, abs=1)
            assert len(step.removed) == pytest.approx(removed * live, abs=1)
        else:
            assert 0 < len(step.added) <= live / 100
            assert len(step.removed) <= live / 200
        live += len(step.added) - len(step.removed)


def test_the_names_have_the_lengths_and_depths_of_the_recorded_list() -> None:
    """Recorded: 106,849 names of the base have 25.3 characters on average, 37 % have a listed parent; all 230,378
    names have 43.9 characters."""
    churn = Churn(seed=7, size=20_000)
    base = churn.base
    assert sum(map(len, base)) / len(base) == pytest.approx(25.3, abs=2)
    assert ancestors_listed(base) == pytest.approx(0.37, abs=0.03)
    jump = next(islice(churn, 8, None)).added
    assert jump
    counts = Counter(name.count(".") for name in jump)
    for dots, share in ADDED_DOTS.items():
        assert counts[dots] / len(jump) == pytest.approx(share / 1000, abs=0.05)
    assert 55 < sum(map(len, jump)) / len(jump) < 70
    parents = Counter(name.split(".", 2)[2] for name in base if name.count(".") == 3)
    assert parents.most_common(1)[0][1] > 1000, "most are registered under few names"


def test_every_name_is_reserved_and_canonical() -> None:
    churn = Churn(seed=8, size=2000)
    names = [*churn.base, *(name for step in churn for name in step.added)]
    assert all(name.endswith(".example") and canonical_name(name) == name for name in names)


def test_urls_and_hashes_for_the_benches() -> None:
    names = Churn(seed=9, size=1000).base
    made = list(urls(names, seed=1))
    assert made == list(urls(names, seed=1))
    assert len(made) == len(names)
    assert all(canonical_url(each) == each for each in made)
    digests = list(sha256s(500, seed=1))
    assert digests == list(sha256s(500, seed=1))
    assert len(set(digests)) == 500
    assert all(len(each) == 64 and set(each) <= set("0123456789abcdef") for each in digests)


def test_a_hundred_thousand_names_in_two_seconds() -> None:
    began = time.process_time()
    assert len(Churn(seed=1, size=100_000).base) == 100_000
    assert time.process_time() - began < 2
