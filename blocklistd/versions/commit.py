"""The trusted job: composes a list from what its sources assert, has it judged, and writes the version.

Runs in a process of its own, with the database and the sealed files, without keys and without the hotline's bytes:
what it reads was verified, parsed and canonicalised before. `propose` answers what a release would change and whether
it is held; `release` does it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from blocklistd.errors import StoreError
from blocklistd.guard import Figures, Hold, judge
from blocklistd.kinds import CANONICALISER
from blocklistd.lines import Buffer, type_and_value
from blocklistd.model import Candidate, CandidateId, ListId, Reason, Sha256, SourceId, Version, VersionInfo
from blocklistd.outputs.snapshot import changed_lines, splice
from blocklistd.versions.compose import Composition, Rules, compose, compose_all
from blocklistd.versions.files import SealedFiles
from blocklistd.versions.lists import ListState, edit, list_state, log_changes
from blocklistd.versions.pulls import asserted_by
from blocklistd.versions.render import compress
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
class ReleaseOrder:
    """Who releases, when, and the candidate that it releases, if it was held."""

    candidate: CandidateId | None
    released_by: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a release would do; `changes` is false where the list stays as it is."""

    candidate: Candidate
    changes: bool
    withheld: dict[str, int]
    suffixes: dict[str, int]


def propose(store: Store, plan: ListPlan, assertion: Assertion, candidate: CandidateId, now: datetime) -> Proposal:
    """Composes and judges; writes nothing."""
    with store.opened() as (database, files):
        with database.read() as connection:
            state, first = list_state(connection, plan.id), asserted_by(connection, plan.id, plan.sources)
        with _composed(files, plan, state, first, assertion) as (_, composition, _):
            live = state.live.entries if state.live else None
            figures = Figures(
                live=live,
                added=composition.added,
                removed=composition.removed,
                records=assertion.records,
                rejected=assertion.rejected,
            )
            verdict = judge(figures, plan, review=plan.review and bool(composition))
            reasons: tuple[Reason, ...] = verdict.reasons if isinstance(verdict, Hold) else ()
            proposed = Candidate(
                id=candidate,
                list=plan.id,
                source=assertion.source,
                created=now,
                asserted=assertion.asserted or Sha256(""),
                added=composition.added,
                removed=composition.removed,
                changed=composition.changed,
                entries=figures.entries,
                reasons=reasons,
            )
            changes = bool(composition) or state.live is None
            return Proposal(proposed, changes, composition.withheld, _suffixes(composition) if reasons else {})


def proposal_of(answer: dict[str, Any]) -> Proposal:
    """A Proposal from the JSON that a job answers."""
    fields = answer["candidate"]
    reasons = tuple(Reason(**reason) for reason in fields["reasons"])
    created = datetime.fromisoformat(fields["created"])
    return Proposal(**(answer | {"candidate": Candidate(**(fields | {"reasons": reasons, "created": created}))}))


def release(store: Store, plan: ListPlan, assertion: Assertion, order: ReleaseOrder) -> Version | None:
    """Writes the next version, and names it in one transaction; its number, or None where nothing in the list changed.

    Files come first and are synced before the database names them: a crash at any moment leaves the old version whole,
    and at most a file that nothing names.
    """
    with store.opened() as (database, files):
        with database.read() as connection:
            state, first = list_state(connection, plan.id), asserted_by(connection, plan.id, plan.sources)
        if state.live is not None and not files.intact(state.live.sha256):
            raise StoreError(f"list {plan.id}: the file of version {state.live.version} is damaged: restart the daemon")
        with _composed(files, plan, state, first, assertion) as (live, composition, accepted):
            changes = bool(composition) or state.live is None
            sealed = _write_snapshot(files, live, composition) if changes else None
            with edit(
                database,
                state,
                now=order.now,
                canonicaliser=CANONICALISER,
                released_by=order.released_by,
                candidate=order.candidate,
                composition=plan.fingerprint(),
                accepted=accepted,
            ) as draft:
                if sealed is not None:
                    draft.snapshot, draft.length = sealed
                    draft.entries = (state.live.entries if state.live else 0) + composition.added - composition.removed
                    draft.counts = {
                        "added": composition.added,
                        "removed": composition.removed,
                        "changed": composition.changed,
                    }
                    if state.live is not None:  # no diff starts before the first version: its rows would only be read
                        steps = [(-1, composition.removes), (+1, composition.adds)]
                        log_changes(draft.connection, plan.id, draft.number, steps)
            return draft.number if sealed is not None else None


