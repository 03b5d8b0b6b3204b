"""Compose a change: evaluate its entries under the list's rules, and seal the delta from the live version.

A small change is composed key by key, only for the keys (type, value) that it touches: those of changed lines of the
sources, of corrections that begin or end, and of entries that end. A change that touches more than 1/FULL_SHARE of the
entries, and one of the policy or of the basis of a rollback, is composed in full: all keys are streamed, without a
Python object for each line. Both ways make the same bytes and counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from blocklistd.change import Candidate, Change, ChangeKind
from blocklistd.compose.compose import NAME_RULES, Find, Hit, ListRules, compose
from blocklistd.compose.compose_all import ComposedChunk, compose_all
from blocklistd.compose.lifetimes import EntryAges
from blocklistd.jobs.spread import in_processes, processes, spread
from blocklistd.limits import MAX_HITS
from blocklistd.lines.delta import ENTRIES, DeltaPart, apply, between, render
from blocklistd.lines.expiry import earliest, first_expiry
from blocklistd.lines.keys import Buffer
from blocklistd.lines.patched import PatchedLines
from blocklistd.model import Sha256, SourceId
from blocklistd.pipeline.list_rules import NO_AGES, ChangeAges, corrected, entry_ages, instant_of, rules_of
from blocklistd.pipeline.touched import origins_of, touched_lines
from blocklistd.store.ages import StoredAges
from blocklistd.store.asserted import files_of, open_assertion
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import ListState
from blocklistd.store.verified import Verified

FULL_SHARE: Final = 16  # a change that touches more than 1/16 of the lines of the larger side is composed in full
FEW: Final = 2_000  # touched lines that are allowed in addition: a small list is composed key by key
LINE_BYTES: Final = 100  # typical length of a line, to estimate the number of lines of a file


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A sealed snapshot; `length` is in bytes."""

    digest: Sha256
    length: int


@dataclass(frozen=True, slots=True)
class Composed:
    """A composed change, with the counts of its entries.

    - `delta`: the sealed delta from the live version; None if there is no live version or nothing changes.
    - `withheld`: counts, by rule, of all asserted entries that the list withholds with this change.
    - `snapshot`: the snapshot after this change; None if composing did not have to write it.
    - `evaluated`, `next_expiry`: as in ListState, after this change.
    - `hits`: the entries that guard files withhold with this change, at most MAX_HITS. `no_hits`: the ids of those that
      they withhold no more; None if `hits` has all.
    - `ages`: of each source of the change; empty if the list has no `lifetime`.
    """

    delta: Sha256 | None
    added: int
    removed: int
    changed: int
    withheld: dict[str, int]
    snapshot: Snapshot | None = None
    evaluated: datetime | None = None
    next_expiry: datetime | None = None
    hits: tuple[Hit, ...] = ()
    no_hits: tuple[str, ...] | None = ()
    ages: Mapping[SourceId, StoredAges] = field(default_factory=dict)

    @classmethod
    def from_candidate(
        cls, files: SealedFiles, verified: Verified, state: ListState, candidate: Candidate, now: datetime
    ) -> Composed | None:
        """The composed change of a candidate, from its files. None if it has to be composed again: an entry has ended
        since it was held, or guard files withhold entries, before or after it. A damaged snapshot is ignored: the delta
        can make it."""
        if candidate.hits or any(rule in NAME_RULES for rule in state.withheld or ()):
            return None
        evaluated = state.evaluation_time(candidate.change, now)
        with files.map(candidate.delta) as delta:
            expiry = min(filter(None, (candidate.next_expiry, _time(first_expiry(delta)))), default=None)
        if evaluated is not None and (candidate.created > evaluated or (expiry is not None and expiry <= evaluated)):
            return None
        snapshot = None
        if candidate.snapshot is not None and verified.check(candidate.snapshot):
            snapshot = Snapshot(candidate.snapshot, files.path(candidate.snapshot).stat().st_size)
        counts = candidate.added, candidate.removed, candidate.changed
        first = min(filter(None, (state.next_expiry, expiry)), default=None)
        return cls(candidate.delta, *counts, candidate.withheld, snapshot, evaluated, first)

    @property
    def hits_by_rule(self) -> dict[str, list[str]]:
        """The ids of `hits` by rule."""
        found: dict[str, list[str]] = {}
        for hit in self.hits:
            found.setdefault(hit.rule, []).append(hit.id)
        return found

    @property
    def alters(self) -> bool:
        """Whether the change adds, removes or changes an entry of the list."""
        return bool(self.added or self.removed or self.changed)

    def with_delta(self, files: SealedFiles, verified: Verified) -> Composed:
        """Adds the delta of a first version, which adds every entry. It is an empty file if there are no entries."""
        assert self.snapshot is not None
        if not self.added:
            return replace(self, delta=self.snapshot.digest)
        return replace(self, delta=delta_between(files, verified, None, self.snapshot.digest).delta)


