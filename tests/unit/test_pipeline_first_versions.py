"""Which running pulls the first version of a list waits for, and who brings it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from blocklistd.model import Act, Outcome
from blocklistd.store import candidates
from blocklistd.store.pulls import record_pull, wait_of
from tests.unit.test_pipeline_pull import hotline, releases_of, store_offer
from tests.versions_of import LIST, NOW, Versions


class Scene:
    """A list without a version, whose sources `a` and `b` have been pulled without success."""

    def __init__(self, folder: Path) -> None:
        self.versions = Versions(folder, "a", "b")
        self.a, self.b = hotline("a"), hotline("b")
        self.releases = releases_of(self.versions, self.a, self.b)
        for source in (self.a, self.b):
            with self.versions.database.write() as connection:
                record_pull(
                    connection,
                    source.id,
                    outcome=Outcome.FAILED,
                    reason="no file",
                    candidate=None,
                    began=NOW,
                    ended=NOW,
                    report=None,
                    validators=None,
                    settings=source.settings,
                )


async def test_a_first_version_waits_for_a_pull_that_runs(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    store_offer(scene.versions, scene.a, scene.versions.seal(["a.example"]))
    with scene.releases.first_versions.pull(scene.b.id):
        found = await scene.releases.offer(LIST, scene.a.id)
        assert (found.outcome, found.reason) == (Outcome.UNCHANGED, wait_of(LIST, [scene.b.id]))
    assert (await scene.releases.offer(LIST, scene.a.id)).outcome is Outcome.PUBLISHED
    scene.versions.close()


async def test_a_first_version_does_not_wait_for_a_source_that_has_offered_its_entries(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for source in (scene.a, scene.b):
        store_offer(scene.versions, source, scene.versions.seal([f"{source.id}.example"]))
    with scene.releases.first_versions.pull(scene.b.id):
        assert (await scene.releases.offer(LIST, scene.a.id)).outcome is Outcome.PUBLISHED
    assert set(scene.versions.state.accepted) == {"a", "b"}
    scene.versions.close()


async def test_pulls_that_fail_again_and_again_do_not_keep_a_list_from_its_first_version(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    store_offer(scene.versions, scene.a, scene.versions.seal(["a.example"]))
    with scene.releases.first_versions.pull(scene.b.id):
        assert (await scene.releases.offer(LIST, scene.a.id)).outcome is Outcome.UNCHANGED
    with scene.releases.first_versions.pull(scene.b.id):
        assert (await scene.releases.offer(LIST, scene.a.id)).outcome is Outcome.PUBLISHED
    scene.versions.close()


async def test_who_brought_entries_for_which_the_list_waited_is_the_actor_of_the_first_version(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.versions.plan = replace(scene.versions.plan, min_entries=5)
    scene.releases.configure({LIST: scene.versions.plan}, {one.id: one for one in (scene.a, scene.b)})
    store_offer(scene.versions, scene.a, scene.versions.seal(["a.example"]))
    with scene.releases.first_versions.pull(scene.b.id):
        waiting = await scene.releases.offer(LIST, scene.a.id, Act("source pull", "editor", 1001))
        assert waiting.outcome is Outcome.UNCHANGED
        store_offer(scene.versions, scene.b, scene.versions.seal(["b.example"]))
    assert (await scene.releases.offer(LIST, scene.b.id)).outcome is Outcome.HELD
    with scene.versions.database.read() as connection:
        (case,) = candidates.held(connection, LIST)
    assert (case.candidate.change.actor, case.candidate.change.actor_uid) == ("editor", 1001)
    scene.versions.close()
