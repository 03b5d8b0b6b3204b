"""AlarmChecks about overdue sources: when they are raised, how often they are logged; and failed pulls at a start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from blocklistd.daemon.alarm_checks import AlarmChecks
from blocklistd.daemon.housekeeping import Housekeeping
from blocklistd.limits import CLAIM_ALARM_HOURS, CLAIM_DAYS
from blocklistd.model import IntakeReport, ListId, Outcome, SourceId
from blocklistd.ops.retried_tasks import RetriedTasks
from blocklistd.ops.scheduler import Scheduler
from blocklistd.pipeline.due_counts import DueCount
from blocklistd.serve.claims import Claims
from blocklistd.store import client_claims
from blocklistd.store.pulls import accept_body, record_pull
from blocklistd.telemetry import ActiveAlarms
from tests.unit.configuring import VALID, read
from tests.versions_of import NOW, Versions, report

HOTLINE = SourceId("hotline-a")
SECOND = timedelta(seconds=1)


class Recorded(Scheduler):
    """Runs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.pulls: dict[str, datetime | None] = {}
        self.looks: list[datetime] = []

    def schedule_pull(self, name: str, trigger: object, work: object, last: datetime | None, now: datetime) -> None:
        self.pulls[name] = last

    def run_once(self, name: str, when: datetime, work: Callable[[], Awaitable[object]]) -> None:
        self.looks.append(when)


class Scene:
    def __init__(self, folder: Path) -> None:
        self.versions = Versions(folder / "state")
        self.config = read(folder, VALID)
        self.max_age = self.config.sources[HOTLINE].max_age
        self.now = NOW
        self.active = ActiveAlarms()
        self.due: dict[ListId, DueCount] = {}
        self.scheduler = Recorded()

        def clock() -> datetime:
            return self.now

        store = self.versions.store
        self.claims = Claims(self.active, clock)
        found = SimpleNamespace(clock=clock, alarms=self.active, database=self.versions.database, store=store)
        found.claims = self.claims
        resources: Any = found
        checked: Any = clock
        checked.wrong = None
        trust: Any = SimpleNamespace(alarm=lambda now: None)
        nobody: Any = SimpleNamespace(pull=print, scrub=print, retain=print, sweep=print, check_database=print)
        nobody.sign = nobody.catch_up = nobody.check_names = nobody.count_due = print
        nobody.check_nodes = nobody.expire_receipts = nobody.send_receipts = print
        nobody.sample_disk = AsyncMock()
        self.alarms = AlarmChecks(
            resources, lambda: trust, checked, lambda: self.config, lambda connection: {}, lambda: self.due
        )
        self.housekeeping = Housekeeping(
            resources,
            self.scheduler,
            nobody,
            nobody,
            nobody,
            nobody,
            self.alarms,
            RetriedTasks(self.active),
            lambda: self.config,
            nobody.check_names,
            nobody.count_due,
            nobody.check_nodes,
            nobody.expire_receipts,
            nobody.send_receipts,
        )

    def pulled(self, outcome: Outcome, said: IntakeReport | None = None) -> None:
        times: Any = {"began": self.now, "ended": self.now, "report": said, "validators": None, "settings": ""}
        with self.versions.database.write() as connection:
            if said is not None:
                accept_body(connection, HOTLINE, said, "")
            record_pull(connection, HOTLINE, outcome=outcome, reason=None, candidate=None, **times)

    async def look(self) -> list[str]:
        await self.housekeeping.check_alarms()
        return self.active.texts()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.versions.close()


async def test_a_source_without_an_accepted_pull_is_overdue_after_max_age_and_logged_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await scene.look(), scene.alarms.next_check) == ([], None), "a first start"
    scene.pulled(Outcome.FAILED)
    assert (await scene.look(), scene.alarms.next_check) == ([], NOW + scene.max_age)
    assert len(scene.scheduler.looks) == 1, "looked for when it becomes true, not a minute later"
    scene.now += scene.max_age
    scene.pulled(Outcome.FAILED)
    assert await scene.look() == []
    scene.now += SECOND
    text = "source hotline-a is overdue: its newest list is older than max_age (2d): no pull was accepted yet: "
    text += "run `blocklistd source show hotline-a`"
    assert (await scene.look(), scene.alarms.next_check) == ([text], None)
    scene.pulled(Outcome.FAILED)
    assert await scene.look() == [text]
    assert caplog.text.count(text) == 1
    scene.pulled(Outcome.UNCHANGED)
    assert await scene.look() == []


async def test_the_alarm_of_an_old_body_is_logged_once_over_many_pulls(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    signed = int((NOW - scene.max_age - SECOND).timestamp())
    said = replace(report(scene.versions.seal(["a.example"])), signed_at=signed)
    for _ in range(3):
        scene.pulled(Outcome.UNCHANGED, said)
        (text,) = await scene.look()
        assert "its body was signed 2026-11-18T11:59:59Z" in text
        scene.now += timedelta(minutes=30)
    assert caplog.text.count("its newest list is older than max_age") == 1


@pytest.mark.parametrize(
    ("outcome", "last"),
    [(Outcome.FAILED, None), (Outcome.UNCHANGED, NOW), (Outcome.HELD, NOW), (Outcome.PUBLISHED, NOW)],
)
async def test_a_start_pulls_a_source_whose_last_pull_failed(
    scene: Scene, outcome: Outcome, last: datetime | None
) -> None:
    scene.pulled(outcome)
    await scene.housekeeping.schedule()
    assert scene.scheduler.pulls == {"pull hotline-a": last}
    await scene.housekeeping.schedule()
    assert scene.scheduler.pulls == {"pull hotline-a": NOW}, "a reload leaves it its time"
    assert scene.active.texts() == []


async def test_claims_of_clients_are_stored_and_their_alarms_end(scene: Scene) -> None:
    scene.claims.claim("isp", "list national", "isp has version 9", 4)
    await scene.look()
    assert scene.active.subjects("client_ahead") == {"list national"}
    with scene.versions.database.read() as connection:
        assert client_claims.load(connection) == scene.claims.rows
    scene.now += timedelta(hours=CLAIM_ALARM_HOURS)
    await scene.look()
    assert scene.active.subjects("client_ahead") == set()
    scene.now += timedelta(days=CLAIM_DAYS)
    await scene.look()
    with scene.versions.database.read() as connection:
        assert client_claims.load(connection) == []
