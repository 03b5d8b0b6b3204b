"""The commit job of a list: which changes are held, approved, rejected and released."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from blocklistd.change import Candidate
from blocklistd.compose.guard import WINDOW, Figures, Hold, judge
from blocklistd.lines.delta import ENTRIES, parse, render
from blocklistd.model import AUTO, Act, Sha256, SourceId
from blocklistd.pipeline import suffixes
from blocklistd.pipeline.commit import CommitResult
from blocklistd.pipeline.list_context import ListContext
from blocklistd.pipeline.suffixes import count_suffixes, suffixes_of
from blocklistd.store import candidates
from blocklistd.store.automatic import changed_automatically
from blocklistd.store.candidates import Decision
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import NewVersion, release
from blocklistd.store.pulls import accept_body
from tests import churn
from tests.versions_of import LIST, NOW, Versions, report

NAMES = [f"n{number}.example" for number in range(1000)]


def test_entries_are_counted_by_their_last_label_and_names_of_one_label_under_the_root() -> None:
    values = {
        "domain": ["a.example", "b.c.example", "test", "example"],
        "url": ["https://a.example:8443/x", "http://192.0.2.1/x", "http://[2001:db8::1]:8080/", "http://localhost/"],
        "host": ["www.a.test"],
        "md5": ["0" * 32],
    }
    lines = [f'{{"type":"{kind}","value":"{value}"}}'.encode() for kind, all in values.items() for value in all]
    delta = render(ENTRIES, lines[::2], lines[1::2]).data
    found = count_suffixes(delta)
    assert found["added"] + found["removed"] == {"example": 3, ".": 3, "address": 2, "test": 1, "md5": 1}
    assert not found["changed"]


def test_added_removed_and_changed_entries_are_counted_separately(tmp_path: Path) -> None:
    """Also where a block would end between the two lines of a changed entry."""
    lines = [
        f'{{"type":"url","value":"https://a.{end}/{n}"}}'.encode() for end in ("test", "example") for n in range(99)
    ]
    removes = lines[:40] + [line[:-1] + b',"ref":"1"}' for line in lines[80:120]]
    adds = lines[120:150] + [line[:-1] + b',"ref":"2"}' for line in lines[80:120]]
    delta = render(ENTRIES, removes, adds).data
    for block in (1, 100, 333, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(suffixes, "_BLOCK", block)
            files = SealedFiles(tmp_path / f"{block}")
            files.prepare()
            with files.create() as draft:
                draft.write(delta)
            assert draft.sealed is not None
            assert suffixes_of(files, draft.sealed) == {
                "test": {"added": 0, "removed": 40, "changed": 19},
                "example": {"added": 30, "removed": 0, "changed": 21},
            }, block


def store_offer(versions: Versions, source: str, asserted: Sha256) -> None:
    """Stores the source's newest entries as a pull does."""
    with versions.database.write() as connection:
        accept_body(connection, SourceId(source), report(asserted), "settings")


def hold(versions: Versions, committed: CommitResult) -> Candidate:
    """Records the candidate that the guards hold, for a reviewer."""
    assert committed.candidate is not None
    assert committed.made is None
    candidate = committed.candidate
    with versions.database.write() as connection:
        candidates.hold(connection, candidate)
    return candidate


def approve(versions: Versions, candidate: Candidate) -> CommitResult:
    """Commits the candidate's change on the live version, as an approval does."""
    with versions.database.read() as connection:
        context = ListContext.read(connection, versions.plan, {})
    change = context.on_live_version(candidate.change)
    cause, entries = candidate.change.cause, change.sources[SourceId(candidate.change.cause)]
    assert versions.change(entries, cause).sources == change.sources
    return versions.commit(entries, cause, approved=candidate, act=Act("candidate approve", "alice", 1000))


def test_an_approval_releases_exactly_the_delta_that_the_reviewer_was_shown(tmp_path: Path) -> None:
    """Two sources assert the same names. The first removes half of them, which alters nothing, and adds more than the
    guards allow: it is held. Then the second removes the same half. Approving the first must not remove entries that
    the reviewer was not shown.
    """
    versions = Versions(tmp_path, "a", "b")
    both = versions.seal(NAMES)
    versions.publish(both, "a")
    versions.publish(both, "b")
    assert versions.state.version == 1
    held = hold(versions, versions.commit(versions.seal([*NAMES[500:], *(f"m{n}.example" for n in range(201))]), "a"))
    assert (held.added, held.removed) == (201, 0)
    assert versions.commit(versions.seal(NAMES[500:]), "b").unchanged
    live = versions.live
    again = approve(versions, held)
    assert again.candidate is not None
    assert (again.candidate.added, again.candidate.removed) == (201, 500)
    assert again.candidate.id != held.id
    assert {reason.guard for reason in again.candidate.reasons} == {"max_added", "max_removed"}
    assert (versions.state.version, versions.live) == (1, live)
    newer = hold(versions, again)
    released = approve(versions, newer)
    assert released.made == 2
    state = versions.state
    assert state.live is not None
    assert state.live.delta == newer.delta, "the version's delta has the bytes that the reviewer was shown"
    removed, added = parse(ENTRIES, versions.diff(1, 2))
    assert (len(removed), len(added)) == (500, 201)
    versions.close()


