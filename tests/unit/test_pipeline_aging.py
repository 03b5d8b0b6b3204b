"""Ages of the entries of a source, in a commit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocklistd.change import ChangeKind, CorrectionKind
from blocklistd.compose.guard import DailyLimits
from blocklistd.errors import DamagedError
from blocklistd.model import Act, Outcome, SourceId
from blocklistd.pipeline.corrections import Corrections
from tests.unit.test_pipeline_expiry import DAY, LASTING, Scene
from tests.versions_of import LIST, NOW


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.versions.close()


async def test_new_entries_whose_file_is_damaged_have_no_ages(scene: Scene) -> None:
    await scene.configure(reverify=86400)
    await scene.pull("first", *LASTING)
    before = set(scene.versions.store.sealed.root.rglob("*"))
    scene.store_offer("first", *LASTING, "new.example")
    (made,) = set(scene.versions.store.sealed.root.rglob("*")) - before
    made.chmod(0o600)
    made.write_bytes(b"x" * made.stat().st_size)
    with pytest.raises(DamagedError):
        await scene.releases.offer(LIST, SourceId("first"))


OLD = tuple(f"old{number}.example" for number in range(50))


async def lose_ages_after_an_expiry(scene: Scene, **limits: Any) -> None:
    """A list with 100 live entries, and 50 that have ended by their age. The file of the ages is then lost."""
    await scene.configure(reverify=10 * 86400, ends_by_age=True, max_added=9.0, max_removed=1.0, daily=None)
    await scene.pull("first", *OLD)
    scene.now = NOW + 5 * DAY
    await scene.pull("first", *OLD, *LASTING)
    await scene.at(10)
    assert (scene.newest.kind, scene.newest.removed, len(scene.live)) == (ChangeKind.EXPIRY, 50, 100)
    await scene.configure(**limits)
    lost = scene.versions.state.ages[SourceId("first")].file
    assert lost is not None
    scene.versions.store.sealed.path(lost).unlink()


async def test_an_expiry_that_brings_entries_back_after_ages_were_lost_is_judged_as_an_addition(scene: Scene) -> None:
    await lose_ages_after_an_expiry(scene, max_added=0.2)
    version = scene.newest.version
    await scene.at(15)
    (held,) = scene.held
    assert [str(reason) for reason in held.reasons] == ["max_added: 50.0% (50 of 100), limit 20%"]
    assert (held.change.kind, held.added, held.removed) == (ChangeKind.EXPIRY, 50, 0)
    assert (scene.newest.version, len(scene.live)) == (version, 100)
    assert await scene.approve(held.id) == version + 1
    assert len(scene.live) == 150, "ages begin again"
    await scene.at(25)
    assert scene.live == {}, "they end by their new ages"


async def test_an_expiry_that_adds_waits_for_the_release_rule_of_the_list(scene: Scene) -> None:
    await lose_ages_after_an_expiry(scene, release="review")
    await scene.at(15)
    assert [reason.guard for reason in scene.held[0].reasons] == ["release"]
    assert len(scene.live) == 100


async def test_what_an_expiry_adds_counts_in_the_sum_of_the_day(scene: Scene) -> None:
    await lose_ages_after_an_expiry(scene, max_added=0.6, daily=DailyLimits(0.6, 1.0))
    await scene.at(15)
    assert (scene.newest.kind, scene.newest.added) == (ChangeKind.EXPIRY, 50)
    new = (f"new{number}.example" for number in range(30))
    held = await scene.pull("first", *OLD, *LASTING, *new)
    assert (held.outcome, held.reason) == (Outcome.HELD, "daily.max_added: 80.0% (80 of 100 in 24 h), limit 60%")


@pytest.mark.parametrize("few", [0, 2000])
@pytest.mark.parametrize("withheld_by", ["delisted", "additions"])
async def test_an_entry_that_is_not_live_when_it_ends_is_counted_under_one_rule(
    scene: Scene, withheld_by: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocklistd.pipeline.composing.FEW", few)
    await scene.configure(reverify=10 * 86400, ends_by_age=True, max_removed=1.0, daily=None)
    await scene.pull("first", *LASTING)
    if withheld_by == "additions":
        await scene.configure(additions=False)
    await scene.pull("first", *LASTING, "late.example")
    if withheld_by == "delisted":
        corrections = Corrections(scene.resources, scene.releases)
        act = Act("entry delist", "alice", 1000)
        await corrections.place(LIST, "late.example", CorrectionKind.DELISTED, "a mistake", act)
    assert scene.versions.state.withheld == {withheld_by: 1}
    await scene.at(10)
    assert (scene.live, scene.versions.state.withheld) == ({}, {"lifetime": 101})
    await scene.pull("first", *LASTING)
    assert scene.versions.state.withheld == {"lifetime": 100}