@contextmanager
def _composed(
    files: SealedFiles, plan: ListPlan, state: ListState, first: dict[SourceId, Sha256], assertion: Assertion
) -> Iterator[tuple[Buffer, Composition, dict[SourceId, Sha256]]]:
    """The live snapshot, the change to it, and what each source asserts after it."""
    # a first version is made of all that is known: it is the one that nothing can be compared with
    known = dict(state.accepted if state.live else first)
    if assertion.asserted is None:
        known.pop(assertion.source, None)
    else:
        known[assertion.source] = assertion.asserted
    accepted = {source: known[source] for source in plan.sources if source in known}
    rules = Rules(state.secret, plan.types, plan.allow_public_suffix, plan.allow_ip)
    with ExitStack() as stack:
        live = stack.enter_context(files.map(state.live.sha256 if state.live else None))
        buffers = [stack.enter_context(files.map(digest)) for digest in accepted.values()]
        if state.live is None or state.composition != plan.fingerprint():
            composition = compose_all(live, buffers, rules)
        else:
            touched: list[bytes] = []
            for source in {*accepted, *state.accepted}:
                before, after = state.accepted.get(source), accepted.get(source)
                if before != after:
                    old, new = stack.enter_context(files.map(before)), stack.enter_context(files.map(after))
                    for changed in changed_lines(old, new):
                        touched += changed
            composition = compose(live, touched, buffers, rules)
        yield live, composition, accepted


def _write_snapshot(files: SealedFiles, live: Buffer, composition: Composition) -> tuple[Sha256, int]:
    """Seals the snapshot and its zstd rendering; the digest and length of the former."""
    with files.create() as snapshot:
        for piece in splice(live, composition.removes, composition.adds):
            snapshot.write(piece)
    assert snapshot.sealed is not None
    compress(files.path(snapshot.sealed), "zstd", files.disk)
    return snapshot.sealed, snapshot.length


def rebuild(store: Store, plan: ListPlan, version: VersionInfo) -> bool:
    """Makes a lost or damaged live snapshot again from what its sources assert; whether that gave the same bytes."""
    with store.opened() as (database, files):
        with database.read() as connection:
            state = list_state(connection, plan.id)
        rules = Rules(state.secret, plan.types, plan.allow_public_suffix, plan.allow_ip)
        with ExitStack() as stack:
            ordered = [state.accepted[source] for source in plan.sources if source in state.accepted]
            if not all(files.intact(digest) for digest in ordered):
                return False
            buffers = [stack.enter_context(files.map(digest)) for digest in ordered]
            sealed, _ = _write_snapshot(files, b"", compose_all(b"", buffers, rules))
        return sealed == version.sha256


def _suffixes(composition: Composition) -> dict[str, int]:
    """How many of the changes are under each last label: enough to see a country or a platform hit by mistake.

    Not longer suffixes: two labels can be an entry's whole name.
    """
    count: Counter[str] = Counter()
    for changed in (composition.removes, composition.adds):
        for line in changed:
            kind, value = type_and_value(line)
            if kind in (b"host", b"domain"):
                count[value.rpartition(b".")[2].decode()] += 1
            elif kind == b"url":
                host = value.split(b"/", 3)[2].partition(b":")[0]
                count[host.rpartition(b".")[2].decode()] += 1
            else:
                count[kind.decode()] += 1
    return dict(count.most_common(SUFFIXES))
