"""The job of a list: what is composed, held, approved and released; time lines of one store."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from blocklistd.compose.guard import WINDOW, Figures, Hold, judge
from blocklistd.lines.delta import ENTRIES, parse, render
from blocklistd.model import Act, Candidate, Sha256, SourceId
from blocklistd.pipeline import composing
from blocklistd.pipeline.composing import count_suffixes, suffixes_of
from blocklistd.pipeline.settle import Settled
from blocklistd.pipeline.situation import Situation
from blocklistd.store import candidates
from blocklistd.store.candidates import Decision
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import NewVersion, changed_without_a_person, release
from blocklistd.store.pulls import take_over
from tests import churn
from tests.versions_of import LIST, NOW, Versions, report

NAMES = [f"n{number}.example" for number in range(1000)]


def test_changes_are_counted_by_last_label_and_never_by_a_whole_name() -> None:
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


def test_what_is_added_removed_and_changed_is_counted_apart(tmp_path: Path) -> None:
    """Also where the two lines of a changed entry would come into two blocks."""
    lines = [
        f'{{"type":"url","value":"https://a.{end}/{n}"}}'.encode() for end in ("test", "example") for n in range(99)
    ]
    removes = lines[:40] + [line[:-1] + b',"ref":"1"}' for line in lines[80:120]]
    adds = lines[120:150] + [line[:-1] + b',"ref":"2"}' for line in lines[80:120]]
    delta = render(ENTRIES, removes, adds).data
    for block in (1, 100, 333, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(composing, "_BLOCK", block)
            files = SealedFiles(tmp_path / f"{block}")
            files.prepare()
            with files.create() as draft:
                draft.write(delta)
            assert draft.sealed is not None
            assert suffixes_of(files, draft.sealed) == {
                "test": {"added": 0, "removed": 40, "changed": 19},
                "example": {"added": 30, "removed": 0, "changed": 21},
            }, block


def newest(versions: Versions, source: str, asserted: Sha256) -> None:
    """The source's newest offer, as a pull leaves it."""
    with versions.database.write() as connection:
        take_over(connection, SourceId(source), report(asserted), "settings")


def hold(versions: Versions, settled: Settled) -> Candidate:
    """Puts what the guards hold before a reviewer."""
    assert settled.candidate is not None
    assert settled.made is None
    candidate = settled.candidate
    with versions.database.write() as connection:
        candidates.hold(connection, candidate)
    return candidate


def approve(versions: Versions, candidate: Candidate) -> Settled:
    """As a reviewer's approval does it: the candidate's change, on today's base."""
    with versions.database.read() as connection:
        situation = Situation.read(connection, versions.plan, {})
    change = situation.asked_again(candidate.change)
    cause, asked = candidate.change.cause, change.sources[SourceId(candidate.change.cause)]
    assert versions.change(asked, cause).sources == change.sources
    return versions.settle(asked, cause, approved=candidate, act=Act("candidate approve", "alice", 1000))


def test_an_approval_releases_the_delta_that_was_shown_and_nothing_else(tmp_path: Path) -> None:
    """Two sources assert the same names; one drops half of them and is held for what it adds; then the other drops the
    same half, which alters nothing. The approval must not remove what nobody saw."""
    versions = Versions(tmp_path, "a", "b")
    both = versions.seal(NAMES)
    versions.publish(both, "a")
    versions.publish(both, "b")
    assert versions.state.version == 1
    held = hold(versions, versions.settle(versions.seal([*NAMES[500:], *(f"m{n}.example" for n in range(201))]), "a"))
    assert (held.added, held.removed) == (201, 0)
    assert versions.settle(versions.seal(NAMES[500:]), "b").unchanged
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
    assert state.live.delta == newer.delta, "what was shown is, byte for byte, the version's delta"
    removes, adds = parse(ENTRIES, versions.diff(1, 2))
    assert (len(removes), len(adds)) == (500, 201)
    versions.close()


def test_an_approval_on_another_base_releases_the_same_delta(tmp_path: Path) -> None:
    versions = Versions(tmp_path, "a", "b")
    versions.publish(versions.seal(NAMES), "a")
    held = hold(versions, versions.settle(versions.seal(NAMES[500:]), "a"))
    versions.publish(versions.seal(["another.example"]), "b")
    released = approve(versions, held)
    assert released.made == 3
    state = versions.state
    assert state.live is not None
    assert (state.live.delta, state.live.entries) == (held.delta, 501)
    versions.close()


