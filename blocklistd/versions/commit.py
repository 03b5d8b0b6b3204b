"""The trusted job: composes a list from what its sources assert, has it judged, and writes the version.

Runs in a process of its own, with the database and the sealed files, without keys and without the hotline's bytes:
what it reads was verified, parsed and canonicalised before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from blocklistd.errors import StoreError
from blocklistd.guard import Figures, Hold, judge
from blocklistd.jobs.spread import processes, spread
from blocklistd.kinds import CANONICALISER
from blocklistd.limits import KEPT_SNAPSHOTS
from blocklistd.lines import Buffer, type_and_value
from blocklistd.model import Candidate, CandidateId, ListId, Reason, Sha256, SourceId, Version, VersionInfo
from blocklistd.outputs.overlay import Overlay
from blocklistd.outputs.snapshot import changed_lines, lines, splice
from blocklistd.versions.asserted import Opened, differing, intact, opened, place
from blocklistd.versions.compose import Composition, Piece, Rules, compose, compose_all
from blocklistd.versions.diffs import net_changes
from blocklistd.versions.files import SealedFiles
from blocklistd.versions.lists import ListState, edit, list_state, log_changes, oldest_diff, version_rows
from blocklistd.versions.packing import frame_of, sealed_and_packed
from blocklistd.versions.pulls import asserted_by
from blocklistd.versions.store import Store

SUFFIXES: Final = 20  # that a reviewer is shown


@dataclass(frozen=True, slots=True)
class ListPlan:
    """A list's configuration as the job needs it; `sources` in order of precedence, without quarantined ones."""

    id: ListId
    sources: tuple[SourceId, ...]
    types: tuple[str, ...]
    allow_public_suffix: bool
    allow_ip: bool
    max_added: float
    max_removed: float
    min_change: int
    min_entries: int
    max_rejected: float
    review: bool

    def fingerprint(self) -> str:
        """What, if it changes, makes every entry's answer open again."""
        return orjson.dumps(
            [CANONICALISER, self.sources, sorted(self.types), self.allow_public_suffix, self.allow_ip]
        ).decode()


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a source now says: its canonical file, and how many of its records were refused. None: it says nothing."""

    source: SourceId
    asserted: Sha256 | None
    records: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """Who asks, and when. `candidate` is the name that the change has if it is held; with `decided_by` it was held
    under that name and a person has released it, so that no guard is asked any more. `whole` is the mark of the live
    snapshot (files.mark) when it was last seen to be what its name says."""

    candidate: CandidateId
    now: datetime
    decided_by: str | None = None
    whole: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of it: `made` is the new version, None where the candidate is held (`candidate.reasons`) or where
    nothing in the list changed. `withheld` counts by rule what the list does not take, `suffixes` what is held. `whole`
    is the mark of the new snapshot, `superseded` the one that it takes the place of."""

    candidate: Candidate
    made: Version | None
    withheld: dict[str, int]
    suffixes: dict[str, int]
    whole: str | None = None
    superseded: Sha256 | None = None

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Settled:
        """From the JSON that a job answers."""
        fields = answer["candidate"]
        reasons = tuple(Reason(**reason) for reason in fields["reasons"])
        created = datetime.fromisoformat(fields["created"])
        return cls(**(answer | {"candidate": Candidate(**(fields | {"reasons": reasons, "created": created}))}))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A sealed snapshot; `length` is in bytes."""

    digest: Sha256
    length: int


def settle(store: Store, plan: ListPlan, assertion: Assertion, order: Order) -> Settled:
    """Composes and judges; where nothing holds it, writes the next version and names it in one transaction.

    Files come first and are synced before the database names them: a crash at any moment leaves the old version whole,
    and at most a file that nothing names. Raises StoreError.
    """
    with store.opened() as (database, files), ExitStack() as stack:
        with database.read() as connection:
            state, newest = list_state(connection, plan.id), asserted_by(connection, plan.id, plan.sources)
        accepted = _accepted(files, plan, state, newest, assertion)
        now = {source: stack.enter_context(opened(files, digest)) for source, digest in accepted.items()}
        live = stack.enter_context(files.map(state.live.sha256 if state.live else None))
        rules = _rules(plan, state)
        snapshot = None
        touched = _touched(files, state.accepted, now) if state.composition == plan.fingerprint() else None
        if state.live is None or touched is None:
            if state.live is not None and not files.intact(state.live.sha256):
                raise _damaged(state.live)
            buffers = [found.whole() for _, found in now.values()]
            snapshot, composition = _compose_anew(files, live if state.live else None, buffers, rules)
        else:
            for _, found in now.values():
                found.expect(len(touched))
            composition = compose(live, touched, [found.find for _, found in now.values()], rules)
        changes = bool(composition) or state.live is None
        candidate = _judged(plan, state, assertion, order, composition, changes=changes)
        if candidate.held:
            with files.map(snapshot.digest if snapshot and not state.live else None) as everything:
                suffixes = _suffixes(composition.removes, composition.adds or lines(everything))
            return Settled(candidate, None, composition.withheld, suffixes)
        if changes and snapshot is None:
            snapshot = _spliced(files, state, live, composition, order.whole)
        with edit(
            database,
            state,
            now=order.now,
            canonicaliser=CANONICALISER,
            released_by=order.decided_by or "auto",
            candidate=order.candidate if order.decided_by else None,
            composition=plan.fingerprint(),
            accepted=accepted,
        ) as draft:
            if changes and snapshot is not None:
                draft.snapshot, draft.length = snapshot.digest, snapshot.length
                draft.entries = candidate.entries
                draft.counts = {
                    "added": composition.added,
                    "removed": composition.removed,
                    "changed": composition.changed,
                }
                if state.live is not None:  # no diff starts before the first version: its rows would only be read
                    steps = [(-1, composition.removes), (+1, composition.adds)]
                    log_changes(draft.connection, plan.id, draft.number, steps)
        if not changes or snapshot is None:
            return Settled(candidate, None, composition.withheld, {})
        before = state.live.sha256 if state.live is not None else None
        return Settled(candidate, draft.number, composition.withheld, {}, files.mark(snapshot.digest), before)


def _accepted(
    files: SealedFiles, plan: ListPlan, state: ListState, newest: dict[SourceId, Sha256], assertion: Assertion
) -> dict[SourceId, Sha256]:
    """What each source asserts from now on, in the list's order of precedence."""
    if state.live is None:
        known = dict(newest)  # it is made of all that is known: it is the one that nothing can be compared with
    else:
        # where what was accepted is gone, the source has been read anew since, or will be
        gone = [source for source, digest in state.accepted.items() if place(files, digest) is None]
        known = state.accepted | {source: newest[source] for source in gone if source in newest}
    if assertion.asserted is None:
        known.pop(assertion.source, None)
    else:
        known[assertion.source] = assertion.asserted
    return {source: known[source] for source in plan.sources if source in known}


