"""The law of lists: whatever the order of pulls, corrections, expiries, changes of policy, decisions and restarts, the
live list is that of a plain model, no version has a protected name, and each explanation agrees with the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from blocklistd.change import Change, ChangeKind, VersionInfo
from blocklistd.errors import RefusedError
from blocklistd.model import Act, Sha256, Version
from blocklistd.store import candidates
from tests.examples import examples
from tests.list_model import Key, Listing, Rules
from tests.property.list_world import (
    BASIS,
    EDITOR,
    EXCEPTED,
    HEAD,
    REVIEWERS,
    Changes,
    Corrected,
    World,
    category_of,
    keyed,
    place_of,
    terms,
)
from tests.versions_of import ANYTHING, LIST


class Released(World):
    """Nothing is held: the model says what each event gives."""

    guards = ANYTHING | {"min_change": 10**9}

    def taken(self, event: Callable[[], None]) -> None:
        self.model.time = self.versions.state.evaluated or self.now
        event()

    @rule(hours=st.sampled_from([0, 12, 24]))
    def wait_for_expiries(self, hours: int) -> None:
        self.wait(hours, wrong=False)
        midnight = datetime.combine(self.now.date(), time(), UTC)
        assert all(ends is None or ends > midnight for ends, _ in (self.model.live or {}).values())

    def ended(self, passed: set[Corrected]) -> None:
        for one in passed:
            del self.model.corrected[one]


class Guarded(World):
    """The guards hold many changes, and reviewers decide. The model is told what the live version was composed from;
    what is live then changes only as the guards allow, or as a reviewer was shown."""

    stops = False
    guards = ANYTHING | {"min_change": 0, "max_added": 0.5, "max_removed": 0.5}

    def __init__(self) -> None:
        super().__init__()
        self.shown: set[Changes] = set()
        self.tests_before: set[Key] = set()  # the test entries before the changes of the newest event
        self.rejected: set[tuple[bool, Sha256]] = set()  # whether it is an expiry, and the delta

    @rule(release=st.sampled_from(["auto", "auto", "review", "two-person"]), share=st.sampled_from([0.2, 0.5, 10.0]))
    def reload_guards(self, release: str, share: float) -> None:
        self.guards = self.guards | {"release": release, "max_added": share, "max_removed": min(share, 1.0)}
        self.reload(self.wanted)

    @rule(reverify=terms, max_life=terms)
    def reload_terms(self, reverify: int | None, max_life: int | None) -> None:
        self.reverify, self.max_life = reverify, max_life
        self.reload(self.wanted)

    @precondition(lambda self: self.model.live and (self.reverify or self.max_life))
    @rule(choice=st.integers(0, 3))
    def keep(self, choice: int) -> None:
        """A person confirms an entry that is due."""
        due = self.run(self.dues.due(LIST)).entries
        policy = self.versions.state.policy
        assert policy is not None
        if BASIS not in self.model.accepted and self.model.rules.terms == self.terms:
            live = self.model.live or {}
            assert {(one.type, one.value) for one in due} == {
                key for key in live.keys() - self.model.rules.test_keys if self.model.has_outlived(key, self.now)
            }
        if due:
            one = due[choice % len(due)]
            self.run(self.dues.keep(LIST, [one.id], "it was confirmed", HEAD))
            self.model.kept[one.type, one.value] = self.now
            self.taken(self.model.compose)
            assert (one.type, one.value) in (self.model.live or {})

    @precondition(lambda self: self.held)
    @rule(
        choice=st.integers(0, 3),
        reviewers=st.sampled_from([REVIEWERS, REVIEWERS, REVIEWERS[:1], REVIEWERS[1:]]),
        without=st.sampled_from([0, 0, 0, 1, 2]),
    )
    def approve(self, choice: int, reviewers: list[Act], without: int) -> None:
        """`without`: so many entries of the candidate are excepted."""
        candidate = self.held[choice % len(self.held)]
        force = self.versions.state.corrections
        removes, adds = self.changes(candidate.delta)
        excepted = sorted(adds)[:without]
        ids = [json.loads(line)["id"] for line in excepted]
        for act in reviewers:
            self.shown.add((removes, adds - {*excepted}))
            before = self.versions.state.version
            with suppress(RefusedError):
                approval = self.run(self.decisions.approve(candidate.id, act, ids))
                assert approval.version is None or approval.version > before
                if approval.held is None and not approval.missing:
                    self.model.corrected |= {(EXCEPTED, keyed(line)): None for line in excepted}
        self.lift({place_of(one) for one in force if one.number in candidate.change.lifts})
        self.taken(self.model.compose)

    @precondition(lambda self: self.held)
    @rule(choice=st.integers(0, 3))
    def reject(self, choice: int) -> None:
        candidate = self.held[choice % len(self.held)]
        before = self.versions.state
        self.run(self.decisions.reject(candidate.id, REVIEWERS[0], "a mistake"))
        assert (self.versions.state.version, self.versions.state.corrections) == (before.version, before.corrections)
        self.rejected.add((candidate.change.kind is ChangeKind.EXPIRY, candidate.delta))

    @rule(freeze=st.booleans())
    def freeze_or_resume(self, freeze: bool) -> None:
        before = self.versions.state.version
        with suppress(RefusedError):
            self.run(self.freezing.freeze(LIST, "an incident", HEAD) if freeze else self.freezing.resume(LIST, HEAD))
        assert not freeze or self.versions.state.version == before
        self.taken(self.model.compose)

    @precondition(lambda self: len(self.numbers) > 1)
    @rule(back=st.integers(1, 3))
    def roll_back(self, back: int) -> None:
        """What an earlier version adds may be held; what it lacks is out at once, and pulls wait."""
        *numbers, _ = sorted(self.numbers)
        target = numbers[-min(back, len(numbers))]
        had = {key for key, of in self.history.items() if any(came <= target < gone for came, gone in of)}
        self.run(self.freezing.roll_back(LIST, Version(target), "an incident", HEAD))
        self.taken(self.model.compose)
        assert (self.model.live or {}).keys() <= had | self.model.rules.test_keys
        assert self.versions.state.frozen is not None

    def listing(self, snapshot: Sha256) -> Listing:
        found = map(json.loads, self.versions.store.sealed.path(snapshot).read_bytes().splitlines())
        return {
            (one["type"], one["value"]): (
                ("expires" in one and datetime.fromisoformat(one["expires"])) or None,
                category_of(one),
            )
            for one in found
        }

    @property
    def terms(self) -> tuple[timedelta, ...]:
        return tuple(timedelta(hours=hours) for hours in (self.reverify, self.max_life) if hours is not None)

    def taken(self, event: Callable[[], None]) -> None:
        self.tests_before = self.model.rules.test_keys
        for change, now, evaluated in self.commits:
            self.take(change, now, evaluated)
        self.commits.clear()

    def take(self, change: Change, now: datetime, evaluated: datetime | None) -> None:
        """Tells the model of a commit."""
        policy, model = change.policy, self.model
        seconds = [of for of in (policy.reverify, policy.max_life) if of is not None]
        model.rules = Rules(
            *(policy.sources, policy.quorum, policy.types, self.names[policy.never_block]),
            pending=frozenset[str]().union(*(self.names[digest] for digest in policy.pending)),
            terms=tuple(timedelta(seconds=of) for of in seconds),
            tests=policy.tests,
        )
        model.accepted = {source: self.listings[digest] for source, digest in change.sources.items()}
        model.age(now)
        if change.basis is not None:  # of a rollback: it counts as one source, which is enough, and has no ages
            model.rules = replace(model.rules, sources=(BASIS,), quorum=1)
            model.accepted = {BASIS: self.listing(change.basis)}
        model.time = evaluated or now
        model.live = model.live or {}
        model.compose(ends_live=change.kind is ChangeKind.EXPIRY)

    def expiry_waits(self) -> bool:
        return self.versions.state.held_expiry is not None or any(is_expiry for is_expiry, _ in self.rejected)

    def ended(self, passed: set[Corrected]) -> None:
        with self.versions.database.read() as connection:
            asked = candidates.lifted(connection, LIST)
        for one in self.versions.state.corrections:
            assert place_of(one) not in passed or one.number in asked, "its end is held, or was rejected"
        self.lift(passed)

    def lift(self, some: set[Corrected]) -> None:
        """Some of these corrections, and no others, are not in force any more."""
        force = set(map(place_of, self.versions.state.corrections))
        assert self.model.corrected.keys() - force <= some
        self.model.corrected = {one: until for one, until in self.model.corrected.items() if one in force}

    def judge(self, row: VersionInfo, changes: Changes, live: int) -> None:
        removed, added = ({keyed(line) for line in lines} for lines in changes)
        is_expiry = row.kind is ChangeKind.EXPIRY
        if row.released_by == EDITOR.user:
            assert removed
            assert not added
        elif row.released_by == HEAD.user:
            assert row.kind is ChangeKind.ROLLBACK
            assert self.guards["release"] == "auto" or not added - removed
        elif row.released_by != "auto":
            assert changes in self.shown
            assert len(row.released_by.split(", ")) == (2 if self.guards["release"] == "two-person" else 1)
        else:
            takes_hits_out = row.kind is ChangeKind.POLICY and not added  # names of a guard need no reviewer for that
            assert self.guards["release"] == "auto" or takes_hits_out or (is_expiry and not added - removed)
            tests = self.model.rules.test_keys | self.tests_before
            assert len(added - removed - tests) <= self.guards["max_added"] * live
            assert len(removed - added - tests) <= self.guards["max_removed"] * live
        assert row.kind is ChangeKind.CORRECTION or (is_expiry, row.delta) not in self.rejected


def some(number: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=examples(number), stateful_step_count=20, deadline=None, suppress_health_check=checks)


TestReleased = pytest.mark.slow(Released.TestCase)  # 10 histories of 20 steps, with restarts in most of them
TestReleased.settings = some(10)
TestGuarded = pytest.mark.slow(Guarded.TestCase)
TestGuarded.settings = some(11)
