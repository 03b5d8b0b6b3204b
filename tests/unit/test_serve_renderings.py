"""The files behind the feed: what is dropped of them, and what is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blocklistd.jobs.runner import Jobs
from blocklistd.serve import renderings
from blocklistd.serve.renderings import StoredRenderings
from tests.versions_of import Versions


class NoJobs(Jobs):
    def __init__(self) -> None:
        pass


def test_the_oldest_diffs_are_dropped_and_never_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = Versions(tmp_path)
    monkeypatch.setattr(renderings, "DIFF_CACHE", 10)
    folder = versions.store.diffs / "session"
    folder.mkdir(parents=True)
    for age, name in enumerate(("1-3.ndjson", "1-2.ndjson")):
        (folder / name).write_bytes(b"x" * 20)
        os.utime(folder / name, (1000 - age, 1000 - age))
    (folder / "2-3.ndjson").symlink_to(folder / "gone")  # seen, and dropped before it was looked at
    StoredRenderings(versions.store, versions.database, NoJobs()).trim()
    assert [path.name for path in folder.iterdir() if path.exists()] == ["1-3.ndjson"]
    versions.close()
