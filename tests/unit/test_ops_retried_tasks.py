"""A recurring task that fails raises an alarm, stops no other, and is tried again."""

from __future__ import annotations

import itertools

import pytest

from blocklistd.errors import StoreError
from blocklistd.ops.retried_tasks import LONGEST_PAUSE, RetriedTasks
from blocklistd.telemetry import ActiveAlarms


class Work:
    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


async def test_a_failed_task_is_an_alarm_until_it_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    alarms, work = ActiveAlarms(), Work(StoreError("the disk is full"))
    tasks = RetriedTasks(alarms)
    for _ in range(3):
        await tasks.do("sweep", work)
    assert alarms.texts() == ["the recurring task sweep failed: the disk is full: it is tried again"]
    assert caplog.text.count("the disk is full") == 1
    work.error = None
    await tasks.do("sweep", work)
    assert alarms.texts() == []
    calls = work.calls
    await tasks.again()
    assert work.calls == calls, "it is done"


async def test_a_failed_task_is_tried_again_with_growing_pauses() -> None:
    work = Work(StoreError("the disk is full"))
    tasks = RetriedTasks(ActiveAlarms())
    await tasks.do("scrub", work)
    turns = []
    for turn in range(1, 400):
        before = work.calls
        await tasks.again()
        if work.calls > before:
            turns.append(turn)
    assert turns[:5] == [1, 3, 7, 15, 31]
    assert {later - turn for turn, later in itertools.pairwise(turns[7:])} == {LONGEST_PAUSE + 1}
    work.error = None
    for _ in range(LONGEST_PAUSE + 1):
        await tasks.again()
    calls = work.calls
    await tasks.again()
    assert work.calls == calls


async def test_an_unexpected_error_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    alarms = ActiveAlarms()
    await RetriedTasks(alarms).do("scrub", Work(ValueError("https://listed.example/")))
    assert alarms.texts() == ["the recurring task scrub failed: ValueError: it is tried again"]
    assert "Traceback" in caplog.text
    assert "listed" not in caplog.text
