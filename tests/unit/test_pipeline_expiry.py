"""Time lines of entries that end: each is live until its `expires`, and gone in a version of its own after that."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import null, select, update

from blocklistd.change import Candidate, ChangeKind, VersionInfo
from blocklistd.compose.compose import ADDITIONS, ENDED
from blocklistd.errors import RefusedError
from blocklistd.model import Act, CandidateId, Entry, Outcome, SourceId, Version
from blocklistd.pipeline import commit as commit_module
from blocklistd.pipeline.decide import Decisions
from blocklistd.pipeline.list_context import ReleaseResult
from blocklistd.pipeline.rebuild import rebuild
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.store import candidates
from blocklistd.store.lists import next_expiries
from blocklistd.store.pulls import accept_body
from blocklistd.store.schema import audit, lists
from blocklistd.times import rfc3339
from tests.unit.test_pipeline_pull import NoPublisher, NoZones, background_ended, hotline, render_nothing, resources_of
from tests.versions_of import LIST, NOW, Versions, report

DAY = timedelta(days=1)
LASTING = tuple(f"n{number}.example" for number in range(100))


class Scene:
    """A list of two sources, and a clock that the test sets. `ends`: days after NOW."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.versions = Versions(folder, "first", "second")
        self.resources = replace(resources_of(self.versions), clock=lambda: self.now)
        self.sources = {name: hotline(name) for name in ("first", "second")}
        self.releases = Releaser(self.resources, NoPublisher(), NoZones(), render_nothing)
        self.releases.configure({LIST: self.versions.plan}, {made.id: made for made in self.sources.values()})
        self.reconciler = Reconciler(self.releases, self.versions.database)
        self.decisions = Decisions(self.releases, self.reconciler, self.versions.database, lambda: self.now)
        self.store_offer("first")
        self.store_offer("second")

    def store_offer(self, source: str, *lasting: str, **ends: float) -> None:
        listed = [json.dumps({"v": name}) for name in lasting]
        listed += [json.dumps({"v": f"{n}.example", "e": rfc3339(NOW + at * DAY)}) for n, at in ends.items()]
        sealed = self.versions.seal(listed, "ndjson", value="/v", expires="/e")
        with self.versions.database.write() as connection:
            accept_body(connection, SourceId(source), report(sealed), self.sources[source].settings)

    async def pull(self, source: str, *lasting: str, **ends: float) -> ReleaseResult:
        self.store_offer(source, *lasting, **ends)
        return await self.releases.offer(LIST, SourceId(source))

    async def at(self, days: float) -> None:
        """The time comes, and the daemon makes the expiry that is due."""
        self.now = NOW + days * DAY
        await self.reconciler.expire(LIST)

    async def configure(self, **plan: Any) -> None:
        self.releases.lists = {LIST: replace(self.releases.lists[LIST], **plan)}
        await self.reconciler.reconcile()

    async def approve(self, candidate: CandidateId | None) -> Version | None:
        assert candidate is not None
        approval = await self.decisions.approve(candidate, Act("candidate approve", "alice", 1000))
        await background_ended(self.releases)
        return approval.version

    @property
    def live(self) -> dict[str, str | None]:
        """The live entries, each with its `expires`."""
        entries = map(json.loads, self.versions.live.splitlines())
        return {entry["value"].removesuffix(".example"): entry.get("expires") for entry in entries}

    @property
    def held(self) -> list[Candidate]:
        with self.versions.database.read() as connection:
            return [case.candidate for case in candidates.held(connection)]

    @property
    def newest(self) -> VersionInfo:
        live = self.versions.state.live
        assert live is not None
        return live

    @property
    def next_expiry(self) -> datetime | None:
        with self.versions.database.read() as connection:
            return next_expiries(connection, self.now, [LIST]).get(LIST)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.versions.close()


async def test_an_entry_is_live_until_its_expiry_and_gone_in_a_version_of_its_own(scene: Scene) -> None:
    assert (await scene.pull("first", *LASTING, a=1)).outcome is Outcome.PUBLISHED
    assert scene.next_expiry == NOW + DAY
    await scene.at(1 - 1 / 86400)
    assert "a" in scene.live
    assert scene.newest.version == 1
    await scene.at(1)
    made = scene.newest
    assert (made.version, made.kind, made.cause, made.released_by) == (2, ChangeKind.EXPIRY, "", "auto")
    assert (made.added, made.removed, made.changed, made.entries) == (0, 1, 0, 100)
    assert scene.versions.diff(1, 2).startswith(b'{"remove":{"type":"domain","value":"a.example","expires":')
    assert scene.versions.state.withheld == {ENDED: 1}
    assert scene.next_expiry is None
    with scene.versions.database.read() as connection:
        *_, written = connection.execute(select(audit).order_by(audit.c.number))
    assert (written.action, written.actor, written.object) == ("release", "auto", "national 2")
    assert json.loads(written.detail) == {"added": 0, "cause": "", "changed": 0, "kind": "expiry", "removed": 1}
    await scene.at(2)
    assert scene.newest.version == 2, "nothing else ends"


