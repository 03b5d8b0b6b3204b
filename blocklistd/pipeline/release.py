"""From a Change to a released version: the second half of the pipeline (pipeline/pull.py).

    Change → settle (compose → guard → version: one job) → sign → publish

Each pull calls `offer_to_all`. What a person decides is in pipeline/decide.py, what follows from a start or a reload
in pipeline/reconcile.py. Each list has a lock: the changes of one list are settled one after another, independently of
other lists.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.errors import BlocklistError
from blocklistd.events import Event
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.model import Act, Candidate, CandidateId, Change, ChangeKind, ListId, Outcome, Sha256, SourceId, Version
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.rebuild import rebuild
from blocklistd.pipeline.receive import SourcePlan
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.settle import ListPlan, Settled, Settlement, digests_of, job_settle
from blocklistd.pipeline.situation import Situation
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.store import candidates
from blocklistd.store.asserted import bases
from blocklistd.store.lists import list_state
from blocklistd.store.pulls import record_decision, take_the_place

log: Final = logging.getLogger(__name__)

Render = Callable[[ListId], Coroutine[Any, Any, None]]
"""Makes, in the background, the renderings of a list's live version."""


@dataclass(frozen=True, slots=True)
class Result:
    """Outcome of offering a source to its lists, or to one of them."""

    outcome: Outcome
    reason: str | None = None
    candidate: CandidateId | None = None


