"""The pipeline between its stations: what one settling does to another that runs at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from blocklistd.jobs.runner import Jobs
from blocklistd.model import IntakeReport, ListId, Sha256, SourceId, Validators, Version
from blocklistd.pipeline import Pipeline
from blocklistd.publish import Publisher
from blocklistd.receive import SourcePlan
from blocklistd.sources.fetch import Request
from blocklistd.stations import Stations
from blocklistd.versions.pulls import take_over
from blocklistd.zoning import ZonePublisher
from tests.versions_of import LIST, NOW, Versions


class InlineJobs(Jobs):
    """Runs a job here and now; its answer goes through JSON as a real one's does."""

    def __init__(self) -> None:
        pass

    async def run(self, work: Callable[..., Any], *arguments: Any, limits: object) -> Any:
        return orjson.loads(orjson.dumps(work(*arguments)))


class NoPublisher(Publisher):
    def __init__(self) -> None:
        pass

    def serves(self, list_id: ListId, version: Version) -> bool:
        return True


class NoZones(ZonePublisher):
    def __init__(self) -> None:
        pass

    async def advance(self, list_id: ListId | None = None, version: Version | None = None) -> None:
        return None


def report(asserted: Sha256) -> IntakeReport:
    return IntakeReport(Sha256("0" * 64), asserted, 1, 1, {"domain": 1}, {}, {})


async def test_a_settling_that_waited_settles_what_was_said_meanwhile(tmp_path: Path) -> None:
    """At a start, what the source last said is settled again; a pull that comes first must not be undone by it."""
    versions = Versions(tmp_path)
    source = SourcePlan(
        id=SourceId("hotline"),
        request=lambda validators: Request(url="file:/nowhere", signature=None, timeout=1, max_bytes=1),
        format="text",
        fields={},
        defaults={"type": "domain"},
        key=None,
        lists=(LIST,),
        quarantine=False,
    )
    assert source.request(Validators()).url
    pipeline = Pipeline(
        versions.store,
        versions.database,
        InlineJobs(),
        NoPublisher(),
        lambda: NOW,
        lambda pull: None,
        NoZones(),
        Stations(),
    )
    pipeline.sources, pipeline.lists = {source.id: source}, {LIST: versions.plan}

    def say(asserted: Sha256) -> None:
        with versions.database.write() as connection:
            take_over(connection, source.id, report(asserted), source.settings)

    old, new = versions.seal(["a.example"]), versions.seal(["a.example", "b.example"])
    say(old)
    versions.publish(old)
    async with pipeline.naming:
        settling = asyncio.ensure_future(pipeline.reconcile())
        while not pipeline.naming._waiters:  # noqa: ASYNC110 - a lock has no event for who waits for it
            await asyncio.sleep(0)
        say(new)
        assert versions.publish(new) == 2
        live = versions.live
    await settling
    assert versions.live == live
    state = versions.state
    assert state.live is not None
    assert asdict(state.live)["version"] == 2
    versions.close()
