"""Time lines of corrections: they shorten a list at once, and what ends them is judged as any change."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from blocklistd.change import CorrectionKind
from blocklistd.errors import RefusedError, StoreError
from blocklistd.model import Act, Outcome, SourceId
from blocklistd.pipeline import release
from blocklistd.pipeline.corrections import Corrections, Ended, Placed
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.store import candidates
from blocklistd.store.pulls import accept_body
from blocklistd.store.schema import audit
from tests.unit.test_pipeline_expiry import LASTING, Scene
from tests.versions_of import LIST, NOW, report

WRONG = "wrong.example"
EDITOR = Act("entry delist", "alice", 1000)
REVIEWER = Act("candidate approve", "bob", 1001)
DELISTED, EMBARGOED = CorrectionKind.DELISTED, CorrectionKind.EMBARGOED
DAY = timedelta(days=1)


class Corrected(Scene):
    """A list of two sources with one wrong entry, and an editor."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.corrections = Corrections(self.resources, self.releases)

    async def place(self, entry: str = WRONG, kind: CorrectionKind = DELISTED, **more: Any) -> Placed:
        return await self.corrections.place(LIST, entry, kind, "a mistake", EDITOR, **more)

    async def end(self, entry: str = WRONG, kind: CorrectionKind = DELISTED) -> Ended:
        return await self.corrections.end(LIST, entry, {kind}, "not a mistake", EDITOR)

    @property
    def names(self) -> set[str]:
        return {json.loads(line)["value"] for line in self.versions.live.splitlines()}

    @property
    def audited(self) -> list[tuple[str, str]]:
        with self.versions.database.read() as connection:
            rows = connection.execute(select(audit.c.action, audit.c.object).order_by(audit.c.number))
            return [(row.action, row.object) for row in rows]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Corrected]:
    made = Corrected(tmp_path)
    assert (await made.pull("first", *LASTING, WRONG)).outcome is Outcome.PUBLISHED
    yield made
    made.versions.close()


async def test_a_delisting_is_a_version_of_its_own_that_no_guard_holds(scene: Corrected) -> None:
    await scene.configure(max_removed=0.0, min_change=0, release="review")
    placed = await scene.place()
    assert [entry.type for entry in placed.entries] == ["domain", "host"], "a source could write the name as a host"
    assert placed.version == scene.newest.version == 2
    assert scene.newest.released_by == "alice"
    assert scene.names == {*LASTING}
    assert scene.audited[-1] == ("entry delist", " ".join(entry.id for entry in placed.entries))
    assert scene.versions.state.withheld == {"delisted": 1}


async def test_an_end_that_a_guard_holds_waits_and_is_asked_for_once(scene: Corrected) -> None:
    await scene.place()
    await scene.configure(release="review")
    ended = await scene.end()
    assert ended.result.outcome is Outcome.HELD
    assert (await scene.end()).result.candidate == ended.result.candidate
    assert WRONG not in scene.names
    assert ended.result.candidate is not None
    await scene.decisions.reject(ended.result.candidate, REVIEWER, "it stays out")
    assert [one.kind for one in scene.versions.state.corrections] == [DELISTED, DELISTED]
    again = await scene.end()
    assert again.result.outcome is Outcome.HELD
    assert await scene.approve(again.result.candidate) == 3
    assert WRONG in scene.names
    assert scene.versions.state.corrections == ()


async def test_the_end_of_its_time_is_requested_once_by_itself(scene: Corrected) -> None:
    await scene.place(until=NOW + DAY)
    await scene.corrections.end_passed(LIST)
    assert WRONG not in scene.names, "its time has not come"
    await scene.configure(release="review")
    scene.now = NOW + DAY
    await scene.corrections.end_passed(LIST)
    await scene.corrections.end_passed(LIST)
    with scene.versions.database.read() as connection:
        (case,) = candidates.held(connection, LIST)
    assert (case.candidate.change.actor, case.candidate.change.actor_uid) == ("", None)
    await scene.decisions.reject(case.candidate.id, REVIEWER, "it stays out")
    await scene.corrections.end_passed(LIST)
    with scene.versions.database.read() as connection:
        assert candidates.held(connection, LIST) == []
    entries = " ".join(one.entry for one in scene.versions.state.corrections)
    assert scene.audited.count(("entry restore", entries)) == 1


