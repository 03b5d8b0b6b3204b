"""The trusted job of a list: compose a change, judge it, and write the version.

It runs in a process of its own, with the database and the sealed files, without keys and without the hotline's bytes:
what it reads was verified, parsed and canonicalised before.

    compose → guard → release (snapshot and delta are sealed and synced, then one transaction names them)

A crash at any moment leaves the old version as it is, and at most a file that nothing names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from blocklistd.compose.guard import WINDOW, DailyLimits, Figures, Hold, judge
from blocklistd.kinds import CANONICALISER
from blocklistd.model import (
    AUTO,
    Act,
    Candidate,
    CandidateId,
    Change,
    ChangeKind,
    ListId,
    Policy,
    Reason,
    Sha256,
    SourceId,
    Version,
)
from blocklistd.pipeline.composing import Composed, apply_delta, compose_change, suffixes_of
from blocklistd.store import audit, candidates
from blocklistd.store.candidates import Decision
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import ListState, NewVersion, changed_without_a_person, list_state, release
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified


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
    daily: DailyLimits | None
    min_change: int
    min_entries: int
    max_rejected: float
    review: bool

    @property
    def policy(self) -> Policy:
        return Policy(CANONICALISER, self.sources, self.types, self.allow_public_suffix, self.allow_ip)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the job is asked to do with a change.

    `candidate`: the id to use if the change is held. `approved`: the held candidate that `act` approves: its delta is
    released, and no other. `held`: the candidate that is held of the same cause, or for a first version; the same
    delta stays held, even if no guard holds it any more. `hold_all`: judge only, release nothing. `compare`: a first
    version needs its delta, since candidates of the list are held or were rejected.
    """

    plan: ListPlan
    change: Change
    candidate: CandidateId
    now: datetime
    fingerprints: Fingerprints
    approved: Candidate | None = None
    act: Act | None = None
    held: Candidate | None = None
    hold_all: bool = False
    compare: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a change. One of: `made`, the new version; `unchanged`, it altered nothing in the list;
    `candidate`, it waits for a person (with the id of the candidate that was held, if the delta is the same);
    `rejected`, the candidate by which a person refused this delta.

    `superseded` is the snapshot that the new version takes the place of; `withheld` counts by rule.
    """

    verified: dict[Sha256, str]
    withheld: dict[str, int]
    added: int
    removed: int
    changed: int
    made: Version | None = None
    unchanged: bool = False
    candidate: Candidate | None = None
    rejected: CandidateId | None = None
    superseded: Sha256 | None = None

    @classmethod
    def from_json(cls, answer: dict[str, Any]) -> Settled:
        """From the JSON that the job answers."""
        fields = answer["candidate"]
        if fields is None:
            return cls(**answer)
        change = fields["change"]
        change = Change(**(change | {"kind": ChangeKind(change["kind"]), "policy": Policy.from_json(change["policy"])}))
        reasons = tuple(Reason(**reason) for reason in fields["reasons"])
        created = datetime.fromisoformat(fields["created"])
        candidate = Candidate(**(fields | {"change": change, "reasons": reasons, "created": created}))
        return cls(**(answer | {"candidate": candidate}))


def settle(store: Store, wanted: Settlement) -> Settled:
    """Composes the change, judges it, and releases it unless it has to be held. Raises StoreError."""
    with store.opened() as (database, files):
        verified = Verified(files, wanted.fingerprints)
        with database.read() as connection:
            state = list_state(connection, wanted.plan.id)
            day = changed_without_a_person(connection, state.id, wanted.now - WINDOW)
        approved = wanted.approved
        is_as_approved = (
            approved is not None
            and approved.comes_from(wanted.change, state.version)
            and verified.check(approved.delta)
        )
        if approved is not None and is_as_approved:
            composed = Composed.of(files, verified, approved)
        else:
            composed = compose_change(files, verified, state, wanted.change)
            if state.live is None and (wanted.compare or _holds(state, wanted, composed, day)):
                composed = composed.with_delta(files, verified)
        with database.read() as connection:
            refused = candidates.rejected(connection, state.id, composed.delta) if composed.delta else None
        counts = composed.added, composed.removed, composed.changed
        found = Settled(verified.fingerprints, composed.withheld, *counts)
        if refused is not None:
            return replace(found, rejected=refused)
        reasons = _holds(state, wanted, composed, day)
        if reasons:
            return replace(found, candidate=_candidate(files, state, wanted, composed, reasons))
        made = _new_version(files, verified, state, composed) if composed.alters or state.live is None else None
        with database.write() as connection:
            if approved is not None and wanted.act is not None:
                candidates.decide(connection, approved.id, Decision.of(wanted.act, wanted.now, approve=True))
            live = release(
                connection,
                state,
                wanted.change,
                made,
                now=wanted.now,
                canonicaliser=CANONICALISER,
                released_by=(wanted.act or AUTO).user,
                candidate=approved.id if approved else None,
                withheld=None if is_as_approved and state.live and state.withheld is None else composed.withheld,
            )
            _write_audit(connection, wanted, live, made)
        if made is None:
            return replace(found, unchanged=True)
        before = state.live.sha256 if state.live else None
        return replace(found, made=live, superseded=before)


def _write_audit(connection: Connection, wanted: Settlement, version: Version, made: NewVersion | None) -> None:
    figures = {name: getattr(made, name) for name in ("added", "removed", "changed")} if made else {}
    detail = {"list": wanted.plan.id, "version": version if made else None, **figures}
    if wanted.act is not None and wanted.approved is not None:
        audit.append(
            connection, wanted.act, wanted.approved.id, now=wanted.now, detail={"released": made is not None, **detail}
        )
    elif made is not None:
        change = wanted.change
        cause = {"kind": change.kind.value, "cause": change.cause}
        audit.append(connection, AUTO, f"{wanted.plan.id} {version}", now=wanted.now, detail={**cause, **figures})


def _holds(state: ListState, wanted: Settlement, composed: Composed, day: tuple[int, int]) -> tuple[Reason, ...]:
    """Why the change is held; empty where it may be released, and where it changes nothing. `day`: entries added and
    removed within WINDOW by versions that no person released."""
    if not composed.alters and state.live is not None:
        return ()
    approved = wanted.approved
    if approved is not None and composed.delta == approved.delta:
        return ()
    figures = Figures(
        live=state.live.entries if state.live else None,
        added=composed.added,
        removed=composed.removed,
        records=wanted.change.records,
        rejected=wanted.change.rejected,
        day_added=day[0],
        day_removed=day[1],
    )
    verdict = judge(figures, wanted.plan, review=wanted.plan.review)
    reasons = verdict.reasons if isinstance(verdict, Hold) else ()
    if reasons:
        return reasons
    if approved is not None:
        was = f"approved on version {approved.base}, now on version {state.version}"
        return (Reason("base", f"the delta of {approved.id}", f"another delta: {was}"),)
    if wanted.hold_all or (wanted.held is not None and _stays_held(wanted.held, composed)):
        return (
            Reason("decision", "a person's", "no guard holds it now; it was held before, and waits for a decision"),
        )
    return ()


def _stays_held(held: Candidate, composed: Composed) -> bool:
    """Whether the delta is one that waits for a person. A body that was held for its rejected records alone may come
    again without them: then the guards decide."""
    return held.delta == composed.delta and any(reason.guard != "max_rejected" for reason in held.reasons)


def _candidate(
    files: SealedFiles, state: ListState, wanted: Settlement, composed: Composed, reasons: tuple[Reason, ...]
) -> Candidate:
    assert composed.delta is not None
    same = wanted.held is not None and wanted.held.delta == composed.delta
    if wanted.held is not None and same:
        suffixes = wanted.held.suffixes
    else:
        suffixes = suffixes_of(files, composed.delta, has_changes=composed.changed > 0)
    return Candidate(
        id=wanted.held.id if wanted.held is not None and same else wanted.candidate,
        list=state.id,
        created=wanted.held.created if wanted.held is not None and same else wanted.now,
        change=wanted.change,
        base=state.version,
        delta=composed.delta,
        added=composed.added,
        removed=composed.removed,
        changed=composed.changed,
        entries=(state.live.entries if state.live else 0) + composed.added - composed.removed,
        reasons=reasons,
        withheld=composed.withheld,
        suffixes=suffixes,
        snapshot=composed.snapshot.digest if composed.snapshot else None,
    )


def _new_version(files: SealedFiles, verified: Verified, state: ListState, composed: Composed) -> NewVersion:
    """The sealed files of the next version: the snapshot that composing has written, or the live one with the delta."""
    snapshot = composed.snapshot
    if snapshot is None:
        live = state.live.sha256 if state.live else None
        verified.require(live, composed.delta)
        snapshot = apply_delta(files, verified, live, composed.delta)
    return NewVersion(
        snapshot=snapshot.digest,
        length=snapshot.length,
        delta=composed.delta if state.live is not None else None,
        entries=(state.live.entries if state.live else 0) + composed.added - composed.removed,
        added=composed.added,
        removed=composed.removed,
        changed=composed.changed,
    )


def job_settle(store: Store, wanted: Settlement) -> dict[str, Any]:
    """`settle` as a job: its answer is JSON."""
    return asdict(settle(store, wanted))


def digests_of(state: ListState, change: Change, others: Iterable[Sha256 | None] = ()) -> list[Sha256 | None]:
    """The sealed files that settling reads, without the bases of overlays: their fingerprints go to the job."""
    return [state.live.sha256 if state.live else None, *state.accepted.values(), *change.sources.values(), *others]
