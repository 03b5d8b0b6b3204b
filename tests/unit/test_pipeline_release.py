"""Sequences of pulls, reloads and decisions: a live version passed the guards, or a person approved its delta."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from blocklistd.compose.names import names_file
from blocklistd.errors import RefusedError
from blocklistd.model import Act, CandidateId, Outcome, Sha256, SourceId, Version
from blocklistd.pipeline.list_context import ReleaseResult
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.store import candidates
from blocklistd.store.candidates import Case
from blocklistd.store.files import SealedFiles
from blocklistd.store.pulls import SourceState, accept_body, record_pull, source_state
from blocklistd.store.schema import lists
from blocklistd.store.withheld import of_lists, of_pull
from tests.unit.test_pipeline_pull import background_ended, decisions_of, hotline, releases_of
from tests.versions_of import ANYTHING, LIST, NOW, Versions, report

HUNDRED = tuple(f"n{number}.example" for number in range(100))
FIFTY = tuple(f"m{number}.example" for number in range(50))


class Scene:
    """A list of two sources, with pulls, reloads (`configure`) and the decisions of a reviewer."""

    def __init__(self, folder: Path) -> None:
        self.versions = Versions(folder, "first", "second")
        self.sources = {name: hotline(name) for name in ("first", "second")}
        self.releases = releases_of(self.versions, *self.sources.values())
        self.decisions = decisions_of(self.versions, self.releases)

    async def configure(self, **plan: Any) -> None:
        self.releases.lists = {LIST: replace(self.releases.lists[LIST], **plan)}
        await Reconciler(self.releases, self.versions.database).reconcile()
        await background_ended(self.releases)

    def store_offer(self, source: str, *names: str, **counts: Any) -> None:
        """Stores the source's newest entries as a pull does. `counts`: fields of the report to replace."""
        with self.versions.database.write() as connection:
            new_report = replace(report(self.versions.seal(sorted(names))), **counts)
            accept_body(connection, SourceId(source), new_report, self.sources[source].settings)

    async def pull(self, source: str, *names: str, **counts: Any) -> ReleaseResult:
        """Stores the source's entries and offers them to the list."""
        self.store_offer(source, *names, **counts)
        return await self.releases.offer(LIST, SourceId(source))

    async def approve(self, candidate: CandidateId | None) -> Version | None:
        assert candidate is not None
        approval = await self.decisions.approve(candidate, Act("candidate approve", "alice", 1000))
        await background_ended(self.releases)
        return approval.version

    async def reject(self, candidate: CandidateId | None) -> None:
        assert candidate is not None
        await self.decisions.reject(candidate, Act("candidate reject", "alice", 1000), "a mistake")

    def record_pull(self, source: str, result: ReleaseResult) -> None:
        """Writes the row of a pull, as a pull does at its end."""
        ended: Any = {"began": NOW, "ended": NOW, "report": None, "validators": None, "settings": ""}
        found: Any = {"outcome": result.outcome, "reason": result.reason, "candidate": result.candidate}
        with self.versions.database.write() as connection:
            record_pull(connection, SourceId(source), **found, **ended)

    def state(self, source: str) -> SourceState:
        with self.versions.database.read() as connection:
            return source_state(connection, SourceId(source))

    @property
    def live(self) -> set[str]:
        return {json.loads(line)["value"] for line in self.versions.live.splitlines()}

    @property
    def version(self) -> Version:
        return self.versions.state.version

    @property
    def held(self) -> list[Case]:
        with self.versions.database.read() as connection:
            return candidates.held(connection)

    def case(self, candidate: CandidateId | None) -> Case:
        assert candidate is not None
        with self.versions.database.read() as connection:
            return candidates.case(connection, candidate)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.versions.close()


@pytest.mark.parametrize(
    ("strict", "loose"), [({"release": "review"}, {"release": "auto"}), ({"min_entries": 500}, {})]
)
async def test_a_held_first_version_waits_for_a_person_after_a_reload(
    scene: Scene, strict: dict[str, Any], loose: dict[str, Any]
) -> None:
    await scene.configure(**strict)
    scene.store_offer("second", *FIFTY)
    found = await scene.pull("first", *HUNDRED)
    assert found.outcome is Outcome.HELD
    await scene.configure(**({"min_entries": 1} | loose))
    assert scene.version == 0
    (case,) = scene.held
    assert {reason.guard for reason in case.candidate.reasons} == {"decision"}
    assert (await scene.pull("second", *FIFTY)).candidate == found.candidate, "the same delta from another source"
    assert await scene.approve(found.candidate) == 1
    assert scene.live == {*HUNDRED, *FIFTY}