async def test_an_end_whose_commit_fails_is_tried_again_and_audited_once(
    scene: Corrected, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise StoreError("the disk is full")

    await scene.place(until=NOW + DAY)
    scene.now = NOW + DAY
    with monkeypatch.context() as patch:
        patch.setattr(release, "commit_job", fail)
        for _ in range(3):
            with pytest.raises(StoreError, match="the disk is full"):
                await scene.corrections.end_passed(LIST)
    await scene.corrections.end_passed(LIST)
    assert WRONG in scene.names
    assert [action for action, _ in scene.audited].count("entry restore") == 1


async def test_a_time_that_has_passed_brings_the_entry_back(scene: Corrected) -> None:
    await scene.place(kind=EMBARGOED, until=NOW + DAY, owner="unit 4")
    assert WRONG not in scene.names
    scene.now = NOW + DAY
    await scene.corrections.end_passed(LIST)
    assert WRONG in scene.names
    assert scene.versions.state.corrections == ()


async def test_a_correction_may_be_made_longer_and_not_shorter(scene: Corrected) -> None:
    await scene.place(kind=EMBARGOED, until=NOW + 2 * DAY, owner="unit 4")
    with pytest.raises(RefusedError, match="embargoed until"):
        await scene.place(kind=EMBARGOED, until=NOW + DAY, owner="unit 4")
    placed = await scene.place(kind=EMBARGOED, until=NOW + 3 * DAY, owner="unit 4")
    assert placed.version is None
    assert {one.until for one in scene.versions.state.corrections} == {NOW + 3 * DAY}
    assert WRONG not in scene.names


async def test_what_is_not_live_is_not_delisted(scene: Corrected) -> None:
    with pytest.raises(RefusedError, match="no source has asserted"):
        await scene.place("never.example")
    with pytest.raises(RefusedError, match="has the id"):
        await scene.place("e-" + "0" * 32)
    await scene.configure(release="review")
    held = await scene.pull("second", "held.example")
    with pytest.raises(RefusedError, match=f"held in candidate {held.candidate}"):
        await scene.place("held.example")
    with pytest.raises(RefusedError, match="has passed"):
        await scene.place(until=NOW)
    with pytest.raises(RefusedError, match="the entry is not delisted; it is live as e-"):
        await scene.end()
    assert scene.newest.version == 1


async def test_a_url_and_its_host_are_different_entries(scene: Corrected) -> None:
    with pytest.raises(RefusedError, match="its host is listed, which is another entry"):
        await scene.place(f"https://{WRONG}/page")
    assert WRONG in scene.names


async def test_a_domain_above_still_blocks_the_name(scene: Corrected) -> None:
    assert (await scene.pull("second", f"sub.{WRONG}")).outcome is Outcome.PUBLISHED
    placed = await scene.place(f"sub.{WRONG}")
    entry = placed.entries[0]
    ((covered, (above,)),) = placed.covered.items()
    assert covered == entry.id
    assert (await scene.place(above)).version == scene.newest.version
    assert scene.names == {*LASTING}


async def test_a_delisting_keeps_the_other_entry_of_the_name_out_too(scene: Corrected) -> None:
    """The domain is delisted by its id; then the other source lists the host, and the delisting ends by the id."""
    domain = (await scene.place()).entries[0].id
    await scene.end(domain)
    assert scene.versions.state.corrections == (), "what was placed together ends together"
    await scene.place(domain)
    body = b'{"v":"%b","t":"host"}\n' % WRONG.encode()
    sealed = scene.versions.offer(body, "ndjson", FormatOptions({"value": "/v", "type": "/t"}, {}), "second")
    with scene.versions.database.write() as connection:
        accept_body(connection, SourceId("second"), report(sealed), scene.sources["second"].settings)
    await scene.releases.offer(LIST, SourceId("second"))
    assert scene.names == {*LASTING}
    await scene.end(domain)
    assert scene.newest.entries == len(LASTING) + 2
    placed = await scene.place(domain)
    assert [entry.id for entry in placed.entries] == [domain], "the host is live: its id was not given"
    assert scene.newest.entries == len(LASTING) + 1


async def test_an_approval_does_not_release_what_was_embargoed_since(scene: Corrected) -> None:
    await scene.configure(release="review")
    held = await scene.pull("second", "case.example", "new.example")
    placed = await scene.place("case.example", kind=EMBARGOED, until=NOW + DAY, owner="unit 4")
    assert placed.version is None, "it is not live: no new base"
    assert held.candidate is not None
    approval = await scene.decisions.approve(held.candidate, REVIEWER)
    assert (approval.version, approval.held is not None) == (None, True)
    assert approval.held is not None
    assert (await scene.end("case.example", kind=EMBARGOED)).result.outcome is Outcome.UNCHANGED
    again = await scene.decisions.approve(approval.held, REVIEWER)
    assert again.held is not None, "the embargo has ended: the entry comes with the others"
    assert (await scene.decisions.approve(again.held, REVIEWER)).version == 2
    assert {"case.example", "new.example"} <= scene.names


async def test_an_embargo_before_the_first_version(tmp_path: Path) -> None:
    scene = Corrected(tmp_path)
    try:
        placed = await scene.place(kind=EMBARGOED, until=NOW + DAY, owner="unit 4")
        assert placed.version is None
        assert (await scene.pull("first", *LASTING, WRONG)).outcome is Outcome.PUBLISHED
        assert scene.names == {*LASTING}
        assert (await scene.end(kind=EMBARGOED)).version == 2
        assert WRONG in scene.names
    finally:
        scene.versions.close()


async def test_a_restored_entry_that_no_source_asserts_is_not_live(scene: Corrected) -> None:
    await scene.place()
    assert (await scene.pull("first", *LASTING)).outcome is Outcome.UNCHANGED
    ended = await scene.end()
    assert (ended.result.outcome, ended.version) == (Outcome.UNCHANGED, None)
    assert scene.versions.state.corrections == ()


async def test_a_delisting_brings_back_nothing_that_lost_ages_withheld(scene: Corrected) -> None:
    """All but one entry have ended by their age, and the files with the ages of both sources are lost."""
    await scene.configure(reverify=5 * 86400, ends_by_age=True, min_change=1000)
    scene.now = NOW + DAY
    await scene.pull("first", *LASTING, WRONG, "late.example")
    await scene.pull("second", *LASTING)
    scene.now = NOW + 7 * DAY
    await scene.reconciler.expire(LIST)
    await scene.pull("first", *LASTING, WRONG, "late.example", "new.example")
    assert scene.names == {"new.example"}
    lost = [stored.file for stored in scene.versions.state.ages.values() if stored.file is not None]
    assert lost
    for digest in lost:
        scene.versions.store.sealed.path(digest).unlink()
    await scene.place("new.example")
    assert (scene.newest.added, scene.newest.removed) == (0, 1)
    await scene.configure(min_change=0)
    held = await scene.pull("first", *LASTING, WRONG, "late.example", "new.example", "more.example")
    assert held.outcome is Outcome.HELD, "the next change brings them back, if the guards agree"
