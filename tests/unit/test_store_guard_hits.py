"""Which entries the store says that guard files withhold: those of the live version, however it was released."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blocklistd.compose.compose import Hit
from blocklistd.model import Act, Version
from blocklistd.pipeline.freezing import Freezing
from blocklistd.pipeline.guard_names import seal_names
from blocklistd.store import guard_hits
from tests.unit.test_pipeline_expiry import LASTING, Scene
from tests.versions_of import LIST, NOW

PROTECTED = "protected.example"


class Guarded(Scene):
    """A list whose guards protect a name that a source lists."""

    @property
    def hits(self) -> list[str]:
        with self.versions.database.read() as connection:
            return [row.value for row in guard_hits.of_list(connection, LIST)]

    async def protect(self, *names: str, release: str = "auto") -> None:
        await self.configure(never_block=seal_names(self.versions.store.sealed, frozenset(names)), release=release)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Guarded]:
    made = Guarded(tmp_path)
    yield made
    made.versions.close()


async def test_an_approval_ends_the_hits_of_names_that_are_protected_no_more(scene: Guarded) -> None:
    await scene.protect(PROTECTED)
    await scene.pull("first", *LASTING, PROTECTED)
    assert scene.hits == [PROTECTED]
    await scene.protect(release="review")
    (held,) = scene.held
    assert await scene.approve(held.id) == 2
    assert (PROTECTED.removesuffix(".example") in scene.live, scene.hits) == (True, [])


async def test_an_approval_ends_the_hits_that_the_source_withdrew(scene: Guarded) -> None:
    await scene.protect(PROTECTED)
    await scene.pull("first", *LASTING, PROTECTED)
    await scene.protect(PROTECTED, release="review")
    held = await scene.pull("first", *LASTING, "another.example")
    assert await scene.approve(held.candidate) == 2
    assert scene.hits == []
    assert scene.versions.state.withheld == {}


async def test_hits_beyond_the_limit_are_named_once_the_first_are_gone(
    scene: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("compose.compose_all", "pipeline.composing", "store.guard_hits"):
        monkeypatch.setattr(f"blocklistd.{module}.MAX_HITS", 4)
    below = [f"{letter}.{PROTECTED}" for letter in "abcdefgh"]
    await scene.protect(PROTECTED)
    await scene.pull("first", *LASTING, *below)
    assert sorted(scene.hits) == below[:4]
    await scene.pull("first", *LASTING, *below[2:])
    assert (sorted(scene.hits), scene.versions.state.withheld) == (below[2:4], {"never_block": 6}), (
        "half of them are enough"
    )
    await scene.pull("first", *LASTING, *below[4:])
    assert (sorted(scene.hits), scene.versions.state.withheld) == (below[4:], {"never_block": 4})


async def test_what_a_guard_file_withholds_of_a_rollback_without_its_additions_is_counted(scene: Guarded) -> None:
    more = [f"m{number}.example" for number in range(60)]
    await scene.pull("first", *LASTING, *more, PROTECTED)
    await scene.pull("first", *LASTING[:50])
    (held,) = scene.held
    assert await scene.approve(held.id) == 2
    await scene.protect(PROTECTED)
    freezing = Freezing(scene.resources, scene.releases, scene.reconciler)
    done = await freezing.roll_back(LIST, Version(1), "", Act("list rollback", "alice", 1000))
    assert done.held is not None
    assert (scene.versions.state.withheld, scene.hits) == ({"never_block": 1}, [PROTECTED])


def test_two_entries_to_which_their_sources_gave_one_id_are_named_once(scene: Guarded) -> None:
    hits = [Hit("e-1", "never_block", kind, PROTECTED) for kind in ("host", "domain")]
    for no_hits in (None, ()):
        with scene.versions.database.write() as connection:
            guard_hits.update(connection, LIST, hits, no_hits, NOW)
        assert scene.hits == [PROTECTED]