async def test_no_guard_counts_a_test_entry_and_none_makes_a_version_alone(scene: Scene) -> None:
    strict: dict[str, Any] = {"min_change": 0, "max_added": 0.0, "max_removed": 0.0, "daily": None}
    tests = ("blocktest.isp.example", "n0.example")
    await scene.configure(tests=tests, min_entries=2, **strict)
    assert (scene.version, scene.held) == (0, [])
    scene.store_offer("second")
    found = await scene.pull("first", "n0.example")  # the domain
    assert {reason.guard: reason.found for reason in scene.case(found.candidate).candidate.reasons} == {
        "min_entries": "1 entries"
    }
    assert await scene.approve(found.candidate) == 1
    assert scene.versions.state.live is not None
    assert scene.versions.state.live.entries == 3
    await scene.configure(tests=(), min_entries=1)
    assert (scene.version, scene.live, scene.held) == (2, {"n0.example"}, [])
    await scene.configure(tests=tests)
    assert (scene.version, scene.live, scene.held) == (3, {*tests}, [])
    await scene.pull("first", "n0.example", "n1.example")
    assert {reason.guard for case in scene.held for reason in case.candidate.reasons} == {"max_added"}
    assert str(scene.held[0].candidate.reasons[0]) == "max_added: 100.0% (1 of 1), limit 0%"


async def test_a_second_source_with_the_same_names_does_not_release_a_held_first_version(scene: Scene) -> None:
    await scene.configure(release="review")
    scene.store_offer("second", *FIFTY[:1])
    found = await scene.pull("first", *HUNDRED, *FIFTY[:1])
    await scene.configure(release="auto")
    assert (await scene.pull("second", *FIFTY[:1], records=2)).outcome is Outcome.HELD
    assert scene.version == 0
    assert [case.candidate.id for case in scene.held] == [found.candidate]


async def test_a_rejected_first_version_stays_rejected_under_another_policy(scene: Scene) -> None:
    await scene.configure(release="review", types=("domain",), sources=(SourceId("first"),))
    await scene.reject((await scene.pull("first", *HUNDRED)).candidate)
    await scene.configure(release="auto", types=("domain", "url"))
    assert (await scene.pull("first", *HUNDRED)).outcome is Outcome.FAILED
    assert scene.version == 0
    assert (await scene.pull("first", *HUNDRED, "another.example")).outcome is Outcome.PUBLISHED


async def test_a_first_version_without_entries_is_held_and_can_be_approved(scene: Scene) -> None:
    await scene.configure(types=("url",), sources=(SourceId("first"),))
    found = await scene.pull("first", *HUNDRED)
    assert found.outcome is Outcome.HELD
    (case,) = scene.held
    assert (case.candidate.added, case.candidate.withheld) == (0, {"type domain": 100})
    assert await scene.approve(found.candidate) == 1
    assert scene.live == set()


async def test_a_first_version_is_held_if_one_record_of_a_thousand_can_be_read(scene: Scene) -> None:
    await scene.configure(sources=(SourceId("first"),))
    found = await scene.pull("first", "a.example", records=1000, rejected={"character": 999})
    assert (found.outcome, scene.version) == (Outcome.HELD, 0)
    assert found.reason == "max_rejected: 99.9% (999 of 1000), limit 1%"
    assert (await scene.pull("first", *HUNDRED, records=100)).outcome is Outcome.PUBLISHED, "a body that can be read"


async def test_a_first_version_is_judged_by_its_least_readable_source(scene: Scene) -> None:
    await scene.pull("first", "a.example", records=1000, rejected={"character": 999})
    found = await scene.pull("second", *HUNDRED, records=100_000)
    assert (found.outcome, scene.version) == (Outcome.HELD, 0)
    assert found.reason == "max_rejected: 99.9% (999 of 1000), limit 1%"
    assert await scene.approve(found.candidate) == 1


