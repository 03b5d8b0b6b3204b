"""What a command's work is at, as its caller is told."""

from __future__ import annotations

import asyncio

from blocklistd.cli.stages import WORDS, line_of
from blocklistd.ops.metrics import STATIONS
from blocklistd.telemetry import Progress, Stations, followed


def test_every_stage_has_its_words() -> None:
    assert set(WORDS) == {station for stations in STATIONS.values() for station in stations}
    for stage in WORDS:
        said = line_of(stage, "national")
        assert said.startswith(WORDS[stage])
        assert said.endswith(" national")


async def test_a_stage_that_ends_beside_another_does_not_hide_it() -> None:
    stations, mine = Stations(), Progress()
    kept = asyncio.Event()

    async def keep() -> None:
        with stations.timed("keep", "hotline"):
            await kept.wait()

    with followed(mine):
        keeping = asyncio.ensure_future(keep())
        await asyncio.sleep(0)
        with stations.timed("settle", "national"):
            kept.set()
            await keeping
            assert mine.stage == ("settle", "national")
    assert mine.stage is None


async def test_a_command_is_at_the_stage_that_began_last_also_in_a_task_of_its_own() -> None:
    stations, mine, other = Stations(), Progress(), Progress()
    seen: list[tuple[str, str] | None] = []

    async def settle() -> None:
        with stations.timed("settle", "national"), stations.timed("database", "write"):
            seen.append(mine.stage)

    with followed(mine):
        with stations.timed("intake", "hotline"):
            await asyncio.gather(settle())
            seen.append(mine.stage)
        seen.append(mine.stage)
    with stations.timed("sign", "national"):  # of nobody's command
        seen.append(mine.stage)
    assert seen == [("settle", "national"), ("intake", "hotline"), None, None]
    assert other.stage is None
