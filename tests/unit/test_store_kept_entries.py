"""Kept entries are forgotten once no source asserts them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blocklistd.daemon.upkeep import Upkeep
from blocklistd.model import Act
from blocklistd.ops.retried_tasks import RetriedTasks
from blocklistd.store import kept_entries
from tests.unit.test_pipeline_expiry import DAY, LASTING, Scene
from tests.versions_of import LIST, NOW

ACT = Act("entry keep", "alice", 1000)
KEPT = ("kept.example", "other.example")


async def nothing_to_do() -> None:
    pass


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.versions.close()


def keep(scene: Scene, *names: str) -> None:
    with scene.versions.database.write() as connection:
        kept_entries.keep(connection, LIST, [("domain", name) for name in names], "confirmed", ACT, scene.now)


def kept(scene: Scene) -> list[str]:
    with scene.versions.database.read() as connection:
        return sorted(key.split(b'"')[7].decode() for key in kept_entries.kept(connection, LIST))


async def upkeep(scene: Scene) -> None:
    """The daemon's upkeep of every few minutes."""
    none: Any = None
    publisher, renderings = SimpleNamespace(sign_again=nothing_to_do), SimpleNamespace(trim=lambda: None)
    config = SimpleNamespace(lists={LIST: SimpleNamespace(retention=timedelta(days=90))}, sources={})
    tasks = RetriedTasks(scene.resources.alarms)
    fakes: Any = (publisher, none, renderings, tasks, none, none, lambda: config)
    await Upkeep(scene.resources, *fakes).retain()


async def test_a_kept_entry_that_no_source_asserts_is_forgotten(scene: Scene) -> None:
    scene.store_offer("second", "other.example")
    await scene.pull("first", *LASTING, *KEPT)
    keep(scene, *KEPT)
    await upkeep(scene)
    assert kept(scene) == [*KEPT]
    await scene.pull("first", *LASTING)
    assert "other" in scene.live
    await upkeep(scene)
    assert kept(scene) == ["other.example"], "the second source asserts it"


async def test_a_kept_entry_stays_while_its_removal_is_held(scene: Scene) -> None:
    await scene.configure(max_removed=0.0, min_change=0)
    await scene.pull("first", *LASTING, *KEPT)
    keep(scene, *KEPT)
    held = await scene.pull("first", *LASTING)
    await upkeep(scene)
    assert kept(scene) == [*KEPT]
    await scene.approve(held.candidate)
    await upkeep(scene)
    assert kept(scene) == []


async def test_what_was_kept_again_meanwhile_is_not_forgotten(scene: Scene) -> None:
    await scene.pull("first", *LASTING)
    keep(scene, *KEPT)
    with scene.versions.database.read() as connection:
        found = kept_entries.unasserted(scene.versions.store.sealed, connection, LIST)
    assert {one.value for one in found} == {*KEPT}
    scene.now = NOW + DAY
    keep(scene, KEPT[0])
    with scene.versions.database.write() as connection:
        kept_entries.forget(connection, LIST, found)
    assert kept(scene) == [KEPT[0]]


async def test_nothing_is_forgotten_while_a_file_of_a_source_is_lost(scene: Scene) -> None:
    await scene.pull("first", *LASTING, *KEPT)
    keep(scene, *KEPT)
    for digest in scene.versions.state.accepted.values():
        scene.versions.store.sealed.path(digest).unlink(missing_ok=True)
    await upkeep(scene)
    assert kept(scene) == [*KEPT]
    assert scene.resources.alarms.subjects("housekeeping") == {f"kept entries of {LIST}"}