async def test_withheld_entries_are_counted_for_the_complete_list_after_each_change(scene: Scene) -> None:
    await scene.configure(sources=(SourceId("first"),))
    await scene.pull("first", *HUNDRED, "test", "invalid")
    assert scene.versions.state.withheld == {"public_suffix": 2}
    assert (await scene.pull("first", *HUNDRED, "test", "invalid", "localhost")).outcome is Outcome.UNCHANGED
    assert scene.versions.state.withheld == {"public_suffix": 3}, "the count changes without a new version"
    found = await scene.pull("first", *FIFTY, "test")
    case = scene.case(found.candidate)
    assert (case.candidate.removed, case.candidate.withheld) == (100, {"public_suffix": 1}), (
        "the count of the list after the change"
    )
    assert scene.versions.state.withheld == {"public_suffix": 3}, "a held change does not change the count"
    await scene.approve(found.candidate)
    assert scene.versions.state.withheld == {"public_suffix": 1}


async def test_a_commit_hashes_no_file_again_that_was_hashed_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene.versions.store.sealed.create() as draft:
        draft.write(names_file(["protected.example"]))
    await scene.configure(sources=(SourceId("first"),), never_block=draft.sealed)
    await scene.pull("first", *HUNDRED)
    hashed: list[Sha256] = []
    is_intact = SealedFiles.is_intact

    def watched(files: SealedFiles, digest: Sha256) -> bool:
        hashed.append(digest)
        return is_intact(files, digest)

    monkeypatch.setattr(SealedFiles, "is_intact", watched)
    await scene.pull("first", *HUNDRED, "protected.example")
    assert scene.versions.state.withheld == {"never_block": 1}
    assert hashed == [scene.versions.state.accepted[SourceId("first")]], "the new offer alone"


async def test_a_list_stored_without_withheld_counts_gets_them_with_its_next_change(scene: Scene) -> None:
    await scene.configure(sources=(SourceId("first"),))
    await scene.pull("first", *HUNDRED, "test", "invalid")
    with scene.versions.database.write() as connection:
        connection.execute(update(lists).values(withheld=None))
    await scene.pull("first", *HUNDRED, "test", "invalid", "another.example")
    assert scene.versions.state.withheld == {"public_suffix": 2}


async def test_entries_withheld_by_intake_and_by_the_list_are_counted_together(scene: Scene) -> None:
    await scene.configure(release="review")
    scene.store_offer("second", "a.example", rejected={"fragment": 3, "character": 1})
    found = await scene.pull("first", *HUNDRED, "test", rejected={"fragment": 2})
    taken = {LIST: (SourceId("first"), SourceId("second"))}
    with scene.versions.database.read() as connection:
        assert of_pull(connection, SourceId("first"), taken) == {LIST: {"fragment": 5, "public_suffix": 1}}
        assert of_lists(connection, taken) == {LIST: {"fragment": 5}}
    await scene.approve(found.candidate)
    with scene.versions.database.read() as connection:
        assert of_lists(connection, taken) == {LIST: {"fragment": 5, "public_suffix": 1}}
        assert of_lists(connection, {LIST: taken[LIST][:1]}) == {LIST: {"fragment": 2, "public_suffix": 1}}


async def test_a_list_that_became_empty_is_filled_again_by_an_approval(scene: Scene) -> None:
    await scene.configure(sources=(SourceId("first"),), min_entries=0, max_removed=1.0, daily=None)
    await scene.pull("first", *HUNDRED)
    await scene.pull("first")
    found = await scene.pull("first", *HUNDRED, "another.example")
    assert (found.outcome, scene.live) == (Outcome.HELD, set())
    assert found.reason is not None
    assert "until a person approves one that fills the list" in found.reason
    await scene.approve(found.candidate)
    assert (await scene.pull("first", *HUNDRED)).outcome is Outcome.PUBLISHED


async def test_an_approval_of_a_first_version_under_another_policy_gives_another_delta(scene: Scene) -> None:
    await scene.configure(release="review", sources=(SourceId("first"),))
    found = await scene.pull("first", *HUNDRED)
    scene.releases.lists = {LIST: replace(scene.releases.lists[LIST], types=("host",))}
    assert await scene.approve(found.candidate) is None
    assert scene.version == 0
    (case,) = scene.held
    assert case.candidate.added == 0


async def test_a_held_delta_stays_held_if_its_body_repeats_a_line(scene: Scene) -> None:
    await scene.configure(sources=(SourceId("first"),))
    await scene.pull("first", *HUNDRED)
    found = await scene.pull("first", *HUNDRED, *FIFTY)
    assert found.outcome is Outcome.HELD
    await scene.configure(max_added=0.9)
    again = await scene.pull("first", *HUNDRED, *FIFTY, records=151)
    assert (again.outcome, again.candidate) == (Outcome.HELD, found.candidate)