async def test_a_source_that_goes_on_listing_it_does_not_bring_it_back_and_a_later_expiry_does(scene: Scene) -> None:
    await scene.pull("first", *LASTING, a=1)
    await scene.at(1)
    assert (await scene.pull("first", *LASTING, "another.example", a=1)).outcome is Outcome.PUBLISHED
    assert "a" not in scene.live
    assert (await scene.pull("first", *LASTING, "another.example", a=3)).outcome is Outcome.PUBLISHED
    assert scene.live["a"] == rfc3339(NOW + 3 * DAY)
    assert (scene.newest.kind, scene.newest.added) == (ChangeKind.SOURCE, 1)
    assert scene.versions.state.withheld == {}
    await scene.at(3)
    assert "a" not in scene.live


async def test_another_source_keeps_an_entry_alive_with_its_own_attributes(scene: Scene) -> None:
    scene.store_offer("second", "b.example", a=2, c=1)
    await scene.pull("first", *LASTING, a=1, b=1, c=1)
    await scene.at(1)
    assert (scene.live["a"], scene.live["b"]) == (rfc3339(NOW + 2 * DAY), None)
    assert "c" not in scene.live
    assert (scene.newest.removed, scene.newest.changed) == (1, 2)
    assert scene.versions.state.withheld == {ENDED: 1}
    assert scene.next_expiry == NOW + 2 * DAY
    await scene.at(2)
    assert "a" not in scene.live
    assert (await scene.pull("second", "b.example")).outcome is Outcome.UNCHANGED
    assert scene.versions.state.withheld == {ENDED: 2}, "the first source still lists them"


async def test_an_entry_of_a_source_that_another_one_hid_ends_after_the_other_withdrew(scene: Scene) -> None:
    scene.store_offer("second", a=2)
    await scene.pull("first", *LASTING, "a.example")
    assert scene.next_expiry is None, "the first source's entry does not end"
    await scene.pull("first", *LASTING)
    assert scene.next_expiry == NOW + 2 * DAY
    await scene.at(2)
    assert "a" not in scene.live


async def test_a_first_version_leaves_out_what_has_ended(scene: Scene) -> None:
    await scene.pull("first", *LASTING, a=-1, b=0, c=1)
    assert {"a", "b", "c"} & scene.live.keys() == {"c"}
    assert scene.versions.state.withheld == {ENDED: 2}


