"""What is sent of alarms: the rows after each look, what the mail is, and a command that hangs or fails."""

from __future__ import annotations

import asyncio
import email
import email.policy
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.daemon import alarm_ways
from blocklistd.daemon.alarm_delivery import notice_of, reconcile, retry_after
from blocklistd.daemon.alarm_ways import DeliveryError, Notice, Program
from blocklistd.limits import ALARM_QUIET, ALARM_RETRY_MAX, MAX_ALARMS_SENT
from blocklistd.store.sent_alarms import AlarmKey, SentAlarm, load, save
from tests.versions_of import NOW, Versions

MINUTE = timedelta(minutes=1)
KEYS: list[AlarmKey] = [("clock", ""), ("source_overdue", "hotline-a")]
steps = st.lists(
    st.tuples(st.sets(st.sampled_from(KEYS)), st.sampled_from([True, True, False]), st.integers(0, 20)), max_size=40
)


@given(steps)
def test_messages_alternate_and_are_bounded(steps: list[tuple[set[AlarmKey], bool, int]]) -> None:
    """Whatever comes and goes and fails: raised and cleared alternate, no pair twice within ALARM_QUIET, and in the end
    people know the truth."""
    rows: dict[AlarmKey, SentAlarm] = {}
    sent: dict[AlarmKey, list[tuple[str, datetime]]] = {key: [] for key in KEYS}
    now = NOW
    calm: list[tuple[set[AlarmKey], bool, int]] = [(steps[-1][0] if steps else set(), True, 20)] * 3
    for active, works, minutes in [*steps, *calm]:
        now += minutes * MINUTE
        rows = reconcile(rows, dict.fromkeys(active, "a text"), now, complete=True)
        for key, row in list(rows.items()):
            if not row.is_pending:
                continue
            if not works:
                row.tries += 1
                continue
            notice = notice_of(key, row, "machine")
            sent[key].append((notice.state, now))
            state = "done" if notice.state == "cleared" else "raised"
            rows[key] = SentAlarm(row.raised, row.sent or now, state, text=row.text, seen=True)
    for key in KEYS:
        told = sent[key]
        raised = [time for state, time in told if state == "raised"]
        assert all(later - earlier >= ALARM_QUIET for earlier, later in pairwise(raised))
        states = [state for state, _ in told]
        assert ("raised", "raised") not in set(pairwise(states))
        assert (bool(states) and states[-1] == "raised") == (key in calm[0][0])


def test_after_a_start_nothing_is_over_before_every_check_has_run() -> None:
    before = {KEYS[0]: SentAlarm(NOW, NOW)}
    assert reconcile(before, {}, NOW, complete=False) == before
    assert reconcile(before, {}, NOW, complete=True)[KEYS[0]].state == "over"


def test_a_way_that_is_down_for_an_hour_is_tried_a_dozen_times_and_after_a_month_still() -> None:
    tries, waited = 1, retry_after(1)
    while waited < 3600:
        tries += 1
        waited += retry_after(tries)
    assert tries == 12
    assert waited < 3600 + ALARM_RETRY_MAX
    assert retry_after(5_000) == ALARM_RETRY_MAX, "a month of failures"


def test_the_number_of_alarms_is_bounded() -> None:
    active = {("candidate_waiting", str(number)): "text" for number in range(MAX_ALARMS_SENT + 10)}
    assert len(reconcile({}, active, NOW, complete=True)) == MAX_ALARMS_SENT


def test_the_rows_of_a_way_are_kept(tmp_path: Path) -> None:
    database = Versions(tmp_path / "state").database
    rows = {KEYS[0]: SentAlarm(NOW, None), KEYS[1]: SentAlarm(NOW, NOW, "over")}
    with database.write() as connection:
        save(connection, "webhook", rows)
        save(connection, "command", {})
    with database.read() as connection:
        assert load(connection, "webhook") == rows
        assert load(connection, "command") == {}


def test_the_mail_has_one_subject_line_and_no_addresses() -> None:
    notice = Notice("certificate", "feed\nBcc: x@mail.example", NOW, "läuft ab", "raised", "machine")
    made = email.message_from_bytes(notice.mail(), policy=email.policy.default)
    assert made["Subject"] == "[blocklistd machine] raised: certificate feed Bcc: x@mail.example"
    assert made["Bcc"] is made["To"] is None
    assert "läuft ab" in made.get_content()


@pytest.mark.parametrize(
    ("text", "reason"),
    [("exit 1", "ended with 1"), ("sleep 60", "did not end within"), ("kill -9 $$", "ended with -9")],
)
def test_a_command_that_fails_or_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str) -> None:
    monkeypatch.setattr(alarm_ways, "ALARM_TIMEOUT", 0.3)
    path = tmp_path / "command"
    path.write_text(f"#!/bin/sh\n{text}\n")
    notice = Notice("clock", "", NOW, "text", "raised", "machine")
    path.chmod(0o755)
    with pytest.raises(DeliveryError, match=reason):
        asyncio.run(Program((str(path),)).deliver(notice))
    path.unlink()
    with pytest.raises(DeliveryError, match="can't be run"):
        asyncio.run(Program((str(path),)).deliver(notice))
