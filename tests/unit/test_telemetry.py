"""The stage that a command is at."""

from __future__ import annotations

import asyncio

from blocklistd.cli.stages import WORDS, line_of
from blocklistd.ops.metrics import STAGES
from blocklistd.telemetry import ActiveAlarms, Progress, Telemetry, track_progress


def test_every_stage_has_its_words() -> None:
    assert set(WORDS) == {stage for stages in STAGES.values() for stage in stages}
    for stage in WORDS:
        assert line_of(stage, "national") == WORDS[stage].format(subject="national")


async def test_a_stage_that_ends_beside_another_does_not_hide_it() -> None:
    telemetry, mine = Telemetry(), Progress()
    kept = asyncio.Event()

    async def keep() -> None:
        with telemetry.time_stage("store_body", "hotline"):
            await kept.wait()

    with track_progress(mine):
        keeping = asyncio.ensure_future(keep())
        await asyncio.sleep(0)
        with telemetry.time_stage("commit", "national"):
            kept.set()
            await keeping
            assert mine.stage == ("commit", "national")
    assert mine.stage is None


async def test_a_command_is_at_the_stage_that_began_last_also_in_a_task_of_its_own() -> None:
    telemetry, mine, other = Telemetry(), Progress(), Progress()
    seen: list[tuple[str, str] | None] = []

    async def commit() -> None:
        with telemetry.time_stage("commit", "national"), telemetry.time_stage("database", "write"):
            seen.append(mine.stage)

    with track_progress(mine):
        with telemetry.time_stage("intake", "hotline"):
            await asyncio.gather(commit())
            seen.append(mine.stage)
        seen.append(mine.stage)
    with telemetry.time_stage("sign", "national"):  # of nobody's command
        seen.append(mine.stage)
    assert seen == [("commit", "national"), ("intake", "hotline"), None, None]
    assert other.stage is None


def test_the_alarms_of_a_kind_are_replaced_together() -> None:
    alarms = ActiveAlarms()
    alarms.raise_alarm("guard_file", "a", "first")
    alarms.raise_alarm("clock", "", "another kind")
    alarms.set_all("guard_file", {"b": "second", "c": "third"})
    assert alarms.active() == {
        ("clock", ""): "another kind",
        ("guard_file", "b"): "second",
        ("guard_file", "c"): "third",
    }
    alarms.set_all("guard_file", {})
    assert alarms.texts() == ["another kind"]
