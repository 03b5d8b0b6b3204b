"""The pipeline between its stages: how commits and pulls that run at the same time affect each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from blocklistd.change import VersionInfo
from blocklistd.errors import RefusedError
from blocklistd.jobs.runner import Jobs
from blocklistd.limits import MAX_CONCURRENT_PULLS
from blocklistd.model import Act, ListId, Outcome, Sha256, SourceId, Validators, Version
from blocklistd.pipeline.decide import Decisions
from blocklistd.pipeline.list_context import ReleaseResult
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.pull import Pipeline
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.repair import Repair
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.sources.transports.transport import Request
from blocklistd.store import candidates
from blocklistd.store.pulls import accept_body, source_state
from blocklistd.telemetry import Telemetry
from tests.databases import remove_database
from tests.versions_of import LIST, NOW, Versions, report


class InlineJobs(Jobs):
    """Runs a job in this process. Its result goes through JSON, as that of a real job does."""

    def __init__(self) -> None:
        pass

    async def run(self, work: Callable[..., Any], *arguments: Any, limits: object) -> Any:
        return orjson.loads(orjson.dumps(work(*arguments)))


class NoPublisher(Publisher):
    """Signs nothing, and takes every version as served."""

    def __init__(self) -> None:
        self.damaged = set()

    def serves(self, list_id: ListId, version: Version) -> bool:
        return True

    def served(self, list_id: ListId, version: Version) -> VersionInfo | None:
        return None


class NoZones(ZonePublisher):
    """Updates no zones."""

    def __init__(self) -> None:
        pass

    async def advance(
        self,
        list_id: ListId | None = None,
        version: Version | None = None,
        served: Callable[[], None] = lambda: None,
    ) -> None:
        served()


def hotline(name: str, url: str = "file:/nowhere") -> SourcePlan:
    return SourcePlan(
        id=SourceId(name),
        request=lambda validators: Request(url=url, signature=None, timeout=1, max_bytes=1000),
        format="text",
        fields={},
        defaults={"type": "domain"},
        proof="none",
        keys=(),
        lists=(LIST,),
        quarantine=False,
    )


async def render_nothing(list_id: ListId) -> None:
    return None


def resources_of(versions: Versions, jobs: Jobs | None = None) -> Resources:
    store, database, verified = versions.store, versions.database, versions.verified
    return Resources(store, database, jobs or InlineJobs(), verified, lambda: NOW, Telemetry())


async def background_ended(releases: Releaser) -> None:
    """Waits for the tasks that a release has left."""
    while releases.tasks:
        await asyncio.gather(*releases.tasks)  # yields, so that the ended ones leave the set


def releases_of(versions: Versions, *sources: SourcePlan) -> Releaser:
    releases = Releaser(resources_of(versions), NoPublisher(), NoZones(), render_nothing)
    releases.configure({LIST: versions.plan}, {source.id: source for source in sources})
    return releases


def pipeline_of(versions: Versions, releases: Releaser, jobs: Jobs | None = None) -> Pipeline:
    resources = resources_of(versions, jobs)
    reconciler = Reconciler(releases, versions.database)
    repair = Repair(resources, releases, reconciler, NoZones())
    return Pipeline(resources, releases, reconciler, repair, lambda pull: None)


def decisions_of(versions: Versions, releases: Releaser) -> Decisions:
    return Decisions(releases, Reconciler(releases, versions.database), versions.database, lambda: NOW)


def store_offer(versions: Versions, source: SourcePlan, asserted: Sha256) -> None:
    """Stores the source's newest entries as a pull does."""
    with versions.database.write() as connection:
        accept_body(connection, source.id, report(asserted), source.settings)


