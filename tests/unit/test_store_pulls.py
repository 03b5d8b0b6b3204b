"""The state of a source: the age of its offer, and since when its entries are the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blocklistd.model import IntakeReport, Outcome, Sha256, SourceId
from blocklistd.store.pulls import SourceState, record_pull, source_state
from tests.versions_of import NOW, Versions

HOTLINE = SourceId("hotline")
HOUR = timedelta(hours=1)


def said(name: str, signed_at: int | None) -> IntakeReport:
    return IntakeReport(Sha256("0" * 64), Sha256("1" * 64), 1, 1, {}, {}, {}, 0, Sha256(name * 64), signed_at)


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


def test_a_body_is_expired_from_the_second_on_that_its_report_names() -> None:
    expires = int(NOW.timestamp()) + 60
    state = SourceState(HOTLINE, report=replace(said("a", None), expires=expires))
    assert not state.is_expired(NOW + timedelta(seconds=59))
    assert state.is_expired(NOW + timedelta(seconds=60))
    assert not replace(state, report=said("a", None)).is_expired(NOW + timedelta(days=999))
    assert not SourceState(HOTLINE).is_expired(NOW)