def _rules(plan: ListPlan, state: ListState) -> Rules:
    return Rules(state.secret, plan.types, plan.allow_public_suffix, plan.allow_ip)


def _touched(files: SealedFiles, accepted: dict[SourceId, Sha256], now: dict[SourceId, Opened]) -> list[bytes] | None:
    """The lines in which what the sources assert differs; None where what they did before is damaged or gone."""
    nothing = None, Overlay(b"")
    touched: list[bytes] = []
    for source in {*accepted, *now}:
        try:
            with opened(files, accepted.get(source)) as before:
                touched += differing(before, now.get(source, nothing))
        except (StoreError, ValueError):
            return None
    return touched


def _judged(
    plan: ListPlan, state: ListState, assertion: Assertion, order: Order, found: Composition, *, changes: bool
) -> Candidate:
    figures = Figures(
        live=state.live.entries if state.live else None,
        added=found.added,
        removed=found.removed,
        records=assertion.records,
        rejected=assertion.rejected,
    )
    reasons: tuple[Reason, ...] = ()
    if changes and order.decided_by is None:  # what changes nothing is not held
        verdict = judge(figures, plan, review=plan.review and bool(found))
        reasons = verdict.reasons if isinstance(verdict, Hold) else ()
    return Candidate(
        id=order.candidate,
        list=plan.id,
        source=assertion.source,
        created=order.now,
        asserted=assertion.asserted or Sha256(""),
        added=found.added,
        removed=found.removed,
        changed=found.changed,
        entries=figures.entries,
        reasons=reasons,
    )