class Releases:
    """Settles the changes of all lists. `sources` and `lists` are those of the newest `configure`."""

    def __init__(self, resources: Resources, publisher: Publisher, zones: ZonePublisher, render: Render) -> None:
        self.sources: dict[SourceId, SourcePlan] = {}
        self.lists: dict[ListId, ListPlan] = {}
        self.locks: defaultdict[ListId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._store = resources.store
        self._database = resources.database
        self._jobs = resources.jobs
        self._verified = resources.verified
        self._clock = resources.clock
        self._telemetry = resources.telemetry
        self._publisher = publisher
        self._zones = zones
        self._render = render
        self.tasks: set[asyncio.Future[None]] = set()

    def configure(self, lists: dict[ListId, ListPlan], sources: dict[SourceId, SourcePlan]) -> None:
        """From now on, at a start or a reload. A change that is being settled ends as it began."""
        self.lists, self.sources = lists, sources

    # -- compose, guard, release -----------------------------------------------------------------------------------

    async def offer_to_all(self, plan: SourcePlan) -> Result:
        """Offers the source's entries to each of its lists. Returns the result that most needs attention."""
        if plan.quarantine:
            return Result(Outcome.UNCHANGED, "in quarantine: it contributes to no list")
        # a reload may have taken a list away since the pull began
        results = await asyncio.gather(
            *(self._offer_or_fail(name, plan.id) for name in plan.lists if name in self.lists)
        )
        order = [Outcome.FAILED, Outcome.HELD, Outcome.PUBLISHED, Outcome.UNCHANGED]
        return min(results, key=lambda result: order.index(result.outcome), default=Result(Outcome.UNCHANGED))

    async def _offer_or_fail(self, list_id: ListId, source: SourceId) -> Result:
        """One list's trouble does not keep the source from the others."""
        try:
            return await self.offer(list_id, source)
        except BlocklistError as error:
            return Result(Outcome.FAILED, f"list {list_id}: {error}")

    async def offer(self, list_id: ListId, source: SourceId) -> Result:
        """Composes the source's current offer into the list, unless the live version already has it."""
        async with self.settling(list_id):
            plan = self.lists.get(list_id)
            if plan is None:
                return Result(Outcome.UNCHANGED)
            await self.mend(plan)
            situation = await self._database.reading(lambda connection: self.situation(connection, plan))
            change = situation.offered(source)
            if change is None:
                return Result(Outcome.UNCHANGED, f"list {list_id} does not take this source yet")
            if situation.awaited(source):
                # else the first source to answer makes version 1, and the others are changes large enough to be held
                names = ", ".join(situation.awaited(source))
                return Result(Outcome.UNCHANGED, f"list {list_id} waits for the first pull of {names}")
            return await self.settle(plan, situation, change)

    async def settle(self, plan: ListPlan, situation: Situation, change: Change, *, hold_all: bool = False) -> Result:
        """Settles the change: unchanged, held, rejected before, or released and published. The caller has the list's
        lock. `hold_all`: judge the held change again, and release nothing."""
        state = situation.state
        if state.is_composed_from(change):
            await self.no_longer_held(plan.id, change)
            await self._publish(plan.id, state.version)  # where signing or a zone failed after the version was made
            return Result(Outcome.UNCHANGED)
        if (refused := situation.rejected(change)) is not None:
            return await self._refused(plan.id, change, refused)
        held = situation.held(change)
        same_body = held is not None and _body(held.change) == _body(change)
        if held is not None and same_body and not hold_all and held.comes_from(change, state.version):
            return Result(Outcome.HELD, _reasons(held), held.id)
        settled = await self.run(plan, situation, change, held=held, hold_all=hold_all)
        if settled.rejected is not None:
            return await self._refused(plan.id, change, settled.rejected)
        if settled.candidate is not None:
            return await self.hold(settled.candidate, held)
        await self.no_longer_held(plan.id, change)
        outcome = Outcome.PUBLISHED if settled.made else Outcome.UNCHANGED
        if held is not None:
            await self.no_longer_held(plan.id, held.change)  # of a first version any cause's candidate
            await self._database.writing(lambda connection: record_decision(connection, held, outcome, None))
        await self.publish_made(plan, settled, "auto")
        return Result(outcome)

    async def run(
        self,
        plan: ListPlan,
        situation: Situation,
        change: Change,
        *,
        held: Candidate | None = None,
        hold_all: bool = False,
        approved: Candidate | None = None,
        act: Act | None = None,
    ) -> Settled:
        """Runs the job `settle`. It gets the known fingerprints of the files that it reads, and answers those of the
        files that it verified or wrote."""
        read = digests_of(situation.state, change, [approved.delta, approved.snapshot] if approved else [])
        read += await asyncio.to_thread(bases, self._store.sealed, [digest for digest in read if digest])
        wanted = Settlement(
            plan=plan,
            change=change,
            candidate=CandidateId(f"c-{secrets.token_hex(6)}"),
            now=self._clock(),
            fingerprints=self._verified.of(read),
            approved=approved,
            act=act,
            held=held,
            hold_all=hold_all,
            compare=bool(situation.cases or situation.refusals),
        )
        with self._telemetry.time_stage("commit", plan.id):
            answer = await self._jobs.run(job_settle, self._store, wanted, limits=COMMIT)
        await asyncio.to_thread(self._database.keep_head)  # of the line that the job has written
        settled = Settled.from_json(answer)
        self._verified.learn(settled.verified)
        return settled

    async def publish_made(self, plan: ListPlan, settled: Settled, released_by: str) -> None:
        """Publishes the new version.

        Where there is none, the live one is published if it is not served yet: a job that was taken for dead, since its
        server had died, may have gone on and released it.
        """
        if settled.made is None:
            live = (await self._database.reading(lambda connection: list_state(connection, plan.id))).version
            if live:
                await self._publish(plan.id, live)
            return
        for figure in ("added", "removed", "changed"):
            self._telemetry.record_amount(figure, plan.id, getattr(settled, figure))
        await self._publish(plan.id, settled.made, new=True)
        made = self._publisher.served(plan.id, settled.made)
        Event.VERSION_LIVE.log(
            log,
            list=plan.id,
            version=settled.made,
            added=made and made.added,
            removed=made and made.removed,
            changed=made and made.changed,
            entries=made and made.entries,
            released_by=released_by,
        )

    @asynccontextmanager
    async def settling(self, list_id: ListId) -> AsyncIterator[None]:
        """Holds the list's lock. The sweep removes no file that is sealed in this block."""
        async with self.locks[list_id]:
            with self._verified.sealing():
                yield

    async def hold(
        self, candidate: Candidate, held: Candidate | None, also: Callable[[Connection], None] | None = None
    ) -> Result:
        """Records a held candidate, and what `also` records, in one transaction. If its delta is held already, that
        candidate keeps its id and its decisions."""
        if held is not None and held.id == candidate.id:
            if held != candidate:
                await self._database.writing(lambda connection: candidates.renew(connection, candidate))
            return Result(Outcome.HELD, _reasons(candidate), candidate.id)

        def record(connection: Connection) -> None:
            if also is not None:
                also(connection)
            candidates.hold(connection, candidate)
            take_the_place(connection, candidate, _reasons(candidate))

        await self._database.writing(record)
        for reason in candidate.reasons:
            self._telemetry.record_guard(candidate.list, reason.guard)
        Event.CANDIDATE_HELD.log(log, list=candidate.list, candidate=candidate.id, reason=_reasons(candidate))
        return Result(Outcome.HELD, _reasons(candidate), candidate.id)

    async def _refused(self, list_id: ListId, change: Change, refused: CandidateId) -> Result:
        await self.no_longer_held(list_id, change)
        what = "the entries of the source change" if change.kind == ChangeKind.SOURCE else "its configuration changes"
        return Result(
            Outcome.FAILED,
            f"candidate {refused} with this content was rejected; list {list_id} keeps its last good version until "
            f"{what}",
            refused,
        )

    async def no_longer_held(self, list_id: ListId, change: Change) -> None:
        now = self._clock()
        await self._database.writing(
            lambda connection: candidates.supersede(connection, list_id, change.kind, change.cause, now)
        )

    async def _publish(self, list_id: ListId, version: Version, *, new: bool = False) -> None:
        """Signs and serves a version that is in the store, starts its renderings, and brings its zones to it. A version
        that was just made may be served already, where the list was signed again meanwhile."""
        is_served = self._publisher.serves(list_id, version)
        if not is_served:
            await self._publisher.publish(list_id)
        if new or not is_served:
            self._telemetry.record_release(list_id)
            self.in_background(self._render(list_id))
        await self._zones.advance(list_id, version)

    # -- damage ----------------------------------------------------------------------------------------------------

    async def mend(self, plan: ListPlan, damaged: Collection[Sha256] = ()) -> None:
        """Verifies the live snapshot, and makes it and the files in `damaged` again where they are damaged. The caller
        has the list's lock."""
        live = (await self._database.reading(lambda connection: list_state(connection, plan.id))).live
        broken = set(damaged)
        if live is not None and not await asyncio.to_thread(self._verified.check, live.sha256):
            broken.add(live.sha256)
            if plan.id not in self._publisher.damaged:
                self._publisher.damaged.add(plan.id)
                Event.VERSION_DAMAGED.log(log, list=plan.id, version=live.version)
        if broken:
            answer = await self._jobs.run(
                rebuild, self._store, plan.id, sorted(broken), self._verified.fingerprints, limits=COMMIT
            )
            self._verified.learn(answer["verified"])
            broken = {digest for digest in broken if not await asyncio.to_thread(self._verified.check, digest)}
            if answer["rebuilt"]:
                Event.VERSION_REPAIRED.log(log, list=plan.id, files=answer["rebuilt"])
            if answer["lost"]:
                Event.DELTAS_LOST.log(log, list=plan.id, versions=answer["lost"])
        if live is None or live.sha256 not in broken:
            self._publisher.damaged.discard(plan.id)
        else:
            Event.VERSION_NOT_REPAIRED.log(log, list=plan.id, version=live.version)

    async def serve(self, plan: ListPlan, damaged: Collection[Sha256] = ()) -> None:
        """Serves the live version, after a start or a reload. Makes the files in `damaged` again first.

        Raises StoreError.
        """
        async with self.settling(plan.id):
            await self.mend(plan, damaged)
            await self._publisher.publish(plan.id)
        self.in_background(self._render(plan.id))

    def situation(self, connection: Connection, plan: ListPlan) -> Situation:
        return Situation.read(connection, plan, {name: source.settings for name, source in self.sources.items()})

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def _body(change: Change) -> tuple[int, int]:
    return change.records, change.rejected


def _reasons(candidate: Candidate) -> str:
    return "; ".join(map(str, candidate.reasons))
