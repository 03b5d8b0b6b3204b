"""The state of a source: its signatures, the age of its offer, and since when its entries are the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blocklistd.model import IntakeReport, Outcome, Sha256, SourceId
from blocklistd.store.pulls import SourceState, accept_body, record_pull, source_state, superseded
from tests.versions_of import NOW, Versions

HOTLINE = SourceId("hotline")
OLD, NEW = Sha256("a" * 64), Sha256("b" * 64)
HOUR = timedelta(hours=1)


def said(name: str, signed_at: int | None, key: Sha256 | None = None) -> IntakeReport:
    signature = Sha256(name * 64)
    return IntakeReport(Sha256("0" * 64), Sha256("1" * 64), 1, 1, {}, {}, {}, 0, signature, signed_at, key)


def remembered(folder: Path, *reports: IntakeReport) -> tuple[SourceState, list[Sha256]]:
    versions = Versions(folder)
    with versions.database.write() as connection:
        for report in reports:
            accept_body(connection, HOTLINE, report, "")
        found = source_state(connection, HOTLINE), superseded(connection, HOTLINE)
    versions.close()
    return found


def test_a_new_key_forgets_the_signatures_of_the_old_key(tmp_path: Path) -> None:
    state, before = remembered(tmp_path, said("c", None, OLD), said("d", 10**10, OLD), said("e", 5, NEW))
    assert (state.signature, state.signed_at, before) == ("e" * 64, 5, [])
    assert state.is_of_key(NEW)
    assert not state.is_of_key(OLD)


def test_a_new_key_without_signed_times_has_no_signed_time(tmp_path: Path) -> None:
    state, before = remembered(tmp_path, said("d", 10**10, OLD), said("e", None, NEW), said("f", None, NEW))
    assert (state.signed_at, before) == (None, ["e" * 64])


def test_signatures_of_the_same_key_are_remembered(tmp_path: Path) -> None:
    state, before = remembered(tmp_path, said("d", 7, OLD), said("e", None, OLD))
    assert (state.signed_at, before) == (7, ["d" * 64])


def test_signatures_recorded_by_an_earlier_version_still_count(tmp_path: Path) -> None:
    """Version 0.2 recorded no key. Its signatures count for any key, so that no replay is accepted after an upgrade."""
    state, before = remembered(tmp_path, said("d", None), said("e", 7), said("f", 9, OLD))
    assert (state.signed_at, before) == (9, ["d" * 64])
    state, _ = remembered(tmp_path / "other", said("e", 7))
    assert state.is_of_key(OLD)
    assert state.is_of_key(NEW)


def accepted(age: timedelta, signed: timedelta | None) -> SourceState:
    signed_at = None if signed is None else int((NOW - signed).timestamp())
    return SourceState(HOTLINE, report=said("a", signed_at), last_accepted=NOW - age)


@pytest.mark.parametrize(
    ("age", "signed", "is_overdue"),
    [
        (timedelta(), None, False),
        (3 * HOUR, None, True),
        (timedelta(), 3 * HOUR, True),  # 304, or the same signed body, for ever
        (timedelta(), HOUR, False),
        (3 * HOUR, -HOUR, True),
        (2 * HOUR, 2 * HOUR, False),
    ],
)
def test_max_age_counts_from_the_signed_time_if_there_is_one(
    age: timedelta, signed: timedelta | None, is_overdue: bool
) -> None:
    assert accepted(age, signed).is_overdue(2 * HOUR, NOW) is is_overdue


def test_a_source_without_an_accepted_pull_is_overdue_max_age_after_its_first() -> None:
    """Not at once, or every first start would raise an alarm."""
    assert not SourceState(HOTLINE).is_overdue(2 * HOUR, NOW)
    for report in (None, said("a", int(NOW.timestamp()))):
        state = SourceState(HOTLINE, report=report, first_pull=NOW - 2 * HOUR)
        assert not state.is_overdue(2 * HOUR, NOW)
        assert state.is_overdue(2 * HOUR, NOW + timedelta(seconds=1))


def test_the_time_of_the_first_pull_is_kept_whatever_its_outcome(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    found: list[datetime | None] = []
    with versions.database.write() as connection:
        for hours, outcome in enumerate((Outcome.FAILED, Outcome.FAILED, Outcome.UNCHANGED)):
            now = NOW + hours * HOUR
            times: dict[str, Any] = {"began": now, "ended": now, "report": None, "validators": None, "settings": ""}
            record_pull(connection, HOTLINE, outcome=outcome, reason=None, candidate=None, **times)
            found.append(source_state(connection, HOTLINE).first_pull)
    versions.close()
    assert found == [NOW] * 3


def test_a_source_is_frozen_after_max_unchanged() -> None:
    state = accepted(timedelta(), None)
    assert not state.is_frozen(HOUR, NOW), "a report of an earlier version has no `since`"
    assert state.report is not None
    state = replace(state, report=replace(state.report, since="2026-11-20T00:00:00Z"))
    since = datetime(2026, 11, 20, tzinfo=UTC)
    assert state.unchanged_since == since
    assert not state.is_frozen(timedelta(days=7), since + timedelta(days=7))
    assert state.is_frozen(timedelta(days=7), since + timedelta(days=7, seconds=1))
    assert not state.is_frozen(None, since + timedelta(days=999)), "max_unchanged is off"


def test_a_failed_pull_does_not_make_a_source_look_fresh(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    with versions.database.write() as connection:
        record_pull(
            connection,
            HOTLINE,
            outcome=Outcome.FAILED,
            reason="no",
            candidate=None,
            began=NOW,
            ended=NOW,
            report=None,
            validators=None,
            settings="",
        )
        assert source_state(connection, HOTLINE).content_time is None
    versions.close()