async def test_a_change_held_only_for_its_rejected_records_is_released_without_them(scene: Scene) -> None:
    await scene.configure(sources=(SourceId("first"),))
    await scene.pull("first", *HUNDRED)
    names = (*HUNDRED, "another.example")
    found = await scene.pull("first", *names, records=150, rejected={"not-a-name": 49})
    assert found.outcome is Outcome.HELD
    assert (await scene.pull("first", *names, records=101)).outcome is Outcome.PUBLISHED


async def test_a_first_version_has_no_entries_that_were_read_with_other_settings(scene: Scene) -> None:
    await scene.configure(release="review")
    scene.store_offer("second", *FIFTY)
    await scene.pull("first", *HUNDRED)
    scene.releases.sources[SourceId("second")] = replace(scene.sources["second"], keys=("a key",))
    await scene.configure(release="auto")
    assert (await scene.pull("first", *HUNDRED, "another.example")).outcome is Outcome.PUBLISHED
    assert scene.live == {*HUNDRED, "another.example"}


async def test_an_approval_that_fails_is_not_recorded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.configure(release="review")
    scene.store_offer("second", *FIFTY)
    found = await scene.pull("first", *HUNDRED)
    (case,) = scene.held
    for digest in (case.candidate.delta, case.candidate.change.sources[SourceId("second")]):
        scene.versions.store.sealed.path(digest).unlink()
    with pytest.raises(Exception, match="damaged"):
        await scene.approve(found.candidate)
    assert (scene.case(found.candidate).state, scene.case(found.candidate).decisions) == ("held", ())


async def test_a_rejected_change_stays_rejected_on_newer_versions_until_its_source_changes(
    scene: Scene,
) -> None:
    scene.releases.lists = {LIST: replace(scene.releases.lists[LIST], **ANYTHING)}
    scene.store_offer("second", *FIFTY)
    await scene.pull("first", *HUNDRED)
    await scene.configure(max_added=0.2)
    more = tuple(f"x{number}.example" for number in range(40))
    await scene.reject((await scene.pull("first", *HUNDRED, *more)).candidate)
    assert (await scene.pull("second", *FIFTY, *more[:15])).outcome is Outcome.PUBLISHED
    refused = await scene.pull("first", *HUNDRED, *more)
    assert refused.outcome is Outcome.FAILED, "although the rest of the change would pass the guards"
    assert (await scene.pull("first", *HUNDRED, "another.example")).outcome is Outcome.PUBLISHED
    assert (await scene.pull("first", *HUNDRED, *more)).outcome is Outcome.PUBLISHED, (
        "after another change, the guards decide again"
    )


async def test_an_approval_that_now_gives_a_rejected_delta_releases_nothing(scene: Scene) -> None:
    scene.releases.lists = {LIST: replace(scene.releases.lists[LIST], **ANYTHING)}
    scene.store_offer("second", *FIFTY)
    await scene.pull("first", *HUNDRED)
    await scene.configure(max_added=0.2)
    more = tuple(f"x{number}.example" for number in range(40))
    await scene.reject((await scene.pull("first", *HUNDRED, *more)).candidate)
    found = await scene.pull("second", *FIFTY, *more, "last.example")
    assert found.outcome is Outcome.HELD
    assert (await scene.pull("first", *HUNDRED, "last.example")).outcome is Outcome.PUBLISHED
    with pytest.raises(RefusedError, match="which was rejected"):
        await scene.approve(found.candidate)
    assert scene.held == []
    assert not scene.live & set(more)


async def test_a_start_that_waits_for_a_reload_commits_the_newer_policy(scene: Scene) -> None:
    await scene.configure(**ANYTHING, sources=(SourceId("first"),))
    await scene.pull("first", *HUNDRED)
    async with scene.releases.locks[LIST]:
        starting = asyncio.ensure_future(Reconciler(scene.releases, scene.versions.database).reconcile())
        while not scene.releases.locks[LIST]._waiters:  # noqa: ASYNC110 - a lock has no event for who waits for it
            await asyncio.sleep(0)
        newer = replace(scene.releases.lists[LIST], types=("url",))
        scene.releases.lists = {LIST: newer}
    await starting
    assert scene.versions.state.policy == newer.policy
    assert scene.live == set()


