"""Take single entries out of a list at once, and bring them back: `entry delist`, `restore`, `embargo`, `release`.

- A correction that begins (`place`) makes a list shorter: no guard and no reviewer holds it. It and the version without
  the entry are one transaction of the commit job.
- A correction that ends (`end`) makes a list longer: a guard or the release rule may hold the change. The request and
  its audit line come first, in a transaction of their own; the correction stays in force until the change is released.
- `end_passed` requests the end of those whose `until` has passed, once: a held or rejected candidate is not repeated.

Each takes the lock of its list only, so no other list's commit and no download delays it.
"""

from __future__ import annotations

import functools
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from blocklistd.change import ChangeKind, Correction, CorrectionKind
from blocklistd.errors import RefusedError
from blocklistd.events import Event
from blocklistd.model import AUTO, Act, ListId, Outcome, Version
from blocklistd.pipeline.correction_words import ENDED_BY, why_not_live, why_not_under
from blocklistd.pipeline.explain import Explainer
from blocklistd.pipeline.list_context import ListContext, ReleaseResult
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.resources import Resources
from blocklistd.store import audit, candidates, corrections
from blocklistd.store.entries import FoundEntry, covering, find_entry, find_same_names
from blocklistd.times import rfc3339

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placed:
    """Outcome of `place`. `version`: the version without the entries; None if no entry was live. `covered`: for each
    entry the ids of live entries that still block its name."""

    entries: tuple[FoundEntry, ...]
    version: Version | None
    covered: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Ended:
    """Outcome of `end`. `result`: HELD with the candidate; PUBLISHED with `version`; UNCHANGED if the correction has
    ended and the entry is not live for another reason."""

    ended: tuple[Correction, ...]
    result: ReleaseResult
    version: Version | None


