"""The entries of a list whose `lifetime` has ended (`entry due`), and those that a person keeps (`entry keep`).

What is due is computed in a job, from the live version and the accepted entries of the sources, by the terms that are
configured. An entry stays in the list until an expiry takes it out; with `at_end: review` none does.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.change import ChangeKind, Policy
from blocklistd.compose.lifetimes import Terms, ended_by_age
from blocklistd.errors import RefusedError
from blocklistd.jobs.sandbox import COMMIT, LARGE_WORK, lower_priority
from blocklistd.lines.keys import type_and_value
from blocklistd.lines.snapshot import find
from blocklistd.model import ID, Act, Entry, ListId
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.pipeline.list_rules import entry_ages, instant_of
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.resources import Resources
from blocklistd.store import audit, candidates, kept_entries
from blocklistd.store.asserted import files_of, open_assertion
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import ListState, list_state
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified

SHOWN: Final = 1000  # entries that an answer has at most, and that a person can keep at once


@dataclass(frozen=True, slots=True)
class DueEntry:
    """An entry that is due. `term`: reverify or max_life; `since`: when the term began; `due`: when it ended, both RFC
    3339. `days`: since it began. `sources`: those that assert the entry."""

    id: str
    type: str
    value: str
    sources: tuple[str, ...]
    term: str
    since: str
    due: str
    days: int


@dataclass(frozen=True, slots=True)
class Found:
    """The entries that are due: how many, and the SHOWN that have been so the longest."""

    total: int
    entries: tuple[DueEntry, ...]


class DueEntries:
    """Finds and keeps entries that are due."""

    def __init__(self, resources: Resources, releaser: Releaser, reconciler: Reconciler) -> None:
        self._resources = resources
        self._releaser = releaser
        self._reconciler = reconciler

    async def due(self, list_id: ListId, ids: Collection[str] | None = None) -> Found:
        """The entries of a list that are due, at most SHOWN; of `ids` only these. Raises RefusedError if there is no
        such list, or it has no lifetime; BlocklistError where the job fails."""
        plan, resources = self._releaser.plan_of(list_id), self._resources
        if not Terms(plan.reverify, plan.max_life):
            raise RefusedError(f"list {list_id} has no lifetime: set lists.{list_id}.lifetime, then reload")
        fingerprints = resources.verified.fingerprints
        answer = await resources.jobs.run(
            due_job, resources.store, plan, resources.clock(), ids, fingerprints, limits=COMMIT
        )
        resources.verified.learn(answer["verified"])
        entries = (DueEntry(**one | {"sources": tuple(one["sources"])}) for one in answer["entries"])
        return Found(answer["total"], tuple(entries))

    async def keep(self, list_id: ListId, ids: Sequence[str], why: str, act: Act) -> tuple[DueEntry, ...]:
        """Begins the lifetime of these entries again. A held expiry is made again without them.

        Raises RefusedError, and changes nothing, if one of them is not due; BlocklistError as `due`.
        """
        requested = list(dict.fromkeys(ids))
        if len(requested) > SHOWN:
            raise RefusedError(f"expected at most {SHOWN} ids, found {len(requested)}: give them in several calls")
        async with self._releaser.locked(list_id):
            found = await self.due(list_id, requested)
            known = {one.id for one in found.entries}
            if missing := [one for one in requested if one not in known]:
                more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
                raise RefusedError(
                    f"not due in list {list_id}: {', '.join(missing[:10])}{more}: nothing is changed; run `blocklistd "
                    f"entry due {list_id}` for the entries that are due"
                )
            now = self._resources.clock()

            def record(connection: Connection) -> None:
                entries = [(one.type, one.value) for one in found.entries]
                kept_entries.keep(connection, list_id, entries, why, act, now)
                candidates.supersede(connection, list_id, ChangeKind.EXPIRY, "", now)
                audit.append(connection, act, " ".join(requested), now=now, detail={"list": list_id, "why": why})

            await self._resources.database.writing(record)
        await self._reconciler.expire(list_id)
        return found.entries


def due_job(
    store: Store, plan: ListPlan, now: datetime, ids: Collection[str] | None, fingerprints: Fingerprints
) -> dict[str, Any]:
    """Finds the entries that are due, in a job. Returns Found as JSON, with the fingerprints of verified files."""
    lower_priority(LARGE_WORK)
    with store.opened() as (database, files):
        verified = Verified(files, fingerprints)
        with database.read() as connection:
            state = list_state(connection, plan.id)
            kept = kept_entries.kept(connection, plan.id)
        if state.policy is None or state.live is None or state.basis is not None:
            return {"total": 0, "entries": [], "verified": {}}
        policy = replace(state.policy, reverify=plan.reverify, max_life=plan.max_life)
        counted: Counter[str] = Counter()
        found = _due(files, verified, state, policy, kept, now)
        requested = None if ids is None else set(ids)
        chosen = (one for one in _count(found, counted) if requested is None or one.id in requested)
        first = heapq.nsmallest(SHOWN, chosen, key=lambda one: (one.due, one.id))
        return {"total": counted["due"], "entries": [asdict(one) for one in first], "verified": verified.fingerprints}


def _count(found: Iterator[DueEntry], counted: Counter[str]) -> Iterator[DueEntry]:
    for one in found:
        counted["due"] += 1
        yield one


def _due(
    files: SealedFiles,
    verified: Verified,
    state: ListState,
    policy: Policy,
    kept: dict[bytes, bytes],
    now: datetime,
) -> Iterator[DueEntry]:
    assert state.live is not None
    named = [state.accepted.get(source) for source in policy.sources]
    needed = [*named, *(stored.file for stored in state.ages.values())]
    verified.require(state.live.sha256, *(one for digest in needed for one in files_of(files, digest)))
    instant = instant_of(now)
    assert instant is not None
    with ExitStack() as stack:
        live = stack.enter_context(files.map(state.live.sha256))
        sources = [stack.enter_context(open_assertion(files, digest))[1].read_all() for digest in named]
        ages = stack.enter_context(entry_ages(files, policy, state.ages, kept, state.live.time))
        for part in ended_by_age(live, sources, ages, instant):
            for one in part.ended:
                line = find(live, one.key)
                assert line is not None, "it is live"
                kind, value = type_and_value(line)
                begun = datetime.fromisoformat(one.ending.since.decode())
                yield DueEntry(
                    id=str(Entry.from_line(line).attributes[ID]),
                    type=kind.decode(),
                    value=value.decode(),
                    sources=tuple(policy.sources[source] for source, _ in one.asserted),
                    term=one.ending.term,
                    since=one.ending.since.decode(),
                    due=one.ending.end.decode(),
                    days=(now - begun).days,
                )
