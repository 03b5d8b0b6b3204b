"""The pipeline between its stages: what one settling does to another that runs at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from blocklistd.errors import RefusedError
from blocklistd.jobs.runner import Jobs
from blocklistd.model import Act, ListId, Outcome, Sha256, SourceId, Validators, Version, VersionInfo
from blocklistd.pipeline.decide import Decisions
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.pull import Pipeline
from blocklistd.pipeline.receive import SourcePlan
from blocklistd.pipeline.reconcile import Reconciling
from blocklistd.pipeline.release import Releases, Result
from blocklistd.pipeline.repair import Repair
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.sources.transports.transport import Request
from blocklistd.store import candidates
from blocklistd.store.pulls import take_over
from blocklistd.telemetry import Telemetry
from tests.versions_of import LIST, NOW, Versions, report


class InlineJobs(Jobs):
    """Runs a job here and now; its answer goes through JSON as a real one's does."""

    def __init__(self) -> None:
        pass

    async def run(self, work: Callable[..., Any], *arguments: Any, limits: object) -> Any:
        return orjson.loads(orjson.dumps(work(*arguments)))


class NoPublisher(Publisher):
    def __init__(self) -> None:
        self.damaged = set()

    def serves(self, list_id: ListId, version: Version) -> bool:
        return True

    def served(self, list_id: ListId, version: Version) -> VersionInfo | None:
        return None


class NoZones(ZonePublisher):
    def __init__(self) -> None:
        pass

    async def advance(self, list_id: ListId | None = None, version: Version | None = None) -> None:
        return None


def hotline(name: str, url: str = "file:/nowhere") -> SourcePlan:
    return SourcePlan(
        id=SourceId(name),
        request=lambda validators: Request(url=url, signature=None, timeout=1, max_bytes=1000),
        format="text",
        fields={},
        defaults={"type": "domain"},
        proof="none",
        key=None,
        lists=(LIST,),
        quarantine=False,
    )


async def render_nothing(list_id: ListId) -> None:
    return None


def resources_of(versions: Versions, jobs: Jobs | None = None) -> Resources:
    store, database, verified = versions.store, versions.database, versions.verified
    return Resources(store, database, jobs or InlineJobs(), verified, lambda: NOW, Telemetry())


def releases_of(versions: Versions, *sources: SourcePlan) -> Releases:
    releases = Releases(resources_of(versions), NoPublisher(), NoZones(), render_nothing)
    releases.configure({LIST: versions.plan}, {source.id: source for source in sources})
    return releases


def pipeline_of(versions: Versions, releases: Releases, jobs: Jobs | None = None) -> Pipeline:
    resources = resources_of(versions, jobs)
    again = Reconciling(releases, versions.database)
    repair = Repair(resources, releases, again, NoZones())
    return Pipeline(resources, releases, again, repair, lambda pull: None)


def decisions_of(versions: Versions, releases: Releases) -> Decisions:
    return Decisions(releases, Reconciling(releases, versions.database), versions.database, lambda: NOW)


def say(versions: Versions, source: SourcePlan, asserted: Sha256) -> None:
    with versions.database.write() as connection:
        take_over(connection, source.id, report(asserted), source.settings)


async def test_a_settling_that_waited_settles_what_was_said_meanwhile(tmp_path: Path) -> None:
    """At a start, what the source last said is settled again; a pull that comes first must not be undone by it."""
    versions, source = Versions(tmp_path), hotline("hotline")
    assert source.request(Validators()).url
    releases = releases_of(versions, source)
    old, new = versions.seal(["a.example"]), versions.seal(["a.example", "b.example"])
    say(versions, source, old)
    versions.publish(old)
    lock = releases.locks[LIST]
    async with lock:
        settling = asyncio.ensure_future(Reconciling(releases, versions.database).reconcile())
        while not lock._waiters:  # noqa: ASYNC110 - a lock has no event for who waits for it
            await asyncio.sleep(0)
        say(versions, source, new)
        assert versions.publish(new) == 2
        live = versions.live
    await settling
    assert versions.live == live
    state = versions.state
    assert state.live is not None
    assert asdict(state.live)["version"] == 2
    versions.close()