class Corrections:
    """Places and ends corrections."""

    def __init__(self, resources: Resources, releaser: Releaser) -> None:
        self._database = resources.database
        self._files = resources.store.sealed
        self._clock = resources.clock
        self._alarms = resources.alarms
        self._releaser = releaser
        self._explainer = Explainer(resources, releaser)
        self._requested: set[tuple[int, ...]] = set()
        """The ends whose commit failed: the daemon tries these again without another line of the audit."""

    async def place(
        self,
        list_id: ListId,
        text: str,
        kind: CorrectionKind,
        why: str,
        act: Act,
        *,
        until: datetime | None = None,
        owner: str = "",
    ) -> Placed:
        """Withholds the entry that `text` names from now on. `until`: when it ends by itself; None: when a person ends
        it. Only an embargo may be of an entry that is not live.

        Raises RefusedError where the text names no entry, or a correction is not possible; BlocklistError where the
        job or publishing fails.
        """
        if until is not None and until <= self._clock():
            raise RefusedError(f"--until: {rfc3339(until)} has passed: give a time to come, or how long, like 7d")
        async with self._releaser.locked(list_id):
            context = await self._context(list_id)
            found = await self._found(context, text)
            chosen = _to_place(context, found, await self._same_names(context, found), kind, until)
            if not chosen:
                raise RefusedError(await self._why_not_live(context, found))
            covered = await self._covered(context, chosen)
            places, replaced = _places(chosen, kind, why, until, owner), _of_kind(chosen, {kind})
            if context.state.live is None:
                await self._database.writing(
                    lambda connection: self._place_without_version(connection, list_id, places, replaced, act)
                )
                made = None
            else:
                await self._releaser.repair_snapshots(context.plan)
                change = replace(
                    context.same_entries(ChangeKind.CORRECTION).by(act),
                    places=places,
                    lifts=tuple(one.number for one in replaced),
                )
                committed = await self._releaser.run_commit(context.plan, context, change, act=act)
                made = committed.made
                await self._releaser.publish_committed(context.plan, committed, act.user)
            ids = [one.id for one in chosen]
            Event.ENTRIES_CORRECTED.log(log, list=list_id, kind=kind.value, entries=ids, user=act.user)
            return Placed(tuple(chosen), made, covered)

    def _place_without_version(
        self,
        connection: Connection,
        list_id: ListId,
        places: Sequence[Correction],
        replaced: Iterable[Correction],
        act: Act,
    ) -> None:
        """Places corrections in a list without a version; the first version is then made without their entries."""
        now = self._clock()
        corrections.lift(connection, [one.number for one in replaced], act.user, now)
        corrections.place(connection, list_id, places, act, now, None)
        entries, detail = corrections.for_audit(places)
        audit.append(connection, act, entries, now=now, detail={"list": list_id, "version": None, **detail})

    async def end(self, list_id: ListId, text: str, kinds: Collection[CorrectionKind], why: str, act: Act) -> Ended:
        """Requests the end of the corrections of these kinds that withhold the entry which `text` names.

        If the end was requested before and is held, that candidate is the result. Raises RefusedError where no such
        correction is in force; BlocklistError where the job or publishing fails.
        """
        async with self._releaser.locked(list_id):
            context = await self._context(list_id)
            found = await self._found(context, text)
            ending = _of_kind(found, kinds)
            if not ending:
                raise RefusedError(why_not_under(list_id, found, kinds))
            placed = {(one.created, one.why) for one in ending}
            others = _of_kind(await self._same_names(context, found), kinds)
            ending += [one for one in others if (one.created, one.why) in placed]
            ending.sort(key=lambda one: one.number)
            return await self._end(context, ending, why, act)

    async def end_passed(self, list_id: ListId) -> None:
        """Requests the end of the corrections of a list whose `until` has passed, of one kind and time together, unless
        it is held or was rejected. Does nothing while the clock is wrong. Raises BlocklistError as `end`."""
        if self._alarms.subjects("clock"):
            return
        async with self._releaser.locked(list_id):
            if list_id not in self._releaser.lists:
                return
            now, context = self._clock(), await self._context(list_id)
            asked = await self._database.reading(functools.partial(candidates.lifted, list_id=list_id))
            together: dict[tuple[CorrectionKind, datetime], list[Correction]] = defaultdict(list)
            for one in context.state.corrections:
                if one.until is not None and one.until <= now and one.number not in asked:
                    together[one.kind, one.until].append(one)
            for (kind, _), ending in together.items():
                act = replace(AUTO, action=ENDED_BY[kind])
                await self._end(await self._context(list_id), ending, "its time has passed", act)

    async def _end(self, context: ListContext, ending: Sequence[Correction], why: str, act: Act) -> Ended:
        list_id, numbers = context.plan.id, tuple(one.number for one in ending)
        for case in context.held:
            if set(numbers) & set(case.candidate.change.lifts):
                return Ended(tuple(ending), ReleaseResult.held(case.candidate), None)

        def request(connection: Connection) -> int:
            requests = [corrections.request_end(connection, number) for number in numbers]
            detail = {"list": list_id, "kind": sorted({one.kind.value for one in ending}), "why": why}
            if act.uid is not None or numbers not in self._requested:
                audit.append(connection, act, " ".join(one.entry for one in ending), now=self._clock(), detail=detail)
            if context.state.live is None:
                corrections.lift(connection, numbers, act.user, self._clock())
            return requests[0]

        requests = await self._database.writing(request)
        self._requested.add(numbers)
        if context.state.live is None:
            return Ended(tuple(ending), ReleaseResult(Outcome.UNCHANGED), None)
        await self._releaser.repair_snapshots(context.plan)
        cause = f"{numbers[0]}.{requests}"
        change = context.same_entries(ChangeKind.CORRECTION).by(act)
        change = replace(change, policy=context.policy_in_force, cause=cause, lifts=numbers)
        result = await self._releaser.commit(context.plan, context, change)
        self._requested.discard(numbers)
        version = (await self._context(list_id)).state.version if result.outcome is Outcome.PUBLISHED else None
        if result.outcome in (Outcome.PUBLISHED, Outcome.UNCHANGED):
            ids = [one.entry for one in ending]
            kind = f"not {ending[0].kind} any more"
            Event.ENTRIES_CORRECTED.log(log, list=list_id, kind=kind, entries=ids, user=act.user)
        return Ended(tuple(ending), result, version)

    def plan(self, list_id: ListId) -> ListPlan:
        """The plan of a list. Raises RefusedError if the list is not configured."""
        return self._releaser.plan_of(list_id)

    async def _context(self, list_id: ListId) -> ListContext:
        """The context of a list, read under its lock. Raises RefusedError if the list is not configured."""
        plan = self.plan(list_id)
        return await self._database.reading(lambda connection: self._releaser.context(connection, plan))

    async def _found(self, context: ListContext, text: str) -> list[FoundEntry]:
        return await self._database.reading(
            lambda connection: find_entry(self._files, connection, context.plan.id, text)
        )

    async def _why_not_live(self, context: ListContext, found: Sequence[FoundEntry]) -> str:
        explained = await self._database.reading(
            lambda connection: [self._explainer.explained(connection, context, one) for one in found]
        )
        return why_not_live(context.plan.id, explained)

    async def _same_names(self, context: ListContext, found: Sequence[FoundEntry]) -> list[FoundEntry]:
        return await self._database.reading(
            lambda connection: find_same_names(self._files, connection, context.plan.id, found)
        )

    async def _covered(self, context: ListContext, chosen: Collection[FoundEntry]) -> dict[str, list[str]]:
        """For each entry, the ids of live entries that still block its name when the chosen ones are not live."""
        out = {one.id for one in chosen}
        found = await self._database.reading(
            lambda connection: {
                one.id: covering(self._files, context.state, one.type, one.value) for one in chosen if one.live
            }
        )
        return {entry: [other for other in others if other not in out] for entry, others in found.items()}


