"""Make versions from changes and publish them: the second half of the pipeline (pipeline/pull.py has the first).

    Change → commit (compose → guard → write the version: one job) → sign → publish

Callers: pulls (pull.py), approvals and rejections (decide.py), corrections (corrections.py), freezes and rollbacks
(freezing.py), kept entries (due.py), starts, reloads and expiries (reconcile.py), repairs (repair.py).

- `configure` comes first, at a start and at each reload. A commit that runs meanwhile keeps the plan it began with.
- Each list has a lock (`locked`), so its changes are committed one after another. Lists do not wait for each other.
- Under the lock: repair the live snapshot, read the list's context (list_context.py), commit, publish.
- The commit job writes the files and the row of a version (commit.py). The rows of held candidates are written here;
  a candidate ends as released, rejected or superseded (store/candidates.py).
- A version whose signing or publishing failed stays in the store. The next start, pull or reload publishes it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.change import Candidate, Change, Freeze
from blocklistd.errors import BlocklistError, RefusedError
from blocklistd.events import Event
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.model import Act, CandidateId, ListId, Outcome, Sha256, SourceId, Version
from blocklistd.pipeline.commit import CommitRequest, CommitResult, commit_job
from blocklistd.pipeline.first_versions import FirstVersions
from blocklistd.pipeline.list_context import ListContext, ReleaseResult, digests_to_read, most_urgent
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.rebuild import rebuild
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.store import candidates
from blocklistd.store.asserted import bases
from blocklistd.store.lists import list_state
from blocklistd.store.pulls import record_decision, replace_candidate_of_source

log: Final = logging.getLogger(__name__)

Render = Callable[[ListId], Coroutine[Any, Any, None]]
"""Writes the renderings of a list's live version (serve/http/renderings.py). It runs in the background."""