async def test_a_pull_whose_entries_a_start_released_first_has_published(tmp_path: Path) -> None:
    """What a start settles in the background is the source's newest offer, which a pull may just have brought."""
    versions, source = Versions(tmp_path / "state"), hotline("hotline", f"file:{tmp_path}/list.txt")
    releases, jobs = releases_of(versions, source), Jobs()
    pipeline = pipeline_of(versions, releases, jobs)
    offer_to_all = releases.offer_to_all

    async def offer_after_the_start(plan: SourcePlan) -> Result:
        await Reconciling(releases, versions.database).reconcile()
        return await offer_to_all(plan)

    releases.offer_to_all = offer_after_the_start  # type: ignore[method-assign]
    (tmp_path / "list.txt").write_text("a.example\n")
    pull = await pipeline.pull(source.id)
    assert (pull.outcome, pull.versions) == (Outcome.PUBLISHED, {LIST: 1})
    pipeline._clock = lambda: NOW + timedelta(minutes=1)
    (tmp_path / "list.txt").write_text("# as before\na.example\n")
    assert (await pipeline.pull(source.id)).outcome == Outcome.UNCHANGED
    jobs.close()
    versions.close()


async def test_an_approval_that_is_refused_is_not_recorded(tmp_path: Path) -> None:
    versions, source = Versions(tmp_path), hotline("hotline")
    releases = releases_of(versions, source)
    versions.publish(versions.seal([f"n{number}.example" for number in range(100)]))
    held = versions.settle(versions.seal(["a.example"])).candidate
    assert held is not None
    with versions.database.write() as connection:
        candidates.hold(connection, held)
    releases.lists = {LIST: replace(versions.plan, sources=(SourceId("another"),))}
    with pytest.raises(RefusedError, match="no longer takes source hotline"):
        await decisions_of(versions, releases).approve(held.id, Act("candidate approve", "alice", 1000))
    with versions.database.read() as connection:
        assert candidates.case(connection, held.id).decisions == ()
    versions.close()


async def test_a_source_that_can_not_be_settled_keeps_no_other_from_it(tmp_path: Path) -> None:
    versions, broken, other = Versions(tmp_path, "broken", "other"), hotline("broken"), hotline("other")
    releases = releases_of(versions, broken, other)
    for source, name in ((broken, "a.example"), (other, "b.example")):
        say(versions, source, versions.seal([name]))
    versions.publish(versions.seal(["c.example"]), "other")
    offer = releases.offer

    async def stumble(list_id: ListId, source: SourceId) -> Result:
        if source == broken.id:
            raise KeyError("listed.example")
        return await offer(list_id, source)

    releases.offer = stumble  # type: ignore[method-assign]
    await Reconciling(releases, versions.database).reconcile()
    assert b"b.example" in versions.live
    versions.close()


async def test_a_pull_whose_database_is_gone_has_failed(tmp_path: Path) -> None:
    versions, source = Versions(tmp_path), hotline("hotline")
    pipeline = pipeline_of(versions, releases_of(versions, source))
    versions.close()
    versions.store.database.unlink()
    for act in (None, Act("source pull", "alice", 1000)):
        pull = await pipeline.pull(source.id, act)
        assert (pull.outcome, pull.versions) == (Outcome.FAILED, {})


async def test_a_pull_that_waited_is_of_the_source_as_it_is_now(tmp_path: Path) -> None:
    versions, source = Versions(tmp_path), hotline("hotline")
    releases = releases_of(versions, source)
    pipeline = pipeline_of(versions, releases)
    async with pipeline._one_of[source.id]:
        waiting = asyncio.ensure_future(pipeline.pull(source.id))
        await asyncio.sleep(0)
        releases.sources = {}
    with pytest.raises(RefusedError, match="no such source"):
        await waiting
    versions.close()


async def test_a_version_of_a_job_that_was_taken_for_dead_is_served(tmp_path: Path) -> None:
    """The server of the jobs dies when the job has begun: the pull has failed, and the job goes on and releases. The
    next pull looks at the list before that, and settles after it: nothing is left to alter, and much to serve."""
    versions, source = Versions(tmp_path), hotline("hotline")
    releases = releases_of(versions, source)
    new = versions.seal(["a.example", "b.example"])
    versions.publish(versions.seal(["a.example"]))
    say(versions, source, new)
    run, served = releases.run, list[Version]()

    async def run_after_the_other(*arguments: Any, **more: Any) -> Any:
        versions.publish(new)
        return await run(*arguments, **more)

    async def publish(list_id: ListId, version: Version, *, new: bool = False) -> None:
        served.append(version)

    releases.run = run_after_the_other  # type: ignore[method-assign]
    releases._publish = publish  # type: ignore[method-assign]
    assert (await releases.offer(LIST, source.id)).outcome is Outcome.UNCHANGED
    assert served == [2]
    versions.close()
