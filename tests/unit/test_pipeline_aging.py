"""Ages of the entries of a source, in a commit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blocklistd.errors import DamagedError
from blocklistd.model import SourceId
from tests.unit.test_pipeline_expiry import LASTING, Scene
from tests.versions_of import LIST


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