class Releaser:
    """Commits and publishes the changes of all lists. `sources` and `lists` are those of the newest `configure`."""

    def __init__(self, resources: Resources, publisher: Publisher, zones: ZonePublisher, render: Render) -> None:
        self.sources: dict[SourceId, SourcePlan] = {}
        self.lists: dict[ListId, ListPlan] = {}
        self.locks: defaultdict[ListId, asyncio.Lock] = defaultdict(asyncio.Lock)
        """For each list, the lock of its changes. `locked` takes it, and also protects new files from the sweep."""
        self.first_versions = FirstVersions()
        self.resources = resources
        self._database = resources.database
        self._verified = resources.verified
        self._telemetry = resources.telemetry
        self._publisher = publisher
        self._zones = zones
        self._render = render
        self.tasks: set[asyncio.Future[None]] = set()
        """The background tasks that run now."""

    def configure(self, lists: dict[ListId, ListPlan], sources: dict[SourceId, SourcePlan]) -> None:
        """Sets the plans of all lists and sources, at a start or a reload."""
        self.lists, self.sources = lists, sources

    def may_be_empty(self, plan: SourcePlan) -> bool:
        """Whether an empty body is allowed: every list of the source has `min_entries: 0`."""
        lists = [self.lists[name] for name in plan.lists if name in self.lists]
        return bool(lists) and all(list_plan.min_entries == 0 for list_plan in lists)

    # -- compose, guard, release -----------------------------------------------------------------------------------

    async def offer_to_lists(self, plan: SourcePlan, act: Act | None = None) -> ReleaseResult:
        """Offers the source's newest entries to each of its lists. Returns the most urgent result. `act`: the command
        that brings them; None: no person does."""
        if plan.quarantine:
            return ReleaseResult(Outcome.UNCHANGED, "in quarantine: it contributes to no list")
        # a reload may have removed a list since the pull began
        offers = (self.offer_or_fail(name, plan.id, act) for name in plan.lists if name in self.lists)
        return most_urgent(await asyncio.gather(*offers))

    async def offer_or_fail(self, list_id: ListId, source: SourceId, act: Act | None = None) -> ReleaseResult:
        """Offers to one list. A known error becomes the result, so that the other lists are not affected."""
        try:
            return await self.offer(list_id, source, act)
        except BlocklistError as error:
            return ReleaseResult(Outcome.FAILED, f"list {list_id}: {error}")

    async def offer(self, list_id: ListId, source: SourceId, act: Act | None = None) -> ReleaseResult:
        """Commits the source's newest entries (its offer) to a list, unless the live version was made with them.

        Raises BlocklistError where the commit job or publishing fails.
        """
        async with self.locked(list_id):
            plan = self.lists.get(list_id)
            if plan is None:
                return ReleaseResult(Outcome.UNCHANGED)
            await self.repair_snapshots(plan)
            context = await self._database.reading(lambda connection: self.context(connection, plan))
            change = context.offered_change(source)
            if context.state.live is None:
                act = self.first_versions.offer(list_id, act)
            if isinstance(change, ReleaseResult):
                return change
            result = await self.commit(plan, context, change.by(act))
            if result.outcome is Outcome.PUBLISHED and context.state.basis is not None:
                await self.commit_policy(plan, act)
            return result

    async def commit_policy(self, plan: ListPlan, act: Act | None = None) -> ReleaseResult | None:
        """Commits the policy of a list that has a version. None: nothing of it is to be applied. The caller holds the
        list's lock. Errors are those of `commit`.

        While a list is rolled back (Policy.with_names_of), a held candidate of its whole policy stays.
        """
        context = await self._database.reading(lambda connection: self.context(connection, plan))
        change = context.policy_change() if context.state.live is not None else None
        if change is None or (context.state.basis is not None and context.state.is_composed_from(change)):
            return None
        return await self.commit(plan, context, change.by(act))

    async def commit(
        self, plan: ListPlan, context: ListContext, change: Change, *, keep_held: bool = False
    ) -> ReleaseResult:
        """Commits a change and publishes the version that it makes. The caller holds the list's lock.

        Outcomes: UNCHANGED, HELD, FAILED (the same content was rejected before), PUBLISHED. `keep_held`: judge the held
        change again, but hold it in any case.

        Raises BlocklistError where the job or publishing fails.
        """
        change = context.with_actor(change)
        known = context.known_result(change, keep_held=keep_held)
        if known is not None:
            if known.outcome is not Outcome.HELD:
                await self._supersede(plan.id, change)
            if known.outcome is Outcome.UNCHANGED:
                await self._publish(plan.id, context.state.version)  # signing or a zone may have failed before
            return known
        held = context.held_candidate(change)
        committed = await self.run_commit(plan, context, change, held=held, keep_held=keep_held)
        if committed.rejected is not None:
            await self._supersede(plan.id, change)
            return ReleaseResult.rejected_before(plan.id, change, committed.rejected)
        if committed.candidate is not None:
            return await self.hold(committed.candidate, held)
        await self._supersede(plan.id, change)
        outcome = Outcome.PUBLISHED if committed.made else Outcome.UNCHANGED
        if held is not None:
            await self._supersede(plan.id, held.change)  # before a first version, `held` may have another cause
            await self._database.writing(lambda connection: record_decision(connection, held, outcome, None))
        await self.publish_committed(plan, committed, "auto")
        return ReleaseResult(outcome)

    async def run_commit(
        self,
        plan: ListPlan,
        context: ListContext,
        change: Change,
        *,
        held: Candidate | None = None,
        keep_held: bool = False,
        approved: Candidate | None = None,
        act: Act | None = None,
        freeze: Freeze | None = None,
        complete: Sha256 | None = None,
    ) -> CommitResult:
        """Runs the commit job on a change (CommitRequest has the parameters). The caller holds the list's lock.

        The job gets the known fingerprints of the files that it reads. It returns the fingerprints of the files that it
        verified or wrote. Raises BlocklistError where it fails.
        """
        request = CommitRequest(
            plan=plan,
            change=change,
            candidate=CandidateId(f"c-{secrets.token_hex(6)}"),
            now=self.resources.clock(),
            fingerprints=await self.known_fingerprints(
                context, change, [approved.delta, approved.snapshot] if approved else []
            ),
            approved=approved,
            act=act,
            held=held,
            keep_held=keep_held,
            reasons=context.reasons(change),
            needs_delta=bool(context.held or context.rejected),
            freeze=freeze,
            complete=complete,
        )
        with self._telemetry.time_stage("commit", plan.id):
            answer = await self.resources.jobs.run(commit_job, self.resources.store, request, limits=COMMIT)
        await asyncio.to_thread(self._database.keep_head)  # the job has written a line of the audit
        committed = CommitResult.from_json(answer)
        self._verified.learn(committed.verified)
        return committed

    async def known_fingerprints(
        self, context: ListContext, change: Change, others: Collection[Sha256 | None] = ()
    ) -> dict[Sha256, str]:
        """The known fingerprints of the files that a commit of the change reads, for its job."""
        digests = digests_to_read(context.state, change, others)
        digests += await asyncio.to_thread(bases, self.resources.store.sealed, [digest for digest in digests if digest])
        return self._verified.of(digests)

    async def publish_committed(self, plan: ListPlan, committed: CommitResult, released_by: str) -> None:
        """Publishes the version that a commit made. `released_by`: a user's name, or "auto".

        If the commit made no version, the live version is published unless it is served already: the process that runs
        the jobs may have died after it had started a job, which was reported as failed but released a version.
        """
        if committed.made is None:
            live = (await self._database.reading(lambda connection: list_state(connection, plan.id))).version
            if live:
                await self._publish(plan.id, live)
            return
        for figure in ("added", "removed", "changed"):
            self._telemetry.record_amount(figure, plan.id, getattr(committed, figure))
        await self._publish(plan.id, committed.made, new=True)
        made = self._publisher.served(plan.id, committed.made)
        Event.VERSION_LIVE.log(
            log,
            list=plan.id,
            version=committed.made,
            added=made and made.added,
            removed=made and made.removed,
            changed=made and made.changed,
            entries=made and made.entries,
            released_by=made.released_by if made else released_by,
        )

    @asynccontextmanager
    async def locked(self, list_id: ListId) -> AsyncIterator[None]:
        """Holds the list's lock. The sweep does not remove files that are sealed inside this block."""
        async with self.locks[list_id]:
            with self._verified.sealing():
                yield

    async def hold(
        self, candidate: Candidate, held: Candidate | None, also: Callable[[Connection], None] | None = None
    ) -> ReleaseResult:
        """Records a candidate as held. `also` writes its own rows in the same transaction.

        `held`: the candidate that was held so far. If it has the same id, its row is updated and its decisions stay.
        """
        result = ReleaseResult.held(candidate)
        if held is not None and held.id == candidate.id:
            if held != candidate:
                await self._database.writing(lambda connection: candidates.renew(connection, candidate))
            return result

        def record(connection: Connection) -> None:
            if also is not None:
                also(connection)
            candidates.hold(connection, candidate)
            replace_candidate_of_source(connection, candidate, result.reason or "")

        await self._database.writing(record)
        for reason in candidate.reasons:
            self._telemetry.record_guard(candidate.list, reason.guard)
        Event.CANDIDATE_HELD.log(log, list=candidate.list, candidate=candidate.id, reason=result.reason)
        return result

    async def _supersede(self, list_id: ListId, change: Change) -> None:
        """Sets the held candidate of the change's cause, if there is one, to superseded."""
        now = self.resources.clock()
        await self._database.writing(
            lambda connection: candidates.supersede(connection, list_id, change.kind, change.cause, now)
        )

    async def _publish(self, list_id: ListId, version: Version, *, new: bool = False) -> None:
        """Signs and serves a version of the store, and updates the list's zones. The version's renderings are started
        when the zones' serials are served. A `new` version may be served already: the periodic signing may have come
        first."""
        starts = new or not self._publisher.serves(list_id, version)
        if not self._publisher.serves(list_id, version):
            await self._publisher.publish(list_id)
        if starts:
            self._telemetry.record_release(list_id)
        await self._zones.advance(
            list_id, version, lambda: self.in_background(self._render(list_id)) if starts else None
        )

    # -- damage ----------------------------------------------------------------------------------------------------

    async def repair_snapshots(self, plan: ListPlan, damaged: Collection[Sha256] = ()) -> None:
        """Verifies the live snapshot and rebuilds it if it is damaged. `damaged`: other snapshots and deltas of the
        list to rebuild.

        The caller holds the list's lock. A snapshot that can't be rebuilt is not an error here: the list is in
        `Publisher.damaged` until it is. Raises BlocklistError where the job fails.
        """
        live = (await self._database.reading(lambda connection: list_state(connection, plan.id))).live
        broken = set(damaged)
        if live is not None and not await asyncio.to_thread(self._verified.check, live.sha256):
            broken.add(live.sha256)
            if plan.id not in self._publisher.damaged:
                self._publisher.damaged.add(plan.id)
                Event.VERSION_DAMAGED.log(log, list=plan.id, version=live.version)
        if broken:
            answer = await self.resources.jobs.run(
                rebuild, self.resources.store, plan.id, sorted(broken), self._verified.fingerprints, limits=COMMIT
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

    async def publish_live(self, plan: ListPlan, damaged: Collection[Sha256] = ()) -> None:
        """Repairs a list (`repair_snapshots`), then signs and serves its live version.

        Called after a start, a reload and a repair. Raises BlocklistError, StoreError among others.
        """
        async with self.locked(plan.id):
            await self.repair_snapshots(plan, damaged)
            await self._publisher.publish(plan.id)
        self.in_background(self._render(plan.id))

    def context(self, connection: Connection, plan: ListPlan) -> ListContext:
        """Reads the context of a list's next change. Raises StoreError where the list is not in the store."""
        settings = {name: source.settings for name, source in self.sources.items()}
        return ListContext.read(connection, plan, settings, self.first_versions.pulled_now(plan.id))

    def plan_of(self, list_id: ListId) -> ListPlan:
        """The plan of a list. Raises RefusedError if the list is not configured."""
        plan = self.lists.get(list_id)
        if plan is None:
            raise RefusedError("there is no such list: run `blocklistd status` for the lists")
        return plan

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task and keeps it in `tasks` until it ends."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