def compose_change(
    files: SealedFiles, verified: Verified, state: ListState, change: Change, now: datetime, ages: ChangeAges = NO_AGES
) -> Composed:
    """Composes a change on the live version of `state`. Raises DamagedError where a file that it needs is missing or
    damaged."""
    evaluated = state.evaluation_time(change, now)
    live = state.live.sha256 if state.live else None
    origins = origins_of(change.policy, change.sources, change.basis)
    verified.require(live, *(digest for entries in origins.values() for digest in files_of(files, entries)))
    verified.require(*change.policy.files)
    lifted = [one for one in state.corrections if one.number in change.lifts]
    corrections = [*(one for one in state.corrections if one.number not in change.lifts), *change.places]
    ends = change.policy.ends_by_age and change.basis is None
    keeps_live = change.kind != ChangeKind.EXPIRY
    with ExitStack() as stack:

        def lifetimes(of: Mapping[SourceId, StoredAges]) -> EntryAges | None:
            return stack.enter_context(entry_ages(files, change.policy, of, ages.kept, now)) if ends else None

        made = stack.enter_context(
            rules_of(
                *(files, state, change.policy, evaluated, corrections, change.basis, lifetimes(ages.after)),
                keeps_live=keeps_live,
            )
        )
        asserted = [stack.enter_context(open_assertion(files, digest)) for digest in origins.values()]
        live_lines = stack.enter_context(files.map(live))
        touched = None
        same = state.policy == change.policy and state.basis == change.basis
        same = same and (ages.is_known or change.begins_corrections)  # the guards judge what lost ages bring back
        ends_by_age = change.kind == ChangeKind.EXPIRY and made.lifetimes is not None
        same = same and not (ends_by_age and made.stops_additions)  # what is not live ends, too: its rule is another
        if state.live and same and state.withheld is not None:
            size = max([state.live.entries, *(len(entries.base) // LINE_BYTES for _, entries in asserted)])
            limit = size // FULL_SHARE + FEW
            touched = touched_lines(files, verified, state, change, origins, asserted, live_lines, made, limit, stack)

        def in_full() -> Composed:
            composed = _compose_in_full(files, verified, state, [lines for _, lines in asserted], made, live_lines)
            return replace(composed, evaluated=evaluated)

        if touched is None or state.withheld is None:
            return in_full()
        placed = state.corrections if ends_by_age else [*lifted, *change.places]
        keys = [*touched.lines, *(one.key for one in placed)]
        before = replace(
            made,
            now=instant_of(state.evaluated),
            corrected=corrected(state.corrections),
            lifetimes=lifetimes(ages.before),
        )
        finders: list[Find] = [lines.find for _, lines in asserted]
        found = compose(live_lines, keys, finders, made, touched.accepted, before)
        withheld = _sum(state.withheld, found.withheld)
        if 2 * (state.hits + len(found.hits) - len(found.no_hits)) < min(MAX_HITS, _all_hits(withheld)):
            return in_full()  # many hits were beyond MAX_HITS, and could now be named by id: only this finds them
        part = render(ENTRIES, found.removes, found.adds)
    sealed = seal_delta(files, verified, [part]) if part.data else Composed(None, 0, 0, 0, {})
    first = _time(earliest((touched.next_expiry, found.next_expiry)))
    return replace(
        sealed,
        withheld=withheld,
        evaluated=evaluated,
        next_expiry=first,
        hits=tuple(found.hits[:MAX_HITS]),
        no_hits=tuple(found.no_hits),
    )


def _time(instant: bytes | None) -> datetime | None:
    return None if instant is None else datetime.fromisoformat(instant.decode())


def _sum(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    counts = {rule: before.get(rule, 0) + more.get(rule, 0) for rule in sorted({*before, *more})}
    return {rule: count for rule, count in counts.items() if count}


def _all_hits(withheld: Mapping[str, int]) -> int:
    """The number of entries that guard files withhold."""
    return sum(withheld.get(rule, 0) for rule in NAME_RULES)


def _compose_in_full(
    files: SealedFiles,
    verified: Verified,
    state: ListState,
    asserted: Iterable[PatchedLines],
    rules: ListRules,
    live: Buffer,
) -> Composed:
    """Evaluates every key. Seals the snapshot, and the delta from the live snapshot, if there is one."""
    written = write_snapshot(files, verified, asserted, rules, live)
    if state.live is None:
        sealed = Composed(None, written.entries, 0, 0, {})
    else:
        sealed = delta_between(files, verified, state.live.sha256, written.snapshot.digest)
    return replace(
        sealed,
        withheld=written.withheld,
        snapshot=written.snapshot,
        next_expiry=_time(written.next_expiry),
        hits=written.hits,
        no_hits=None,
    )


class WrittenSnapshot(NamedTuple):
    """A new snapshot, the number of its entries, the counts of withheld entries by rule, when the first entry ends, and
    the entries that guard files withhold, at most MAX_HITS."""

    snapshot: Snapshot
    entries: int
    withheld: dict[str, int]
    next_expiry: bytes | None
    hits: tuple[Hit, ...]


def write_snapshot(
    files: SealedFiles, verified: Verified, sources: Iterable[PatchedLines], rules: ListRules, live: Buffer
) -> WrittenSnapshot:
    """Seals the snapshot of the entries that the sources assert, under the rules. `sources`: in order of precedence.
    `live`: the live snapshot, to which nothing is added while additions are stopped."""
    entries = 0
    first = None
    withheld: Counter[str] = Counter()
    hits: list[Hit] = []

    def spread_chunks(work: Callable[[int], ComposedChunk], parts: int) -> Iterator[ComposedChunk]:
        def encoded(part: int) -> tuple[dict[str, Any], bytes]:
            chunk = work(part)
            expiry = chunk.next_expiry.decode() if chunk.next_expiry else ""
            hits = [list(hit) for hit in chunk.hits]  # orjson takes no named tuples
            figures = {"entries": chunk.entries, "withheld": chunk.withheld, "next_expiry": expiry, "hits": hits}
            return figures, chunk.data

        with spread(encoded, min(parts, processes())) as results:
            for figures, data in results(parts):
                expiry = figures["next_expiry"].encode() or None
                hits = tuple(Hit(*hit) for hit in figures["hits"])
                yield ComposedChunk(data, **figures | {"next_expiry": expiry, "hits": hits})

    with files.create() as draft:
        for chunk in compose_all([source.read_all() for source in sources], rules, spread_chunks, live):
            draft.write(chunk.data)
            entries += chunk.entries
            withheld.update(chunk.withheld)
            first = earliest((first, chunk.next_expiry))
            hits += chunk.hits[: MAX_HITS - len(hits)]
    assert draft.sealed is not None
    verified.wrote(draft.sealed)
    return WrittenSnapshot(Snapshot(draft.sealed, draft.length), entries, dict(withheld), first, tuple(hits))


def delta_between(files: SealedFiles, verified: Verified, old: Sha256 | None, new: Sha256) -> Composed:
    """Seals the delta between two verified snapshots. `old`: None for an empty one. `withheld` is not counted."""
    with files.map(old) as before, files.map(new) as after:
        return seal_delta(files, verified, between(ENTRIES, before, after, in_processes))


def apply_delta(files: SealedFiles, verified: Verified, old: Sha256 | None, delta: Sha256 | None) -> Snapshot:
    """Applies a verified delta to a verified snapshot, and seals the result. `old`: None for an empty snapshot.
    `delta`: None for no change.

    Raises ValueError where the delta does not fit the snapshot.
    """
    with files.map(old) as before, files.map(delta) as changes, files.create() as draft:
        for chunk in apply(ENTRIES, before, changes, in_processes):
            draft.write(chunk)
    assert draft.sealed is not None
    verified.wrote(draft.sealed)
    return Snapshot(draft.sealed, draft.length)


def seal_delta(files: SealedFiles, verified: Verified, parts: Iterable[DeltaPart]) -> Composed:
    """Seals the parts as one delta, and adds up their counts. Without any change, `delta` is None."""
    removed = added = changed = 0
    with files.create() as draft:
        for part in parts:
            draft.write(part.data)
            removed, added, changed = removed + part.removed, added + part.added, changed + part.changed
    assert draft.sealed is not None
    if not (removed or added or changed):
        return Composed(None, 0, 0, 0, {})
    verified.wrote(draft.sealed)
    return Composed(draft.sealed, added, removed, changed, {})