async def test_a_commit_that_waited_for_the_lock_uses_the_newest_entries(tmp_path: Path) -> None:
    """A start commits the stored entries again. It must not undo a pull that had the lock first."""
    versions, source = Versions(tmp_path), hotline("hotline")
    assert source.request(Validators()).url
    releases = releases_of(versions, source)
    old, new = versions.seal(["a.example"]), versions.seal(["a.example", "b.example"])
    store_offer(versions, source, old)
    versions.publish(old)
    lock = releases.locks[LIST]
    async with lock:
        reconciler = asyncio.ensure_future(Reconciler(releases, versions.database).reconcile())
        while not lock._waiters:  # noqa: ASYNC110 - a lock has no event for who waits for it
            await asyncio.sleep(0)
        store_offer(versions, source, new)
        assert versions.publish(new) == 2
        live = versions.live
    await reconciler
    assert versions.live == live
    state = versions.state
    assert state.live is not None
    assert asdict(state.live)["version"] == 2
    versions.close()


async def test_a_pull_is_published_if_a_start_released_its_entries_first(tmp_path: Path) -> None:
    """A start commits the newest entries in the background; a pull may have stored these just before."""
    versions, source = Versions(tmp_path / "state"), hotline("hotline", f"file:{tmp_path}/list.txt")
    releases, jobs = releases_of(versions, source), Jobs()
    pipeline = pipeline_of(versions, releases, jobs)
    offer_to_lists = releases.offer_to_lists

    async def offer_after_the_start(plan: SourcePlan, act: Act | None = None) -> ReleaseResult:
        await Reconciler(releases, versions.database).reconcile()
        return await offer_to_lists(plan)

    releases.offer_to_lists = offer_after_the_start  # type: ignore[method-assign]
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
    held = versions.commit(versions.seal(["a.example"])).candidate
    assert held is not None
    with versions.database.write() as connection:
        candidates.hold(connection, held)
    releases.lists = {LIST: replace(versions.plan, sources=(SourceId("another"),))}
    with pytest.raises(RefusedError, match="no longer takes source hotline"):
        await decisions_of(versions, releases).approve(held.id, Act("candidate approve", "alice", 1000))
    with versions.database.read() as connection:
        assert candidates.case(connection, held.id).decisions == ()
    versions.close()


async def test_an_error_with_one_source_does_not_keep_the_others_from_being_offered(tmp_path: Path) -> None:
    versions, broken, other = Versions(tmp_path, "broken", "other"), hotline("broken"), hotline("other")
    releases = releases_of(versions, broken, other)
    for source, name in ((broken, "a.example"), (other, "b.example")):
        store_offer(versions, source, versions.seal([name]))
    versions.publish(versions.seal(["c.example"]), "other")
    offer = releases.offer

    async def fail_for_one(list_id: ListId, source: SourceId, act: Act | None = None) -> ReleaseResult:
        if source == broken.id:
            raise KeyError("listed.example")
        return await offer(list_id, source)

    releases.offer = fail_for_one  # type: ignore[method-assign]
    await Reconciler(releases, versions.database).reconcile()
    assert b"b.example" in versions.live
    versions.close()


async def test_a_pull_fails_if_the_database_is_missing(tmp_path: Path) -> None:
    versions, source = Versions(tmp_path), hotline("hotline")
    pipeline = pipeline_of(versions, releases_of(versions, source))
    versions.close()
    remove_database(versions.store)
    for act in (None, Act("source pull", "alice", 1000)):
        pull = await pipeline.pull(source.id, act)
        assert (pull.outcome, pull.versions) == (Outcome.FAILED, {})


async def test_a_pull_that_waited_uses_the_newest_configuration(tmp_path: Path) -> None:
    versions, source = Versions(tmp_path), hotline("hotline")
    releases = releases_of(versions, source)
    pipeline = pipeline_of(versions, releases)
    async with pipeline._source_locks[source.id]:
        waiting = asyncio.ensure_future(pipeline.pull(source.id))
        await asyncio.sleep(0)
        releases.sources = {}
    with pytest.raises(RefusedError, match="there is no such source"):
        await waiting
    versions.close()


async def test_work_on_one_source_does_not_wait_for_pulls_of_others(tmp_path: Path) -> None:
    versions, source = Versions(tmp_path), hotline("hotline")
    pipeline = pipeline_of(versions, releases_of(versions, source))
    async with AsyncExitStack() as pulls:
        for _ in range(MAX_CONCURRENT_PULLS):
            await pulls.enter_async_context(pipeline._slots)
        async with asyncio.timeout(30), pipeline.exclusive(source.id) as plan:
            assert plan is source
    versions.close()


