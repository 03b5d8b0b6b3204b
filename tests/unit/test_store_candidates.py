"""Held candidates: since when a list waits for a decision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from blocklistd.model import CandidateId
from blocklistd.store.candidates import Waiting, waiting
from tests.unit.test_pipeline_expiry import DAY, LASTING, Scene
from tests.versions_of import LIST, NOW


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.versions.close()


def waiting_of(scene: Scene) -> tuple[list[Waiting], int]:
    """What waits, and the number of queries that found it."""
    queries: list[str] = []
    with scene.versions.database.read() as connection:
        event.listen(connection, "before_cursor_execute", lambda *arguments: queries.append(arguments[2]))
        return waiting(connection), len(queries)


async def test_a_list_waits_since_its_first_candidate_however_often_the_source_changes(scene: Scene) -> None:
    await scene.pull("first", *LASTING)
    await scene.configure(release="review")
    held: list[CandidateId | None] = []
    queries = []
    for day in range(6):
        scene.now = NOW + day * DAY
        held.append((await scene.pull("first", *LASTING, f"new{day}.example")).candidate)
        found, count = waiting_of(scene)
        assert found == [Waiting(held[-1] or CandidateId(""), LIST, held[0] or CandidateId(""), NOW, 0)]
        queries.append(count)
    assert len(set(held)) == 6
    assert len(set(queries)) == 1, "not one for each pull since then"