def test_an_approval_on_a_newer_version_releases_the_same_delta(tmp_path: Path) -> None:
    versions = Versions(tmp_path, "a", "b")
    versions.publish(versions.seal(NAMES), "a")
    held = hold(versions, versions.commit(versions.seal(NAMES[500:]), "a"))
    versions.publish(versions.seal(["another.example"]), "b")
    released = approve(versions, held)
    assert released.made == 3
    state = versions.state
    assert state.live is not None
    assert (state.live.delta, state.live.entries) == (held.delta, 501)
    versions.close()


def test_a_delta_stays_rejected_however_the_entries_of_its_source_are_stored(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    versions.publish(versions.seal(NAMES))
    held = hold(versions, versions.commit(versions.seal(NAMES[500:])))
    with versions.database.write() as connection:
        candidates.decide(connection, held.id, Decision(1000, "alice", NOW, approve=False), "a faulty list")
    assert versions.commit(versions.seal(NAMES[500:])).rejected == held.id
    patch = tmp_path / "patch"
    base = versions.state.accepted[SourceId("hotline")]
    removed = "".join(f'{{"remove":{{"type":"domain","value":"{name}"}}}}\n' for name in sorted(NAMES[:500]))
    patch.write_text(f'{{"base":"{base}"}}\n{removed}')
    stored_as_patch = versions.store.sealed.adopt(patch)
    assert stored_as_patch != held.change.sources[SourceId("hotline")]
    assert versions.commit(stored_as_patch).rejected == held.id
    versions.close()


def test_a_list_recovers_when_its_sources_repeat_entries_whose_files_were_lost(tmp_path: Path) -> None:
    """The same bytes are sealed under the same name, so nothing else has to be repaired."""
    versions = Versions(tmp_path, "one", "two")
    asserted = {"one": ["a.example", "b.example"], "two": ["c.example"]}
    for source, names in asserted.items():
        store_offer(versions, source, versions.seal(names))
        versions.publish(versions.seal(names), source)
    for accepted in versions.state.accepted.values():
        versions.store.sealed.path(accepted).unlink()
    for names in asserted.values():
        versions.seal(names)
    last = versions.seal(["c.example", "e.example"])
    store_offer(versions, "two", last)
    assert versions.commit(last, "two").made
    assert versions.live.count(b"\n") == 4
    versions.close()


def test_small_changes_are_held_when_their_sum_exceeds_the_daily_limit(tmp_path: Path) -> None:
    """Each half hour removes seven percent. Neither the first version nor approved changes count for the day."""
    versions = Versions(tmp_path)
    shrinking = [versions.seal(NAMES[70 * step :]) for step in range(5)]
    assert versions.commit(shrinking[0], now=NOW).made == 1
    assert versions.commit(shrinking[1], now=NOW + timedelta(minutes=30)).made == 2
    assert versions.commit(shrinking[2], now=NOW + timedelta(minutes=60)).made == 3
    held = hold(versions, versions.commit(shrinking[3], now=NOW + timedelta(minutes=90)))
    assert [str(reason) for reason in held.reasons] == [
        "daily.max_removed: 21.0% (210 of 1000 in 24 h), limit 20%",
    ]
    assert approve(versions, held).made == 4
    again = versions.commit(shrinking[4], now=NOW + timedelta(minutes=120)).candidate
    assert again is not None
    assert [str(reason) for reason in again.reasons] == [
        "daily.max_removed: 22.6% (210 of 930 in 24 h), limit 20%",
    ]
    assert versions.commit(shrinking[4], now=NOW + timedelta(hours=24, minutes=30)).made == 5
    versions.close()


def test_changes_up_to_min_change_pass_once_in_24_hours(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    assert versions.commit(versions.seal(NAMES[:40]), now=NOW).made == 1
    assert versions.commit(versions.seal(NAMES[6:40]), now=NOW).made == 2
    assert versions.commit(versions.seal(NAMES[10:40]), now=NOW).made == 3
    later = versions.seal(NAMES[20:40])
    for minutes, held in ((0, True), (24 * 60 - 1, True), (24 * 60, False)):
        assert (versions.commit(later, now=NOW + timedelta(minutes=minutes)).candidate is not None) is held
    versions.close()


def test_only_the_jumps_of_the_recorded_churn_are_held(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    change = versions.change(Sha256("0" * 64))
    held = set()
    for step in churn.published():
        state = versions.state
        with versions.database.write() as connection:
            automatic = changed_automatically(connection, LIST, step.time - WINDOW)
            live = state.live.entries if state.live else None
            figures = Figures(live, step.added, step.removed, step.entries, 0, *automatic)
            is_held = isinstance(judge(figures, versions.plan, release="auto"), Hold)
            if is_held:
                held.add(step.number)
            digest = Sha256(f"{step.number:064x}")
            new = NewVersion(digest, 1, digest, step.entries, step.added, step.removed, 0)
            act = Act("candidate approve", "alice", 1000) if is_held else AUTO
            release(
                connection,
                state,
                change,
                new,
                now=step.time,
                canonicaliser=1,
                act=act,
                candidate=None,
            )
    assert versions.state.version == churn.STEPS + 1
    assert held == churn.HELD
    versions.close()