async def test_a_version_is_served_if_its_job_was_reported_as_failed_and_released_it(tmp_path: Path) -> None:
    """The process that runs the jobs dies after a job has begun: the pull fails, and the job releases a version later.
    The next pull reads the list before that and commits after it. It changes nothing, but must publish the version.
    """
    versions, source = Versions(tmp_path), hotline("hotline")
    releases = releases_of(versions, source)
    new = versions.seal(["a.example", "b.example"])
    versions.publish(versions.seal(["a.example"]))
    store_offer(versions, source, new)
    run_commit, served = releases.run_commit, list[Version]()

    async def commit_after_the_other_job(*arguments: Any, **more: Any) -> Any:
        versions.publish(new)
        return await run_commit(*arguments, **more)

    async def publish(list_id: ListId, version: Version, *, new: bool = False) -> None:
        served.append(version)

    releases.run_commit = commit_after_the_other_job  # type: ignore[method-assign]
    releases._publish = publish  # type: ignore[method-assign]
    assert (await releases.offer(LIST, source.id)).outcome is Outcome.UNCHANGED
    assert served == [2]
    versions.close()


async def test_a_source_stops_saying_that_it_waits_once_the_other_one_was_pulled(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "state", "a", "b", "c")
    sources = [hotline(name, f"file:{tmp_path}/{name}.txt") for name in ("a", "b", "c")]
    releases, jobs = releases_of(versions, *sources), Jobs()
    pipeline = pipeline_of(versions, releases, jobs)

    def said(name: str) -> tuple[Outcome | None, str | None]:
        with versions.database.read() as connection:
            state = source_state(connection, SourceId(name))
        return state.outcome, state.reason

    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("a.example\n")
    await pipeline.pull(SourceId("a"))
    assert said("a") == (Outcome.UNCHANGED, "list national waits for the pull of b, c")
    await pipeline.pull(SourceId("b"))
    assert said("a") == said("b") == (Outcome.UNCHANGED, "list national waits for the pull of c")
    assert (await pipeline.pull(SourceId("c"))).outcome is Outcome.FAILED, "it has ended, too"
    assert said("a") == said("b") == (Outcome.PUBLISHED, None)
    assert versions.state.version == 1
    jobs.close()
    versions.close()


async def test_a_source_that_waited_names_the_candidate_of_a_held_first_version(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "state", "a", "b")
    versions.plan = replace(versions.plan, min_entries=5)
    sources = [hotline(name, f"file:{tmp_path}/{name}.txt") for name in ("a", "b")]
    releases, jobs = releases_of(versions, *sources), Jobs()
    pipeline = pipeline_of(versions, releases, jobs)
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("a.example\n")
        pull = await pipeline.pull(SourceId(name))
    assert pull.candidate is not None
    with versions.database.read() as connection:
        states = [source_state(connection, SourceId(name)) for name in ("a", "b")]
    assert [(one.outcome, one.candidate) for one in states] == [(Outcome.HELD, pull.candidate)] * 2
    jobs.close()
    versions.close()


async def test_sources_that_are_pulled_at_once_make_one_first_version_after_failed_pulls(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "state", "a", "b", "c")
    sources = [hotline(name, f"file:{tmp_path}/{name}.txt") for name in ("a", "b", "c")]
    releases, jobs = releases_of(versions, *sources), Jobs()
    pipeline = pipeline_of(versions, releases, jobs)
    for source in sources:
        assert (await pipeline.pull(source.id)).outcome is Outcome.FAILED, "there is no file"
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"{name}.example\n")
    pulls = await asyncio.gather(*(pipeline.pull(source.id) for source in sources))
    assert pulls[2].outcome is Outcome.FAILED
    with versions.database.read() as connection:
        states = [source_state(connection, source.id) for source in sources[:2]]
    assert [(one.outcome, one.reason) for one in states] == [(Outcome.PUBLISHED, None)] * 2
    assert (versions.state.version, set(versions.state.accepted)) == (1, {"a", "b"})
    jobs.close()
    versions.close()