def test_a_rejected_delta_is_the_same_however_its_source_is_stored(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    versions.publish(versions.seal(NAMES))
    held = hold(versions, versions.settle(versions.seal(NAMES[500:])))
    with versions.database.write() as connection:
        candidates.decide(connection, held.id, Decision(1000, "alice", NOW, approve=False), "a faulty list")
    assert versions.settle(versions.seal(NAMES[500:])).rejected == held.id
    overlay = tmp_path / "overlay"
    base = versions.state.accepted[SourceId("hotline")]
    gone = "".join(f'{{"remove":{{"type":"domain","value":"{name}"}}}}\n' for name in sorted(NAMES[:500]))
    overlay.write_text(f'{{"base":"{base}"}}\n{gone}')
    stored_otherwise = versions.store.sealed.adopt(overlay)
    assert stored_otherwise != held.change.sources[SourceId("hotline")]
    assert versions.settle(stored_otherwise).rejected == held.id
    versions.close()


def test_what_two_sources_asserted_is_gone_and_each_says_it_again(tmp_path: Path) -> None:
    """The same bytes are sealed under the same name, so that nothing else has to be mended."""
    versions = Versions(tmp_path, "one", "two")
    said = {"one": ["a.example", "b.example"], "two": ["c.example"]}
    for source, names in said.items():
        newest(versions, source, versions.seal(names))
        versions.publish(versions.seal(names), source)
    for accepted in versions.state.accepted.values():
        versions.store.sealed.path(accepted).unlink()
    for names in said.values():
        versions.seal(names)
    last = versions.seal(["c.example", "e.example"])
    newest(versions, "two", last)
    assert versions.settle(last, "two").made
    assert versions.live.count(b"\n") == 4
    versions.close()


def test_small_steps_are_held_once_they_come_to_more_than_a_days_share(tmp_path: Path) -> None:
    """Seven percent go every half hour. The first version is no change; what a person released is not counted."""
    versions = Versions(tmp_path)
    gone = [versions.seal(NAMES[70 * step :]) for step in range(5)]
    assert versions.settle(gone[0], now=NOW).made == 1
    assert versions.settle(gone[1], now=NOW + timedelta(minutes=30)).made == 2
    assert versions.settle(gone[2], now=NOW + timedelta(minutes=60)).made == 3
    held = hold(versions, versions.settle(gone[3], now=NOW + timedelta(minutes=90)))
    assert [str(reason) for reason in held.reasons] == [
        "daily.max_removed: 21.0% (210 of 1000 in 24 h), limit 20%",
    ]
    assert approve(versions, held).made == 4
    again = versions.settle(gone[4], now=NOW + timedelta(minutes=120)).candidate
    assert again is not None
    assert [str(reason) for reason in again.reasons] == [
        "daily.max_removed: 22.6% (210 of 930 in 24 h), limit 20%",
    ]
    assert versions.settle(gone[4], now=NOW + timedelta(hours=24, minutes=30)).made == 5
    versions.close()


def test_min_change_is_granted_once_in_a_day(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    assert versions.settle(versions.seal(NAMES[:40]), now=NOW).made == 1
    assert versions.settle(versions.seal(NAMES[6:40]), now=NOW).made == 2
    assert versions.settle(versions.seal(NAMES[10:40]), now=NOW).made == 3
    later = versions.seal(NAMES[20:40])
    for minutes, held in ((0, True), (24 * 60 - 1, True), (24 * 60, False)):
        assert (versions.settle(later, now=NOW + timedelta(minutes=minutes)).candidate is not None) is held
    versions.close()


def test_the_recorded_jumps_are_held_and_nothing_else_with_each_of_them_approved(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    change = versions.change(Sha256("0" * 64))
    held = set()
    for step in churn.published():
        state = versions.state
        with versions.database.write() as connection:
            day = changed_without_a_person(connection, LIST, step.time - WINDOW)
            live = state.live.entries if state.live else None
            figures = Figures(live, step.added, step.removed, step.entries, 0, *day)
            is_held = isinstance(judge(figures, versions.plan, review=False), Hold)
            if is_held:
                held.add(step.number)
            digest = Sha256(f"{step.number:064x}")
            made = NewVersion(digest, 1, digest, step.entries, step.added, step.removed, 0)
            released_by = "alice" if is_held else "auto"
            release(
                connection,
                state,
                change,
                made,
                now=step.time,
                canonicaliser=1,
                released_by=released_by,
                candidate=None,
            )
    assert versions.state.version == churn.STEPS + 1
    assert held == churn.HELD
    versions.close()