async def test_an_approval_keeps_the_candidate_of_a_source_whose_settings_changed(scene: Scene) -> None:
    scene.releases.lists = {LIST: replace(scene.releases.lists[LIST], **ANYTHING)}
    scene.store_offer("second", *FIFTY)
    await scene.pull("first", *HUNDRED)
    await scene.configure(max_added=0.1)
    mine = await scene.pull("first", *HUNDRED, *[f"x{number}.example" for number in range(40)])
    other = await scene.pull("second", *FIFTY, *[f"y{number}.example" for number in range(40)])
    assert (mine.outcome, other.outcome) == (Outcome.HELD, Outcome.HELD)
    scene.releases.sources[SourceId("second")] = replace(scene.sources["second"], keys=("another key",))
    assert await scene.approve(mine.candidate) == 2
    assert [case.candidate.id for case in scene.held] == [other.candidate]


async def test_a_source_names_the_candidate_that_replaced_its_own(scene: Scene) -> None:
    scene.releases.lists = {LIST: replace(scene.releases.lists[LIST], **ANYTHING)}
    scene.store_offer("second", *FIFTY)
    await scene.pull("first", *HUNDRED)
    await scene.configure(max_added=0.2)
    more = [f"x{number}.example" for number in range(60)]
    found = await scene.pull("first", *HUNDRED, *more)
    scene.record_pull("first", found)
    assert (await scene.pull("second", *FIFTY, *more[:10])).outcome is Outcome.PUBLISHED
    assert await scene.approve(found.candidate) is None
    (case,) = scene.held
    assert case.candidate.id != found.candidate
    assert scene.state("first").candidate == case.candidate.id
    assert await scene.approve(case.candidate.id) == 3
    assert (scene.state("first").outcome, scene.state("first").candidate) == (Outcome.PUBLISHED, None)


# -- a newer canonicaliser -----------------------------------------------------------------------------------------


def use_canonicaliser(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    for module in ("commit", "list_plan", "source_plan"):
        monkeypatch.setattr(f"blocklistd.pipeline.{module}.CANONICALISER", number)


async def test_a_newer_canonicaliser_alone_changes_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes no version and holds nothing. Held candidates stay held, and rejected changes stay rejected."""
    use_canonicaliser(monkeypatch, 1)
    scene.store_offer("second", *FIFTY)
    await scene.pull("first", *HUNDRED)
    await scene.reject((await scene.pull("first", *HUNDRED[:50])).candidate)
    held = await scene.pull("second", *FIFTY[:10])
    assert held.outcome is Outcome.HELD
    before = scene.versions.state
    use_canonicaliser(monkeypatch, 2)
    await scene.configure()
    after = scene.versions.state
    assert after.policy is not None
    assert after.policy.canonicaliser == 2
    assert (after.version, after.live, after.accepted) == (before.version, before.live, before.accepted)
    assert [case.candidate.id for case in scene.held] == [held.candidate]
    assert (await scene.pull("first", *HUNDRED[:50])).outcome is Outcome.FAILED, "rejected before the upgrade"
    assert (await scene.pull("second", *FIFTY[:10])).candidate == held.candidate
    assert (await scene.pull("first", *HUNDRED)).outcome is Outcome.UNCHANGED
    assert scene.version == before.version
    assert await scene.approve(held.candidate) == before.version + 1
    assert scene.live == {*HUNDRED, *FIFTY[:10]}


async def test_a_change_rejected_on_an_older_version_stays_rejected_under_a_newer_canonicaliser(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_canonicaliser(monkeypatch, 1)
    scene.store_offer("second", *FIFTY)
    await scene.pull("first", *HUNDRED)
    await scene.configure(release="review")
    await scene.reject((await scene.pull("first", *HUNDRED, "new.example")).candidate)
    await scene.configure(release="auto")
    assert (await scene.pull("second", *FIFTY, "more.example")).outcome is Outcome.PUBLISHED
    use_canonicaliser(monkeypatch, 2)
    await scene.configure()
    assert (await scene.pull("first", *HUNDRED, "new.example")).outcome is Outcome.FAILED
    assert "new.example" not in scene.live


async def test_a_list_under_review_is_not_held_because_of_a_newer_canonicaliser(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_canonicaliser(monkeypatch, 1)
    scene.store_offer("second", *FIFTY)
    await scene.pull("first", *HUNDRED)
    await scene.configure(release="review")
    use_canonicaliser(monkeypatch, 2)
    await scene.configure()
    assert (scene.version, scene.held) == (1, [])
    assert (await scene.pull("first", *HUNDRED)).outcome is Outcome.UNCHANGED
    assert scene.held == []
