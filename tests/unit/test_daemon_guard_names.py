"""The names of guards at a start, before their files are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blocklistd.config import Config
from blocklistd.daemon.guard_names import GuardNames
from tests.unit.configuring import VALID, read
from tests.unit.test_pipeline_pull import resources_of
from tests.versions_of import LIST, Versions


@pytest.mark.parametrize(("content", "additions"), [("search.example\n", True), ("", False), (None, False)])
async def test_nothing_is_added_from_the_start_on_if_a_file_has_gone(
    tmp_path: Path, content: str | None, additions: bool
) -> None:
    file = tmp_path / "never.txt"
    file.write_text("search.example\n")
    config: Config = read(
        tmp_path, VALID.replace("  national:\n", f"  national:\n    guards: {{never_block: [{file}]}}\n")
    )
    versions = Versions(tmp_path)
    versions.publish(versions.seal(["a.example"]))
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    nothing: Any = None
    guards = GuardNames(resources_of(versions), lambda: config, nothing, nothing)
    await guards.begin(config)
    assert guards.names[LIST].additions is additions
    versions.close()
