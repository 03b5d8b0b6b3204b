"""Finds the entries of a list whose `lifetime` has ended (`entry due`), and keeps those that a person confirms (`entry
keep`).

A job finds the entries that are due, from the live version, the accepted entries of the sources, and the configured
terms. An entry that is due stays in the list until an expiry takes it out; with `at_end: review` none does.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.change import ChangeKind, Policy
from blocklistd.compose.compose import evaluate, keys_of_tests
from blocklistd.compose.lifetimes import Terms, ended_by_age
from blocklistd.errors import RefusedError
from blocklistd.jobs.sandbox import COMMIT, LARGE_WORK, lower_priority
from blocklistd.lines.expiry import earliest
from blocklistd.lines.ids import Ids
from blocklistd.lines.keys import key_of, type_and_value
from blocklistd.lines.snapshot import find, lines
from blocklistd.model import ID, Act, Entry, ListId
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.pipeline.list_rules import entry_ages, instant_of, live_rules
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.resources import Resources
from blocklistd.store import audit, candidates, kept_entries
from blocklistd.store.asserted import files_of, open_assertion
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import ListState, list_state
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified

LIVE: Final = "live"
SHOWN: Final = 1000  # entries that an answer has at most, and that a person can keep at once
MISSING: Final = 10  # entries that an error explains at most


@dataclass(frozen=True, slots=True)
class DueEntry:
    """An entry that is due. `term`: reverify or max_life; `since`: when the term began; `due`: when it ended, both RFC
    3339. `days`: since it began. `sources`: those that assert the entry; `ref`: the reference of the first one."""

    id: str
    type: str
    value: str
    sources: tuple[str, ...]
    term: str
    since: str
    due: str
    days: int
    ref: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """The entries that are due. `total`: their number. `entries`: those that became due first, at most SHOWN. `next`:
    the time before which no other entry becomes due.

    Of the requested ids: `ambiguous` are the ids of two or more entries that are due. `not_due` has the state of each
    entry that is not: `live`, or the rule that withholds it; an id that no entry has is not in it."""

    total: int
    entries: tuple[DueEntry, ...]
    next: datetime | None
    ambiguous: tuple[str, ...]
    not_due: dict[str, str]


class DueEntries:
    """Finds and keeps entries that are due."""

    def __init__(self, resources: Resources, releaser: Releaser, reconciler: Reconciler) -> None:
        self._resources = resources
        self._releaser = releaser
        self._reconciler = reconciler
        self.kept: Counter[ListId] = Counter()
        """How often entries of each list were kept since the start."""

    async def due(self, list_id: ListId, ids: Collection[str] | None = None) -> Found:
        """The entries of a list that are due, at most SHOWN. With `ids`, only the entries with these ids.

        Raises RefusedError if there is no such list, or it has no lifetime; BlocklistError if the job fails."""
        plan, resources = self._releaser.plan_of(list_id), self._resources
        if not Terms(plan.reverify, plan.max_life):
            raise RefusedError(f"list {list_id} has no lifetime: set lists.{list_id}.lifetime, then reload")
        fingerprints = resources.verified.fingerprints
        answer = await resources.jobs.run(
            due_job, resources.store, plan, resources.clock(), ids, fingerprints, limits=COMMIT
        )
        resources.verified.learn(answer["verified"])
        entries = (DueEntry(**one | {"sources": tuple(one["sources"])}) for one in answer["entries"])
        following = datetime.fromisoformat(answer["next"]) if answer["next"] else None
        return Found(answer["total"], tuple(entries), following, tuple(answer["ambiguous"]), answer["not_due"])

    async def keep(self, list_id: ListId, ids: Sequence[str], why: str, act: Act) -> tuple[DueEntry, ...]:
        """Begins the lifetime of these entries again. A held expiry is made again without them.

        Raises RefusedError, and changes nothing, if one of them is not due, or two entries that are due have its id;
        BlocklistError as `due`.
        """
        requested = list(dict.fromkeys(ids))
        if len(requested) > SHOWN:
            raise RefusedError(f"expected at most {SHOWN} ids, found {len(requested)}: give them in several calls")
        async with self._releaser.locked(list_id):
            found = await self.due(list_id, requested)
            known = {one.id for one in found.entries}
            if found.ambiguous:
                raise RefusedError(
                    f"list {list_id}: the id {found.ambiguous[0]} is ambiguous, as two entries that are due have it "
                    f"(another publisher's entry keeps its id): nothing was changed: ask their source to confirm them"
                )
            if missing := [one for one in requested if one not in known]:
                texts = [f"{one} {_why_not_due(found.not_due.get(one))}" for one in missing[:MISSING]]
                texts += [f"and {len(missing) - MISSING} more"] if len(missing) > MISSING else []
                raise RefusedError(
                    f"nothing was changed: {'; '.join(texts)}: run `blocklistd entry due {list_id}` for those that are "
                    f"due"
                )
            now = self._resources.clock()

            def record(connection: Connection) -> None:
                entries = [(one.type, one.value) for one in found.entries]
                kept_entries.keep(connection, list_id, entries, why, act, now)
                candidates.supersede(connection, list_id, ChangeKind.EXPIRY, "", now)
                audit.append(connection, act, " ".join(requested), now=now, detail={"list": list_id, "why": why})

            await self._resources.database.writing(record)
            self.kept[list_id] += 1
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
            return {"total": 0, "entries": [], "verified": {}, "next": None, "ambiguous": [], "not_due": {}}
        policy = replace(state.policy, reverify=plan.reverify, max_life=plan.max_life)
        seen = _Seen()
        requested = None if ids is None else set(ids)
        found = _due(files, verified, state, policy, kept, now, seen)
        chosen = (one for one in found if requested is None or one.id in requested)
        first = heapq.nsmallest(SHOWN + 1, chosen, key=lambda one: (one.due, one.id))
        times = Counter(one.id for one in first)
        missing = (requested or set()) - times.keys()
        return {
            "total": seen.total,
            "entries": [asdict(one) for one in first[:SHOWN]],
            "verified": verified.fingerprints,
            "next": seen.next.decode() if seen.next else None,
            "ambiguous": sorted(name for name, count in times.items() if count > 1) if requested else [],
            "not_due": _not_due(files, state, kept, missing) if missing else {},
        }


@dataclass(slots=True)
class _Seen:
    """Figures of a pass over the live entries. `total`: how many are due. `next`: the time before which no other entry
    becomes due."""

    total: int = 0
    next: bytes | None = None


def _not_due(files: SealedFiles, state: ListState, kept: Mapping[bytes, bytes], ids: Collection[str]) -> dict[str, str]:
    """The state of each id that an entry of a source has: `live`, or the rule that withholds the entry."""
    assert state.live is not None
    assert state.policy is not None
    found: dict[str, str] = {}
    with ExitStack() as stack:
        live = stack.enter_context(files.map(state.live.sha256))
        rules = stack.enter_context(live_rules(files, state, state.policy, kept))
        named = [state.accepted.get(source) for source in state.policy.sources]
        sources = [stack.enter_context(open_assertion(files, digest))[1] for digest in named]
        for line in (line for asserted in sources for line in lines(asserted.read_all())):
            name, key = _id_of(line, state.ids), key_of(line)
            if name not in ids or found.get(name) == LIVE:
                continue
            asserted = [(index, one) for index, of in enumerate(sources) if (one := of.find(key)) is not None]
            is_live = find(live, key) is not None
            found[name] = LIVE if is_live else evaluate(key, asserted, rules, is_live=False).rule or "not_composed"
    return found


def _id_of(line: bytes, ids: Ids) -> str:
    if f',"{ID}":"'.encode() in line:
        return str(Entry.from_line(line).attributes[ID])
    return ids.of(*type_and_value(line))


def _why_not_due(state: str | None) -> str:
    """Says why an id is not due. `state`: as in Found.not_due; None: no entry has the id."""
    match state:
        case None:
            return "is the id of no entry that a source lists"
        case "live":
            return "is not due"
        case "lifetime":
            return "has left the list, as its lifetime has ended: it comes back when a source confirms it"
        case "expired":
            return "has left the list, as its `expires` has passed: it comes back when a source gives it a later one"
    return f"is not live, but withheld ({state}): ask `blocklistd entry explain`"


def _due(
    files: SealedFiles,
    verified: Verified,
    state: ListState,
    policy: Policy,
    kept: dict[bytes, bytes],
    now: datetime,
    seen: _Seen,
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
        tests = keys_of_tests(policy.tests)
        for part in ended_by_age(live, sources, ages, instant):
            ended = [one for one in part.ended if one.key not in tests]
            seen.total += len(ended)
            seen.next = earliest((seen.next, part.next))
            for one in ended:
                line = find(live, one.key)
                assert line is not None, "it is live"
                kind, value = type_and_value(line)
                begun = datetime.fromisoformat(one.ending.since.decode())
                entry = Entry.from_line(line)
                yield DueEntry(
                    id=str(entry.attributes[ID]),
                    type=kind.decode(),
                    value=value.decode(),
                    sources=tuple(policy.sources[source] for source, _ in one.asserted),
                    term=one.ending.term,
                    since=one.ending.since.decode(),
                    due=one.ending.end.decode(),
                    days=(now - begun).days,
                    ref=entry.reference,
                )
