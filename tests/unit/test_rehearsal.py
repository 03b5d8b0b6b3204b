from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from blocklistd.change import Change, ChangeKind, Correction, CorrectionKind
from blocklistd.jobs.runner import PRELOAD, Jobs
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.model import CandidateId
from blocklistd.pipeline.commit import CommitRequest, commit
from blocklistd.pipeline.rehearsal import rehearse
from blocklistd.pipeline.zone_job import advance_all
from blocklistd.rpz.wire import Apex
from blocklistd.store.backends import sqlite
from blocklistd.store.zones import ZonePlan
from tests.versions_of import LIST, NOW, Versions

ZONE = "rpz.blocklist.example"
PLAN = ZonePlan(ZONE, LIST, (), ".", 60, Apex(ZONE, "localhost", "h.invalid", 60, 30, 600, 60, ("localhost",)), 1)


@contextmanager
def compiled_statements() -> Iterator[list[str]]:
    """The statements that SQLAlchemy compiles while the block runs."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: Any) -> None:
        if context.compiled is not None and context.cache_hit is not context.dialect.CACHE_HIT:
            found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def small_change(versions: Versions) -> None:
    """The jobs of a version, of a delisting, and of the zone after each."""
    versions.publish(versions.seal(["a.example", "c.example"]))
    advance_all(versions.store, [PLAN], NOW, (), {})
    state = versions.state
    places = (Correction(0, CorrectionKind.DELISTED, "domain", "a.example", "id", "why"),)
    change = Change(ChangeKind.CORRECTION, "", versions.plan.policy, state.accepted, places=places)
    commit(versions.store, CommitRequest(versions.plan, change, CandidateId("c-1"), NOW, {}))
    advance_all(versions.store, [PLAN], NOW, (), {})


def test_a_small_change_finds_its_statements_compiled(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    versions.publish(versions.seal(["a.example", "b.example"]))
    advance_all(versions.store, [PLAN], NOW, (), {})
    sqlite._COMPILED.clear()
    rehearse()
    with compiled_statements() as found:
        small_change(versions)
    versions.close()
    assert found == []


def test_a_statement_is_compiled_without_a_rehearsal(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    sqlite._COMPILED.clear()
    with compiled_statements() as found:
        small_change(versions)
    versions.close()
    assert found


def test_the_rehearsal_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rehearse()
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/proc/self/fd")) <= before


def compiled() -> int:
    return len(sqlite._COMPILED)


async def test_a_job_has_the_statements_of_the_forkserver() -> None:
    assert PRELOAD[-1] == "blocklistd.pipeline.rehearsal"
    jobs = Jobs()
    try:
        assert await jobs.run(compiled, limits=COMMIT) > 20
    finally:
        jobs.close()
