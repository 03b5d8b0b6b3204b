"""Since when each source asserts an entry (`entry explain`); tests/system/test_explanations.py has the rest."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from blocklistd.model import Outcome
from blocklistd.pipeline.explain import Explainer
from tests.unit.test_pipeline_expiry import DAY, LASTING, Scene
from tests.versions_of import LIST, NOW

YEAR = timedelta(days=365)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.versions.close()


async def sources_of(scene: Scene, entry: str) -> dict[str, datetime | None]:
    found, *_ = await Explainer(scene.resources, scene.releases).explain(LIST, entry)
    return {one.source: one.since for one in found.assertions}


async def test_each_source_asserts_an_entry_since_it_added_it(scene: Scene) -> None:
    await scene.configure(reverify=int(YEAR.total_seconds()))
    assert (await scene.pull("first", *LASTING)).outcome is Outcome.PUBLISHED
    scene.now = NOW + DAY
    assert (await scene.pull("second", LASTING[0], "new.example")).outcome is Outcome.PUBLISHED
    assert await sources_of(scene, LASTING[0]) == {"first": NOW, "second": NOW + DAY}
    assert await sources_of(scene, "new.example") == {"second": NOW + DAY}


async def test_without_a_lifetime_it_is_not_known(scene: Scene) -> None:
    assert (await scene.pull("first", *LASTING)).outcome is Outcome.PUBLISHED
    assert await sources_of(scene, LASTING[0]) == {"first": None}
    assert await sources_of(scene, "never.example") == {}