@pytest.mark.parametrize("few", [0, 2000])
async def test_more_than_max_removed_at_once_is_held_and_an_approval_releases_exactly_that(
    scene: Scene, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocklistd.pipeline.composing.FEW", few)
    await scene.pull("first", *LASTING, **{f"e{number}": 1 for number in range(50)}, f=1.5)
    await scene.at(1)
    (held,) = scene.held
    assert [str(reason) for reason in held.reasons] == ["max_removed: 33.1% (50 of 151), limit 10%"]
    assert (held.change.kind, held.removed, held.change.evaluated) == (ChangeKind.EXPIRY, 50, NOW + DAY)
    assert scene.next_expiry is None
    await scene.at(1.5)
    assert scene.held == [held], "f waits until the held expiry is decided"
    await scene.pull("first", *LASTING, "new.example", **{f"e{number}": 1 for number in range(50)}, f=1.5)
    assert len(scene.live) == 152, "a pull ends nothing"
    assert await scene.approve(held.id) == 3
    assert (scene.newest.kind, scene.newest.released_by, scene.newest.removed) == (ChangeKind.EXPIRY, "alice", 50)
    assert scene.live.keys() >= {"f", "new"}
    await scene.at(2)
    assert "f" in scene.live, "an expiry was released that day"
    await scene.at(2.5)
    assert "f" not in scene.live
    assert scene.versions.state.withheld == {ENDED: 51}


async def test_a_rejected_expiry_is_not_made_again_before_the_next_day(scene: Scene) -> None:
    await scene.pull("first", *LASTING, **{f"e{number}": 1 for number in range(50)}, f=2.1)
    await scene.at(1)
    (held,) = scene.held
    await scene.decisions.reject(held.id, Act("candidate reject", "alice", 1000), "they stay")
    await scene.at(1.2)
    assert scene.next_expiry == datetime(2026, 11, 22, tzinfo=UTC)
    await scene.at(2)
    assert (scene.held, len(scene.live)) == ([], 151), "the same delta"
    await scene.configure(max_removed=0.5)
    assert len(scene.live) == 151, "it was rejected"
    await scene.at(3)
    assert len(scene.live) == 100, "another delta"


async def test_neither_the_release_rule_nor_min_entries_nor_the_sum_of_the_day_holds_an_expiry(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.configure(max_removed=1.0)
    await scene.pull("first", *LASTING, **{f"e{number}": 1 for number in range(1000)})
    await scene.configure(release="review", min_entries=500)
    await scene.at(1)
    assert (scene.newest.kind, scene.newest.removed, len(scene.live)) == (ChangeKind.EXPIRY, 1000, 100)
    assert scene.versions.state.withheld == {ENDED: 1000}
    assert "after an expiry it has 100 entries, fewer than min_entries (500)" in caplog.text
    await scene.configure(release="auto", min_entries=1)
    assert (await scene.pull("first", *LASTING[5:])).outcome is Outcome.PUBLISHED, "five removed today, not 1,005"


async def test_the_second_expiry_of_a_day_waits_for_the_next_day(scene: Scene) -> None:
    await scene.pull("first", *LASTING, a=0.1, b=0.2, c=0.3, d=1.2)
    await scene.at(0.1)
    assert not {"a"} & scene.live.keys()
    midnight = datetime(2026, 11, 21, tzinfo=UTC)
    assert scene.next_expiry == midnight
    await scene.at(0.4)
    assert scene.newest.version == 2
    await scene.pull("first", *LASTING, "new.example", a=0.1, b=0.2, c=0.3, d=1.2)
    assert {"b", "c", "d", "new"} <= scene.live.keys(), "a pull ends nothing"
    await scene.at((midnight - NOW) / DAY)
    assert (scene.newest.version, scene.newest.removed) == (4, 2)
    assert {"b", "c", "d"} & scene.live.keys() == {"d"}
    assert scene.next_expiry == datetime(2026, 11, 22, tzinfo=UTC), "d ends on the day of an expiry"


async def test_nothing_ends_while_the_list_is_frozen(scene: Scene) -> None:
    await scene.pull("first", *LASTING, a=1)
    with scene.versions.database.write() as connection:
        connection.execute(update(lists).values(frozen={"user": "alice", "time": "now", "why": "a look"}))
    assert scene.next_expiry is None
    await scene.at(1)
    assert "a" in scene.live
    with scene.versions.database.write() as connection:
        connection.execute(update(lists).values(frozen=null()))
    await scene.at(1)
    assert "a" not in scene.live


async def test_an_expiry_that_a_clock_ahead_held_is_not_released_by_the_right_clock(scene: Scene) -> None:
    await scene.pull("first", *LASTING, **{f"e{number}": 3 for number in range(50)}, a=1)
    await scene.at(30)
    (held,) = scene.held
    scene.now = NOW + 2 * DAY
    with pytest.raises(RefusedError, match="superseded"):
        await scene.approve(held.id)
    assert scene.held == []
    assert scene.live.keys() >= {"e1", "e49"}
    assert "a" not in scene.live


async def test_an_expiry_may_empty_a_list_and_says_so(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    await scene.pull("first", a=1)
    await scene.at(1)
    assert (scene.newest.entries, scene.versions.live) == (0, b"")
    assert [record.levelno for record in caplog.records if "min_entries" in record.getMessage()] == [logging.WARNING]


async def test_a_body_whose_entries_have_all_ended_empties_no_list(scene: Scene) -> None:
    found = await scene.pull("first", a=-1, b=-1)
    assert found.outcome is Outcome.HELD
    assert "min_entries" in str(found.reason)
    await scene.pull("first", *LASTING)
    found = await scene.pull("first", **{f"n{number}": -1 for number in range(100)})
    assert found.outcome is Outcome.HELD, "the pull removes them, so the guards judge it"
    assert len(scene.live) == 100


async def test_a_restart_after_the_time_makes_the_expiry_first(scene: Scene, tmp_path: Path) -> None:
    await scene.pull("first", *LASTING, a=1)
    scene.versions.close()
    again = Scene(tmp_path)
    again.store_offer("first", *LASTING, "new.example", a=1)
    again.now = NOW + 2 * DAY
    await again.reconciler.reconcile()
    assert (again.newest.version, again.newest.kind) == (3, ChangeKind.SOURCE)
    assert "a" not in again.live
    assert again.versions.diff(1, 2).count(b"\n") == 1
    again.versions.close()


async def test_a_crash_in_the_expiry_leaves_the_version_before_and_the_expiry_due(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.pull("first", *LASTING, a=1)
    with monkeypatch.context() as patch:

        def crash(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(commit_module, "release", crash)
        with pytest.raises(KeyboardInterrupt):
            await scene.at(1)
    assert scene.newest.version == 1
    assert scene.next_expiry == scene.now, "due"
    # a pull in the meantime is composed as if no time had passed
    assert (await scene.pull("first", *LASTING, "new.example", a=1, b=0.5)).outcome is Outcome.PUBLISHED
    assert {"a", "b", "new"} & scene.live.keys() == {"a", "new"}
    await scene.at(1)
    assert "a" not in scene.live
    assert scene.versions.state.withheld == {ENDED: 2}


async def test_an_approval_brings_in_nothing_that_has_ended_since_the_reviewer_saw_it(scene: Scene) -> None:
    await scene.pull("first", *LASTING)
    held = await scene.pull("first", *LASTING, **{f"e{number}": 1 for number in range(50)}, f=3)
    assert held.outcome is Outcome.HELD
    scene.now = NOW + 2 * DAY
    assert await scene.approve(held.candidate) is None, "the delta is another one now"
    assert len(scene.live) == 100
    with scene.versions.database.read() as connection:
        (case,) = candidates.held(connection)
    assert (case.candidate.added, case.candidate.withheld) == (1, {ENDED: 50})
    assert await scene.approve(case.candidate.id) == 2
    assert scene.live["f"] == rfc3339(NOW + 3 * DAY)
    assert scene.next_expiry == NOW + 3 * DAY
    await scene.at(3)
    assert len(scene.live) == 100


async def test_an_approval_after_live_entries_ended_makes_the_expiry_first(scene: Scene) -> None:
    await scene.pull("first", *LASTING, a=1)
    held = await scene.pull("first", *LASTING, *(f"m{number}.example" for number in range(50)), a=1)
    scene.now = NOW + 2 * DAY
    assert await scene.approve(held.candidate) == 3, "the same delta on the version after the expiry"
    assert "a" not in scene.live
    assert len(scene.live) == 150


async def test_an_expiry_is_made_although_a_reviewer_rejected_the_same_delta(scene: Scene) -> None:
    await scene.configure(max_removed=0.0, min_change=0)
    await scene.pull("first", *LASTING, a=1)
    held = await scene.pull("first", *LASTING)
    assert held.candidate is not None
    await scene.decisions.reject(held.candidate, Act("candidate reject", "alice", 1000), "it stays")
    await scene.configure(max_removed=1.0)
    await scene.at(1)
    assert "a" not in scene.live


async def test_a_source_in_quarantine_neither_keeps_nor_ends_an_entry(scene: Scene) -> None:
    scene.store_offer("second", a=5, b=1)
    await scene.pull("first", *LASTING, a=1)
    await scene.configure(sources=(SourceId("first"),), min_change=100)
    assert "b" not in scene.live
    assert scene.live["a"] == rfc3339(NOW + DAY)
    await scene.at(1)
    assert "a" not in scene.live


async def test_entries_come_back_after_the_clock_was_wrong(scene: Scene) -> None:
    scene.store_offer("second", a=9)
    await scene.pull("first", *LASTING, a=1, b=24)
    await scene.at(48)
    assert not {"a", "b"} & scene.live.keys()
    await scene.at(0.5)
    assert (scene.live["a"], scene.live["b"]) == (rfc3339(NOW + DAY), rfc3339(NOW + 24 * DAY))
    assert scene.versions.state.withheld == {}
    assert scene.next_expiry == NOW + DAY
    scene.now -= timedelta(seconds=30)
    before = scene.versions.state
    await scene.reconciler.expire(LIST)
    assert scene.versions.state == before, "right clocks differ by that much"


async def test_no_expiry_is_approved_while_the_clock_is_wrong(scene: Scene) -> None:
    await scene.pull("first", *LASTING, **{f"e{number}": 1 for number in range(50)})
    await scene.at(1)
    (held,) = scene.held
    scene.resources.alarms.raise_alarm("clock", "", "the clock is wrong")
    with pytest.raises(RefusedError, match="the clock is wrong"):
        await scene.approve(held.id)
    scene.resources.alarms.clear("clock")
    assert await scene.approve(held.id) == 2


async def test_nothing_ends_while_the_clock_is_wrong(scene: Scene) -> None:
    await scene.pull("first", *LASTING, a=1)
    scene.resources.alarms.raise_alarm("clock", "", "the clock is wrong")
    await scene.at(5)
    assert "a" in scene.live
    scene.resources.alarms.clear("clock")
    await scene.at(5)
    assert "a" not in scene.live


async def test_a_list_of_an_earlier_version_is_evaluated_once(scene: Scene) -> None:
    await scene.pull("first", *LASTING, a=1)
    with scene.versions.database.write() as connection:
        connection.execute(update(lists).values(evaluated=None, next_expiry=None))
    scene.now = NOW + DAY
    assert scene.next_expiry == scene.now
    found = await scene.pull("first", *LASTING, "new.example", a=1, b=-1)
    assert found.outcome is Outcome.PUBLISHED
    assert {"a", "b"} <= scene.live.keys(), "before the first evaluation nothing has ended"
    await scene.at(1)
    assert not {"a", "b"} & scene.live.keys()
    assert scene.newest.kind == ChangeKind.EXPIRY
    assert scene.next_expiry is None


async def test_dates_of_an_earlier_canonicaliser_end_nothing_until_the_next_pull(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade: lists are composed again from lines that have dates in other forms."""
    old = {"a": "2026-01-31", "b": "2026-01-31T12:00:00+01:00", "c": "2026-01-31T12:00:00Z", "d": "2026-01-31 12:00"}
    lines = [Entry("domain", f"{name}.example", {"expires": text}).line() for name, text in old.items()]
    with scene.versions.store.sealed.create() as draft:
        draft.write(b"".join(line + b"\n" for line in lines))
    assert draft.sealed is not None
    with scene.versions.database.write() as connection:
        accept_body(connection, SourceId("first"), report(draft.sealed), scene.sources["first"].settings)
    monkeypatch.setattr("blocklistd.pipeline.commit.CANONICALISER", 3)
    monkeypatch.setattr("blocklistd.pipeline.list_plan.CANONICALISER", 3)
    scene.now = NOW - timedelta(days=365)
    await scene.releases.offer(LIST, SourceId("first"))
    with scene.versions.database.write() as connection:
        connection.execute(update(lists).values(evaluated=None, next_expiry=None))
    monkeypatch.undo()
    scene.now = NOW
    await scene.reconciler.reconcile()
    assert scene.live.keys() == {"a", "b", "d"}
    assert scene.newest.version == 2
    assert scene.versions.state.policy == scene.versions.plan.policy
    assert (await scene.pull("first", *LASTING[:9], a=-9, b=-9, c=-9, d=2)).outcome is Outcome.PUBLISHED
    assert {"a", "b", "c", "d"} & scene.live.keys() == {"d"}
    assert scene.versions.state.withheld == {ENDED: 3}
    assert scene.next_expiry == NOW + 2 * DAY


async def test_a_damaged_snapshot_is_made_again_as_of_the_last_evaluation(scene: Scene) -> None:
    await scene.pull("first", *LASTING, a=1, b=2)
    await scene.at(1)
    scene.now = NOW + 3 * DAY
    digest, content = scene.newest.sha256, scene.versions.live
    for path in (scene.versions.store.sealed.path(digest), scene.versions.store.sealed.path(str(scene.newest.delta))):  # type: ignore[arg-type]
        path.unlink()
    assert digest in rebuild(scene.versions.store, LIST, [digest], {})["rebuilt"]
    assert scene.versions.live == content


@pytest.mark.parametrize(
    ("names", "withheld"),
    [((*LASTING[1:], "added.example"), {ADDITIONS: 1}), (LASTING, {})],
    ids=["the version was made since", "the version was made before"],
)
async def test_a_damaged_snapshot_is_made_again_while_additions_are_stopped(
    scene: Scene, names: tuple[str, ...], withheld: dict[str, int]
) -> None:
    await scene.pull("first", *LASTING[:95])
    await scene.pull("first", *LASTING)
    await scene.configure(additions=False)
    await scene.pull("first", *names)
    assert scene.versions.state.withheld == withheld
    digest, content = scene.newest.sha256, scene.versions.live
    for path in (scene.versions.store.sealed.path(digest), scene.versions.store.sealed.path(str(scene.newest.delta))):  # type: ignore[arg-type]
        path.unlink()
    assert digest in rebuild(scene.versions.store, LIST, [digest], {})["rebuilt"]
    assert scene.versions.live == content