def _of_kind(found: Iterable[FoundEntry], kinds: Collection[CorrectionKind]) -> list[Correction]:
    return [one for entry in found for one in entry.corrections if one.kind in kinds]


def _places(
    chosen: Iterable[FoundEntry], kind: CorrectionKind, why: str, until: datetime | None, owner: str
) -> tuple[Correction, ...]:
    return tuple(Correction(0, kind, one.type, one.value, one.id, why, until, owner) for one in chosen)


def _to_place(
    context: ListContext,
    found: Sequence[FoundEntry],
    same_names: Sequence[FoundEntry],
    kind: CorrectionKind,
    until: datetime | None,
) -> list[FoundEntry]:
    """The entries that a new correction of this kind withholds; none if a delisting finds nothing live. Raises
    RefusedError for an embargo that is not possible.

    `same_names`: as find_same_names. A source may write a name as a host today and as a domain tomorrow, so both are
    withheld, unless the other one is live and an id named only one of them. A correction that is in force may be
    replaced by one that lasts longer, not by one that ends sooner.
    """
    under = _of_kind([*found, *same_names], {kind})
    known = {one.entry for one in under}
    ending = {one.entry for one in under if one.until is not None and (until is None or until > one.until)}
    of_types = [entry for entry in (*found, *same_names) if entry.type in context.plan.types]
    others = [entry for entry in of_types if not entry.live and (entry.id in ending or entry.id not in known)]
    chosen = [entry for entry in found if (entry.live and entry.id not in known) or entry.id in ending]
    if kind is CorrectionKind.DELISTED and not chosen:
        return []
    chosen += [entry for entry in others if entry not in chosen]
    if not chosen and under:
        ends = under[0].until
        when = f"until {rfc3339(ends)}" if ends is not None else "without an end"
        raise RefusedError(
            f"entry {under[0].entry} of list {context.plan.id} is embargoed {when} already: to end it, run "
            f"`blocklistd entry release`"
        )
    if not chosen:
        types = ", ".join(sorted({entry.type for entry in found}))
        raise RefusedError(f"list {context.plan.id} takes no entry of the type {types}: see `types` of the list")
    return chosen
