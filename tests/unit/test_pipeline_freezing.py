"""Rollbacks: what is released at once, and what is held; who is in the audit."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from blocklistd.change import ChangeKind, CorrectionKind
from blocklistd.compose.selection import Selection
from blocklistd.errors import StoreError
from blocklistd.model import Act, Outcome, Sha256, SourceId, Version
from blocklistd.pipeline.corrections import Corrections
from blocklistd.pipeline.freezing import Freezing
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.store.candidates import case
from blocklistd.store.lists import version_rows
from blocklistd.store.pulls import accept_body
from blocklistd.store.schema import audit
from tests.unit.test_pipeline_expiry import LASTING, Scene
from tests.versions_of import LIST, report

ROLLBACK = Act("list rollback", "alice", 1000)
REVIEWER = Act("candidate approve", "bob", 1001)
MORE = tuple(f"more{number}.example" for number in range(2))


class Frozen(Scene):
    """A list that is rolled back."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.freezing = Freezing(self.resources, self.releases, self.reconciler)
        self.corrections = Corrections(self.resources, self.releases)

    def snapshot(self, version: int) -> Sha256:
        with self.versions.database.read() as connection:
            return next(row.sha256 for row in version_rows(connection, LIST) if row.version == version)

    @property
    def audited(self) -> list[tuple[str, str]]:
        with self.versions.database.read() as connection:
            rows = connection.execute(select(audit.c.action, audit.c.actor).order_by(audit.c.number))
            return [(row.action, row.actor) for row in rows]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Frozen]:
    made = Frozen(tmp_path)
    yield made
    made.versions.close()


async def two_versions(scene: Frozen) -> None:
    """Version 1 has two entries that version 2 does not have; that has 5 others. No addition is small enough."""
    await scene.configure(max_added=0.0, min_change=0)
    await scene.pull("first", *LASTING, *MORE)
    held = await scene.pull("first", *LASTING, *(f"wrong{number}.example" for number in range(5)))
    assert await scene.approve(held.candidate) == 2


async def test_a_rollback_whose_additions_are_all_gone_is_not_released_by_an_approval_without_them(
    scene: Frozen,
) -> None:
    """The candidate has removals, too, and everything that it would add is embargoed while it is held."""
    await two_versions(scene)
    plan = scene.releases.plan_of(LIST)
    with scene.versions.database.read() as connection:
        context = scene.releases.context(connection, plan)
    change = replace(context.same_entries(ChangeKind.ROLLBACK).by(ROLLBACK), cause="1", basis=scene.snapshot(1))
    held = await scene.releases.commit(plan, context, change)
    assert held.candidate is not None
    with scene.versions.database.read() as connection:
        delta = case(connection, held.candidate).candidate.delta
    with scene.versions.store.sealed.map(delta) as content:
        first = next(json.loads(line)["add"]["id"] for line in bytes(content).splitlines() if b'"add"' in line)
    for name in MORE:
        await scene.corrections.place(LIST, name, CorrectionKind.EMBARGOED, "a case", ROLLBACK, owner="unit 4")
    version, before = scene.newest.version, scene.live
    approval = await scene.decisions.approve(held.candidate, REVIEWER, [first])
    assert (approval.version, scene.newest.version, scene.live) == (None, version, before)
    assert approval.held is not None
    assert scene.held[0].added == 0
    assert await scene.approve(approval.held) == version + 1
    assert scene.newest.released_by == "alice"
    assert len(scene.live) == len(LASTING)


async def test_both_versions_of_a_divided_rollback_are_audited_as_those_of_the_user(scene: Frozen) -> None:
    """What leaves a zone holds the rollback. What it adds is then little enough to need no reviewer."""
    await scene.configure(selections=(Selection("fraud.rpz.example", ("fraud",)),), daily=None)

    async def publish(fraud: int, others: int) -> Any:
        listed = [{"v": f"f{number}.example", "c": "fraud"} for number in range(fraud)]
        listed += [{"v": f"o{number}.example", "c": "other"} for number in range(100 - others, 100)]
        body = "".join(json.dumps(one) + "\n" for one in listed).encode()
        options = FormatOptions({"value": "/v", "category": "/c"}, {"type": "domain"})
        sealed = scene.versions.offer(body, "ndjson", options, "first")
        with scene.versions.database.write() as connection:
            accept_body(connection, SourceId("first"), report(sealed), scene.sources["first"].settings)
        return await scene.releases.offer(LIST, SourceId("first"))

    await publish(20, 100)
    held = await publish(40, 95)
    assert held.outcome is Outcome.HELD
    assert await scene.approve(held.candidate) == 2
    before = len(scene.audited)
    done = await scene.freezing.roll_back(LIST, Version(1), "a mistake", ROLLBACK)
    assert (done.held, scene.newest.version, len(scene.live)) == (None, 4, 120)
    assert scene.audited[before:] == [("list rollback", "alice")] * 2
    assert scene.newest.released_by == "alice"


async def test_a_new_rollback_supersedes_the_held_one_in_its_own_transaction(
    scene: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_versions(scene)
    done = await scene.freezing.roll_back(LIST, Version(1), "", ROLLBACK)
    assert done.held is not None
    assert [one.id for one in scene.held] == [done.held.id]

    run_commit = scene.releases.run_commit

    async def run_and_end(*arguments: Any, **more: Any) -> Any:
        committed = await run_commit(*arguments, **more)
        if committed.candidate is None:
            raise StoreError("the daemon ends")
        return committed

    monkeypatch.setattr(scene.releases, "run_commit", run_and_end)
    with pytest.raises(StoreError, match="the daemon ends"):
        await scene.freezing.roll_back(LIST, Version(2), "", ROLLBACK)
    assert scene.held == []
