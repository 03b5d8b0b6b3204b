"""Entries that are named by an id, where two entries of a list have the same one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from blocklistd.change import CorrectionKind
from blocklistd.errors import RefusedError
from blocklistd.model import Entry, Outcome, SourceId
from blocklistd.pipeline.due import DueEntries
from blocklistd.pipeline.list_context import ReleaseResult
from blocklistd.store.pulls import accept_body
from tests.unit.test_pipeline_corrections import REVIEWER, Corrected
from tests.unit.test_pipeline_expiry import DAY, LASTING
from tests.versions_of import LIST, report

ID = "e-" + "7" * 32
FIRST, SECOND = "one.example", "two.example"


class Publishers(Corrected):
    """A list whose second source is another publisher, who gives ids."""

    async def publish(self, *names: str) -> ReleaseResult:
        """The other publisher lists these names, all under one id."""
        lines = sorted(Entry("domain", name, {"id": ID}).line() + b"\n" for name in names)
        with self.versions.store.sealed.create() as draft:
            draft.write(b"".join(lines))
        assert draft.sealed is not None
        with self.versions.database.write() as connection:
            accept_body(connection, SourceId("second"), report(draft.sealed), self.sources["second"].settings)
        return await self.releases.offer(LIST, SourceId("second"))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Publishers]:
    made = Publishers(tmp_path)
    assert (await made.pull("first", *LASTING)).outcome is Outcome.PUBLISHED
    yield made
    made.versions.close()


async def test_the_id_of_another_publisher_names_its_entry(scene: Publishers) -> None:
    await scene.publish(FIRST)
    placed = await scene.place(ID)
    assert [entry.value for entry in placed.entries] == [FIRST, FIRST], "as a domain and as a host"
    assert scene.names == {*LASTING}


async def test_an_id_of_two_live_entries_is_ambiguous_and_changes_nothing(scene: Publishers) -> None:
    await scene.publish(FIRST, SECOND)
    version = scene.newest.version
    with pytest.raises(RefusedError, match=f"the id {ID} is ambiguous.*give the entry itself on stdin") as raised:
        await scene.place(ID)
    assert FIRST not in str(raised.value)
    with pytest.raises(RefusedError, match="is ambiguous"):
        await scene.end(ID)
    with pytest.raises(RefusedError, match="is ambiguous"):
        await scene.place(ID, CorrectionKind.EMBARGOED, owner="unit 4")
    assert scene.newest.version == version
    assert (await scene.place(SECOND)).version == version + 1
    assert scene.names == {*LASTING, FIRST}


async def test_an_id_is_ambiguous_whatever_the_list_knows_the_two_entries_from(scene: Publishers) -> None:
    await scene.publish(FIRST)
    await scene.place(FIRST)
    await scene.publish(SECOND)
    with pytest.raises(RefusedError, match="is ambiguous"):
        await scene.end(ID)  # the first is delisted, the second is live
    await scene.end(FIRST)
    await scene.publish(FIRST)
    await scene.configure(release="review")
    held = await scene.publish(FIRST, SECOND)
    with pytest.raises(RefusedError, match="is ambiguous"):
        await scene.place(ID)  # the first is live, the second is held
    assert held.candidate is not None
    lost = scene.held[0].delta
    scene.versions.store.sealed.path(lost).unlink()
    assert (await scene.place(ID)).version == scene.newest.version, "a lost candidate delays no correction"


async def test_an_entry_whose_line_changes_in_a_candidate_is_one_entry(scene: Publishers) -> None:
    await scene.publish(FIRST)
    await scene.configure(release="review")
    line = Entry("domain", FIRST, {"id": ID, "category": "fraud"}).line()
    with scene.versions.store.sealed.create() as draft:
        draft.write(line + b"\n")
    assert draft.sealed is not None
    with scene.versions.database.write() as connection:
        accept_body(connection, SourceId("second"), report(draft.sealed), scene.sources["second"].settings)
    await scene.releases.offer(LIST, SourceId("second"))
    assert (await scene.place(ID)).entries[0].id == ID


async def test_an_approval_without_an_ambiguous_id_is_refused(scene: Publishers) -> None:
    await scene.configure(release="review")
    held = await scene.publish(FIRST, SECOND)
    assert held.candidate is not None
    with pytest.raises(RefusedError, match=f"--except: the id {ID} is ambiguous.*reject the candidate"):
        await scene.decisions.approve(held.candidate, REVIEWER, [ID])
    assert scene.names == {*LASTING}


async def test_an_id_that_two_due_entries_have_is_not_kept(scene: Publishers) -> None:
    await scene.publish(FIRST, SECOND)
    await scene.configure(reverify=int(DAY.total_seconds()))
    scene.now += 2 * DAY
    due = DueEntries(scene.resources, scene.releases, scene.reconciler)
    total = (await due.due(LIST)).total
    assert total == len(LASTING) + 2
    with pytest.raises(RefusedError, match=f"the id {ID} is ambiguous.*nothing was changed"):
        await due.keep(LIST, [ID], "seen", REVIEWER)
    assert (await due.due(LIST)).total == total