def _compose_anew(
    files: SealedFiles, live: Buffer | None, buffers: list[Buffer], rules: Rules
) -> tuple[Snapshot, Composition]:
    """Evaluates every key, writing the snapshot while it is made; what that changes in `live` (None: there is none,
    which is not the same as an empty one). A file that is not named in the end is swept."""
    entries = 0
    withheld: Counter[str] = Counter()

    def elsewhere(work: Callable[[int], Piece], parts: int) -> Iterator[Piece]:
        def answer(part: int) -> tuple[dict[str, Any], bytes]:
            piece = work(part)
            return {"entries": piece.entries, "withheld": piece.withheld}, piece.data

        with spread(answer, min(parts, processes())) as answers:
            for figures, data in answers(parts):
                yield Piece(data, **figures)

    with sealed_and_packed(files) as packing:
        for piece in compose_all(buffers, rules, elsewhere):
            packing.write(piece.data)
            entries += piece.entries
            withheld.update(piece.withheld)
    assert packing.snapshot.sealed is not None
    snapshot = Snapshot(packing.snapshot.sealed, packing.snapshot.length)
    if live is None:
        return snapshot, Composition(withheld=dict(withheld), added=entries)
    with files.map(snapshot.digest) as new:
        return snapshot, Composition.of(*changed_lines(live, new), dict(withheld))


def _spliced(
    files: SealedFiles, state: ListState, live: Buffer, composition: Composition, seen: str | None
) -> Snapshot:
    """The next snapshot from the live one, which is looked at meanwhile, unless it is as it was when it was `seen`
    whole: a damaged file is no base for anything."""
    assert state.live is not None
    digest = state.live.sha256
    with ThreadPoolExecutor(1) as thread:
        whole = thread.submit(lambda: (seen and seen == files.mark(digest)) or files.intact(digest))
        try:
            with frame_of(files, digest) as frame, sealed_and_packed(files) as packing:
                packing.splice(live, composition.edits, frame)
        except ValueError:
            if whole.result():
                raise
        if not whole.result():
            raise _damaged(state.live)
    assert packing.snapshot.sealed is not None
    return Snapshot(packing.snapshot.sealed, packing.snapshot.length)


def _damaged(live: VersionInfo) -> StoreError:
    return StoreError(f"list {live.list}: the file of version {live.version} is damaged: restart the daemon")


def rebuild(store: Store, plan: ListPlan, version: VersionInfo) -> bool:
    """Makes a lost or damaged live snapshot again, from an older one and the log or from what its sources assert;
    whether that gave the same bytes."""
    with store.opened() as (database, files):
        with database.read() as connection:
            state, oldest = list_state(connection, plan.id), oldest_diff(connection, plan.id)
            kept = list(version_rows(connection, plan.id, newest=KEPT_SNAPSHOTS))
            older = next((old for old in kept if old.version >= oldest and files.intact(old.sha256)), None)
            steps = list(net_changes(connection, plan.id, older.version, version.version)) if older else []
        if older is not None:
            changes = [sorted(line for line, op in steps if op == sign) for sign in (-1, +1)]
            with files.map(older.sha256) as base, files.create() as draft:
                for piece in splice(base, *changes):
                    draft.write(piece)
            if draft.sealed == version.sha256:
                return True
        with ExitStack() as stack:
            ordered = [state.accepted[source] for source in plan.sources if source in state.accepted]
            if not all(intact(files, digest) for digest in ordered):
                return False
            buffers = [stack.enter_context(opened(files, digest))[1].whole() for digest in ordered]
            snapshot, _ = _compose_anew(files, None, buffers, _rules(plan, state))
        return snapshot.digest == version.sha256


def _suffixes(*changes: Iterable[bytes]) -> dict[str, int]:
    """How many of the changes are under each last label: enough to see that a country was hit by mistake.

    Not longer suffixes: two labels can be an entry's whole name, and so can one, which is counted under the root.
    """
    count: Counter[str] = Counter()
    for changed in changes:
        for line in changed:
            kind, value = type_and_value(line)
            if kind not in (b"host", b"domain", b"url"):
                count[kind.decode()] += 1
                continue
            host = value.split(b"/", 3)[2].partition(b":")[0] if kind == b"url" else value
            parent, _, last = host.rpartition(b".")
            if last.isdigit() or host.startswith(b"["):  # of the canonical names none ends in digits only
                count["address"] += 1
            else:
                count[last.decode() if parent else "."] += 1
    return dict(count.most_common(SUFFIXES))
