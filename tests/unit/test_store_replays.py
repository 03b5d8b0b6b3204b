"""What is remembered of accepted bodies: times, sequence numbers and signatures, for each key."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from blocklistd.model import IntakeReport, KeyHistory, Sha256, SourceId
from blocklistd.store.distrust import Restored, restore_offer
from blocklistd.store.pulls import SourceState, accept_body, source_state
from blocklistd.store.replays import advanced, histories_for, superseded
from tests.versions_of import Versions

HOTLINE = SourceId("hotline")
OLD, NEW, HERE, THERE = (Sha256(name * 64) for name in "abcd")


def said(name: str, signed_at: int | None, key: Sha256 | None = None) -> IntakeReport:
    signature = Sha256(name * 64)
    return IntakeReport(Sha256("0" * 64), Sha256("1" * 64), 1, 1, {}, {}, {}, 0, signature, signed_at, key)


def numbered(sequence: int, key: Sha256 | None = None) -> IntakeReport:
    return IntakeReport(Sha256("0" * 64), Sha256("1" * 64), 1, 1, {}, {}, {}, key=key, sequence=sequence)


def remembered(folder: Path, *reports: IntakeReport, keys: tuple[Sha256, ...] = ()) -> tuple[SourceState, list[Sha256]]:
    versions = Versions(folder)
    with versions.database.write() as connection:
        for report in reports:
            accept_body(connection, HOTLINE, report, "", keys=keys)
        found = source_state(connection, HOTLINE), superseded(connection, HOTLINE)
    versions.close()
    return found


def test_a_key_that_is_no_longer_configured_is_forgotten(tmp_path: Path) -> None:
    state, before = remembered(tmp_path, said("c", None, OLD), said("d", 10**10, OLD), said("e", 5, NEW))
    assert (state.signature, state.histories, before) == ("e" * 64, (KeyHistory(NEW, 5),), [])


def test_a_new_key_without_signed_times_has_no_signed_time(tmp_path: Path) -> None:
    state, before = remembered(tmp_path, said("d", 10**10, OLD), said("e", None, NEW), said("f", None, NEW))
    assert (state.histories, before) == ((KeyHistory(NEW),), ["e" * 64])


def test_signatures_of_the_same_key_are_remembered(tmp_path: Path) -> None:
    state, before = remembered(tmp_path, said("d", 7, OLD), said("e", None, OLD))
    assert (state.histories, before) == ((KeyHistory(OLD, 7),), ["d" * 64])


def test_with_two_keys_each_has_its_own_time(tmp_path: Path) -> None:
    reports = (said("c", 5, OLD), said("d", 9, NEW), said("e", 10, OLD), said("f", 10, OLD), said("0", 11, NEW))
    state, before = remembered(tmp_path, *reports, keys=(OLD, NEW))
    assert state.histories == (KeyHistory(OLD, 10), KeyHistory(NEW, 11))
    assert set(before) == {"e" * 64, "f" * 64}, "the time of the own key excludes the others"


def test_a_later_keys_time_does_not_make_a_signature_forgotten(tmp_path: Path) -> None:
    """The later key may be removed, and its time with it."""
    state, before = remembered(tmp_path, said("c", 5, OLD), said("d", 9, NEW), keys=(OLD, NEW))
    assert (state.histories, before) == ((KeyHistory(OLD, 5), KeyHistory(NEW, 9)), ["c" * 64])


def test_signatures_recorded_by_an_earlier_version_still_count(tmp_path: Path) -> None:
    """Version 0.2 recorded no key. Its signatures count for any key, so that no replay is accepted after an upgrade."""
    state, before = remembered(tmp_path, said("d", None), said("e", 7), said("f", 9, OLD))
    assert (state.histories, before) == ((KeyHistory(OLD, 9),), ["d" * 64])
    state, before = remembered(tmp_path / "other", said("e", 7), said("f", None, OLD))
    assert (state.histories, before) == ((KeyHistory(OLD, 7),), ["e" * 64])
    assert histories_for([KeyHistory(None, 7)], (NEW,), None) == (KeyHistory(None, 7),)


def test_a_sequence_number_belongs_to_a_key_and_a_url() -> None:
    first = advanced((), numbered(7, OLD), (OLD, NEW), HERE)
    assert first == (KeyHistory(OLD, None, 7, HERE),)
    assert histories_for(first, (OLD, NEW), HERE) == first
    assert histories_for(first, (OLD, NEW), THERE) == (KeyHistory(OLD),)
    assert histories_for(first, (NEW,), HERE) == ()
    assert advanced(first, numbered(8, NEW), (OLD, NEW), HERE) == (*first, KeyHistory(NEW, None, 8, HERE))
    assert advanced((), numbered(8), (), HERE) == (KeyHistory(None, None, 8, HERE),)


def test_an_unsigned_body_changes_nothing(tmp_path: Path) -> None:
    unsigned = IntakeReport(Sha256("0" * 64), Sha256("1" * 64), 1, 1, {}, {}, {}, key=OLD)
    state, before = remembered(tmp_path, said("d", 7, OLD), unsigned)
    assert (state.signature, state.histories, before) == ("d" * 64, (KeyHistory(OLD, 7),), [])


def test_a_restored_body_keeps_what_is_known_of_other_keys(tmp_path: Path) -> None:
    """The restored signature is the newest again, so that the next body can supersede it."""
    keys, versions = (OLD, NEW, HERE), Versions(tmp_path)
    restored = Restored(NEW, "2026-11-20T00:00:00Z", "2026-11-19T00:00:00Z")
    now = datetime(2026, 11, 21, tzinfo=UTC)
    with versions.database.write() as connection:
        for report in (said("c", 5, HERE), said("d", 7, OLD), said("e", 9, NEW)):
            accept_body(connection, HOTLINE, report, "", keys=keys)
        restore_offer(connection, HOTLINE, said("d", 7, OLD), "", restored, now, keys=(OLD, HERE))
        state, before = source_state(connection, HOTLINE), superseded(connection, HOTLINE)
        assert state.histories == (KeyHistory(HERE, 5), KeyHistory(OLD, 7)), "the times of a stolen key say nothing"
        assert (state.signature, before) == ("d" * 64, ["c" * 64])
        accept_body(connection, HOTLINE, said("f", 11, THERE), "", keys=(*keys, THERE))
        assert set(superseded(connection, HOTLINE)) == {"c" * 64, "d" * 64}
    versions.close()
