"""The law of releases: the guards accepted each live version, or a person approved exactly its delta.

It holds for any order of changes of three sources in two lists, approvals, rejections, reloads with other guards,
restarts, and of kills and power cuts at any step of the disk. A small model decides: sets of names, and the shares of
the guards in plain arithmetic.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from blocklistd.compose.guard import DailyLimits
from blocklistd.errors import BlocklistError, RefusedError
from blocklistd.lines.delta import ENTRIES, parse
from blocklistd.model import Act, ListId, Sha256, SourceId, Version
from blocklistd.pipeline.decide import Decisions
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.store import candidates
from blocklistd.store.lists import ensure_list, list_state, version_rows
from blocklistd.store.pulls import accept_body
from tests.examples import examples
from tests.sim.disk import FaultyDisk, PowerCut
from tests.unit.test_pipeline_pull import NoPublisher, NoZones, background_ended, hotline, render_nothing, resources_of
from tests.versions_of import NOW, Versions, report

T = TypeVar("T")
LISTS = (ListId("national"), ListId("other"))
SOURCES = ("a", "b", "c")
NAMES = [f"n{number}.example" for number in range(12)]
said = st.frozensets(st.sampled_from(NAMES), min_size=1)
shares = st.sampled_from([0.05, 0.2, 0.5, 10.0])


class World(RuleBasedStateMachine):
    """Three sources in two lists; the guards are shares of added and removed alone."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.max_added, self.max_removed, self.daily = 0.2, 0.2, 0.5
        self.day: dict[ListId, tuple[int, int]] = dict.fromkeys(LISTS, (0, 0))  # (added, removed) without approval
        self.approved: dict[ListId, set[tuple[frozenset[str], frozenset[str]]]] = {name: set() for name in LISTS}
        self.said: dict[str, frozenset[str]] = {}
        self.seen: dict[ListId, list[frozenset[str]]] = {name: [] for name in LISTS}
        self.numbers: dict[tuple[ListId, Version], Sha256] = {}
        self._open()

    def _open(self, disk: FaultyDisk | None = None) -> None:
        self.versions = Versions(Path(self.folder.name), *SOURCES, disk=disk)
        with self.versions.database.write() as connection:
            ensure_list(connection, LISTS[1], NOW)
        self.sources = {SourceId(name): replace(hotline(name), lists=LISTS) for name in SOURCES}
        self.releases = Releaser(resources_of(self.versions), NoPublisher(), NoZones(), render_nothing)
        self.reconciler = Reconciler(self.releases, self.versions.database)
        self.decisions = Decisions(self.releases, self.reconciler, self.versions.database, lambda: NOW)
        self.releases.sources = dict(self.sources)
        self._configure()

    def _configure(self) -> None:
        guards: dict[str, Any] = {"min_change": 0, "min_entries": 0, "max_rejected": 1.0}
        guards |= {"max_added": self.max_added, "max_removed": self.max_removed}
        guards["daily"] = DailyLimits(self.daily, self.daily)
        plan = replace(self.versions.plan, **guards)
        self.releases.lists = {name: replace(plan, id=name) for name in LISTS}

    def teardown(self) -> None:
        self.versions.close()
        self.folder.cleanup()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        async def settled() -> T:
            done = await work
            await background_ended(self.releases)
            return done

        return asyncio.run(settled())

    # -- events ----------------------------------------------------------------------------------------------------

    @initialize(names=st.tuples(*[said] * len(SOURCES)))
    def pull_all(self, names: tuple[frozenset[str], ...]) -> None:
        for source, of_source in zip(SOURCES, names, strict=True):
            self.pull(source, of_source)

    @rule(source=st.sampled_from(SOURCES), names=said)
    def pull(self, source: str, names: frozenset[str]) -> None:
        self.said[source] = names
        plan = self.sources[SourceId(source)]
        sealed = self.versions.seal(sorted(names))
        with self.versions.database.write() as connection:
            accept_body(connection, plan.id, report(sealed), plan.settings)
        for name in LISTS:  # in a fixed order, so that the same steps always meet the same fault
            self.run(self.releases.offer(name, plan.id))

    @rule(source=st.sampled_from(SOURCES), names=st.sets(st.sampled_from(NAMES), min_size=1, max_size=2))
    def pull_a_small_change(self, source: str, names: set[str]) -> None:
        self.pull(source, self.said[source] ^ names or frozenset(names))

    @precondition(lambda self: self.held())
    @rule(choice=st.integers(0, 5))
    def approve(self, choice: int) -> None:
        held = self.held()
        candidate = held[choice % len(held)].candidate
        with self.versions.store.sealed.map(candidate.delta) as delta:
            shown = self.names(delta[:])
        self.approved[candidate.list].add(shown)
        with self.ignored():
            self.run(self.decisions.approve(candidate.id, Act("candidate approve", "alice", 1000)))

    @precondition(lambda self: self.held())
    @rule(choice=st.integers(0, 5), source=st.sampled_from(SOURCES), number=st.integers(0, 11))
    def approve_on_a_moved_base(self, choice: int, source: str, number: int) -> None:
        """Approve the delta that a reviewer saw, after a source has reverted one of its names."""
        held = self.held()
        candidate = held[choice % len(held)].candidate
        with self.versions.store.sealed.map(candidate.delta) as delta:
            shown = self.names(delta[:])
        self.approved[candidate.list].add(shown)
        names = sorted(shown[0] | shown[1])
        name = names[number % len(names)]
        self.pull(source, self.said[source] ^ {name} or frozenset([name]))
        with self.ignored():
            self.run(self.decisions.approve(candidate.id, Act("candidate approve", "alice", 1000)))

    @precondition(lambda self: self.held())
    @rule(choice=st.integers(0, 5))
    def reject(self, choice: int) -> None:
        held = self.held()
        candidate = held[choice % len(held)].candidate
        self.run(self.decisions.reject(candidate.id, Act("candidate reject", "alice", 1000), "a mistake"))

    @rule(added=shares, removed=shares, daily=shares)
    def reload(self, added: float, removed: float, daily: float) -> None:
        self.max_added, self.max_removed, self.daily = added, removed, daily
        self._configure()
        self.run(self.reconciler.reconcile())

    @rule()
    def restart(self) -> None:
        self.versions.close()
        self._open()
        self.run(self.reconciler.reconcile())

    @rule(source=st.sampled_from(SOURCES), names=said, step=st.integers(1, 25))
    def killed_in_a_pull(self, source: str, names: frozenset[str], step: int) -> None:
        self.versions.close()
        disk = FaultyDisk({"any": step}, power=True)
        self._open(disk)
        try:
            self.pull(source, names)
        except PowerCut:
            disk.crash()
        self.restart()

    @precondition(lambda self: self.held())
    @rule(choice=st.integers(0, 5), step=st.integers(1, 12))
    def killed_in_an_approval(self, choice: int, step: int) -> None:
        self.versions.close()
        disk = FaultyDisk({"any": step}, power=True)
        self._open(disk)
        try:
            self.approve(choice)
        except PowerCut:
            disk.crash()
        self.restart()

    # -- the law ---------------------------------------------------------------------------------------------------

    @invariant()
    def every_version_was_accepted_or_approved(self) -> None:
        for name in LISTS:
            with self.versions.database.read() as connection:
                state, rows = list_state(connection, name), list(version_rows(connection, name))
            for row in reversed(rows):
                assert self.numbers.setdefault((name, row.version), row.sha256) == row.sha256
                if row.version <= len(self.seen[name]):
                    continue
                assert row.version == len(self.seen[name]) + 1
                now = self.snapshot(row.sha256) if row.version == state.version else self.replayed(name, row.delta)
                self.judge(name, now, row.released_by)
                self.seen[name].append(now)

    def judge(self, name: ListId, now: frozenset[str], released_by: str) -> None:
        if not self.seen[name]:
            return  # a first version has nothing to be compared with
        before = self.seen[name][-1]
        added, removed = now - before, before - now
        assert added or removed, "a version that changes nothing"
        if released_by != "auto":
            assert (frozenset(removed), frozenset(added)) in self.approved[name]
            return
        all_added, all_removed = self.day[name]
        start = max(0, len(before) - all_added + all_removed)
        all_added, all_removed = self.day[name] = all_added + len(added), all_removed + len(removed)
        assert len(added) <= self.max_added * len(before)
        assert len(removed) <= self.max_removed * len(before)
        assert not added or all_added <= self.daily * start
        assert not removed or all_removed <= self.daily * start

    # -- helpers ---------------------------------------------------------------------------------------------------

    def held(self) -> list[candidates.Case]:
        with self.versions.database.read() as connection:
            found = candidates.held(connection)
        return sorted(found, key=lambda case: (case.candidate.list, case.candidate.change.cause))

    def names(self, delta: bytes) -> tuple[frozenset[str], frozenset[str]]:
        removes, adds = parse(ENTRIES, delta)
        return frozenset(json.loads(line)["value"] for line in removes), frozenset(
            json.loads(line)["value"] for line in adds
        )

    def snapshot(self, digest: Sha256) -> frozenset[str]:
        content = self.versions.store.sealed.path(digest).read_bytes()
        return frozenset(json.loads(line)["value"] for line in content.splitlines())

    def replayed(self, name: ListId, delta: Sha256 | None) -> frozenset[str]:
        assert delta is not None
        removes, adds = self.names(self.versions.store.sealed.path(delta).read_bytes())
        return (self.seen[name][-1] - removes) | adds

    def ignored(self) -> Any:
        from contextlib import suppress

        return suppress(RefusedError, BlocklistError)


TestReleases = pytest.mark.slow(World.TestCase)  # 10 histories of 20 steps, with restarts and kills in most of them
TestReleases.settings = settings(
    max_examples=examples(10),
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
