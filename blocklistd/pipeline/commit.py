"""The commit job of a list: compose a change, judge it with the guards, and write the new version.

It runs in a process of its own, with the database and the sealed files, but without keys and without the bytes of a
hotline: its input was verified, parsed and canonicalised before. Its caller holds the list's lock (release.py).

    compose → guard → seal and sync the snapshot and the delta → one transaction

- Each change ends in one way (CommitResult): a new version, nothing changed, held, or rejected before.
- The transaction writes the version, the accepted entries and the policy, the decision of an approval, and a line of
  the audit. A held or rejected change writes no rows; release.py records the candidate.
- A crash before the transaction leaves the old version live, and at most sealed files that no row names. The sweep
  removes these.
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
from blocklistd.store.lists import ListState, NewVersion, changed_automatically, list_state, release
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified


@dataclass(frozen=True, slots=True)
class ListPlan:
    """The configuration of a list for the job. `sources`: in order of precedence, without those in quarantine.

    `max_added`, `max_removed` and `max_rejected` are shares (0.2 is 20 %); `min_change` and `min_entries` are numbers
    of entries. compose/guard.py explains them.
    """

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
        """The policy that a version composed under this plan has."""
        return Policy(CANONICALISER, self.sources, self.types, self.allow_public_suffix, self.allow_ip)


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """A request to commit a change.

    - `candidate`: the id to use if the change is held.
    - `fingerprints`: those of the files that the job reads, as far as they are known.
    - `approved`, `act`: the held candidate that a user approves, and the command. Only its delta may be released.
    - `held`: the held candidate of the same cause; before a first version, of any cause. If the change gives its delta,
      the change stays held, even if no guard holds it any more.
    - `keep_held`: judge the change again, but hold it in any case.
    - `needs_delta`: write the delta of a first version too, to compare it with held and rejected candidates.
    """

    plan: ListPlan
    change: Change
    candidate: CandidateId
    now: datetime
    fingerprints: Fingerprints
    approved: Candidate | None = None
    act: Act | None = None
    held: Candidate | None = None
    keep_held: bool = False
    needs_delta: bool = False


@dataclass(frozen=True, slots=True)
class CommitResult:
    """Outcome of a commit. One of these is set:

    - `made`: the new version.
    - `unchanged`: the change altered no entry of the list.
    - `candidate`: the change is held. Its id is that of the candidate held so far if the delta is the same.
    - `rejected`: the candidate with this delta, which a reviewer rejected earlier.

    `verified`: the fingerprints of the files that the job verified or wrote. `withheld`: withheld entries by rule.
    `added`, `removed`, `changed`: numbers of entries. `superseded`: the snapshot of the version before; None if there
    was none, or if no version was made.
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
    def from_json(cls, answer: dict[str, Any]) -> CommitResult:
        """Reads the JSON that `commit_job` returns."""
        fields = answer["candidate"]
        if fields is None:
            return cls(**answer)
        change = fields["change"]
        change = Change(**(change | {"kind": ChangeKind(change["kind"]), "policy": Policy.from_json(change["policy"])}))
        reasons = tuple(Reason(**reason) for reason in fields["reasons"])
        created = datetime.fromisoformat(fields["created"])
        candidate = Candidate(**(fields | {"change": change, "reasons": reasons, "created": created}))
        return cls(**(answer | {"candidate": candidate}))


def commit(store: Store, request: CommitRequest) -> CommitResult:
    """Composes the change, judges it, and releases it unless it is held or was rejected.

    Raises StoreError (DamagedError where a file that the job needs is missing or damaged), and RefusedError where the
    approved candidate is no longer held.
    """
    with store.opened() as (database, files):
        verified = Verified(files, request.fingerprints)
        with database.read() as connection:
            state = list_state(connection, request.plan.id)
            automatic = changed_automatically(connection, state.id, request.now - WINDOW)
        approved = request.approved
        delta_is_reusable = (
            approved is not None
            and approved.comes_from(request.change, state.version)
            and verified.check(approved.delta)
        )
        if approved is not None and delta_is_reusable:
            composed = Composed.from_candidate(files, verified, approved)
        else:
            composed = compose_change(files, verified, state, request.change)
            if state.live is None and (request.needs_delta or _reasons_to_hold(state, request, composed, automatic)):
                composed = composed.with_delta(files, verified)
        with database.read() as connection:
            rejected = candidates.rejected(connection, state.id, composed.delta) if composed.delta else None
        counts = composed.added, composed.removed, composed.changed
        result = CommitResult(verified.fingerprints, composed.withheld, *counts)
        if rejected is not None:
            return replace(result, rejected=rejected)
        reasons = _reasons_to_hold(state, request, composed, automatic)
        if reasons:
            return replace(result, candidate=_candidate(files, state, request, composed, reasons))
        made = _new_version(files, verified, state, composed) if composed.alters or state.live is None else None
        with database.write() as connection:
            if approved is not None and request.act is not None:
                candidates.decide(connection, approved.id, Decision.of(request.act, request.now, approve=True))
            version = release(
                connection,
                state,
                request.change,
                made,
                now=request.now,
                canonicaliser=CANONICALISER,
                released_by=(request.act or AUTO).user,
                candidate=approved.id if approved else None,
                withheld=None if delta_is_reusable and state.live and state.withheld is None else composed.withheld,
            )
            _write_audit(connection, request, version, made)
        if made is None:
            return replace(result, unchanged=True)
        superseded = state.live.sha256 if state.live else None
        return replace(result, made=version, superseded=superseded)


def _write_audit(connection: Connection, request: CommitRequest, version: Version, made: NewVersion | None) -> None:
    """Writes the line of the audit: of an approval, or of a version that was released without one."""
    counts = {name: getattr(made, name) for name in ("added", "removed", "changed")} if made else {}
    detail = {"list": request.plan.id, "version": version if made else None, **counts}
    if request.act is not None and request.approved is not None:
        audit.append(
            connection,
            request.act,
            request.approved.id,
            now=request.now,
            detail={"released": made is not None, **detail},
        )
    elif made is not None:
        change = request.change
        cause = {"kind": change.kind.value, "cause": change.cause}
        audit.append(connection, AUTO, f"{request.plan.id} {version}", now=request.now, detail={**cause, **counts})


def _reasons_to_hold(
    state: ListState, request: CommitRequest, composed: Composed, automatic: tuple[int, int]
) -> tuple[Reason, ...]:
    """The reasons to hold the change. Empty if it may be released, or if it alters nothing.

    `automatic`: entries added and removed within WINDOW (24 h) by versions that no person released.
    """
    if not composed.alters and state.live is not None:
        return ()
    approved = request.approved
    if approved is not None and composed.delta == approved.delta:
        return ()
    figures = Figures(
        live=state.live.entries if state.live else None,
        added=composed.added,
        removed=composed.removed,
        records=request.change.records,
        rejected=request.change.rejected,
        day_added=automatic[0],
        day_removed=automatic[1],
    )
    verdict = judge(figures, request.plan, review=request.plan.review)
    reasons = verdict.reasons if isinstance(verdict, Hold) else ()
    if reasons:
        return reasons
    if approved is not None:
        bases = f"approved on version {approved.base}, now on version {state.version}"
        return (Reason("base", f"the delta of {approved.id}", f"another delta: {bases}"),)
    if request.keep_held or (request.held is not None and _stays_held(request.held, composed)):
        return (
            Reason("decision", "a person's", "no guard holds it now, but it was held before: approve or reject it"),
        )
    return ()


def _stays_held(held: Candidate, composed: Composed) -> bool:
    """Whether the same delta is held already, for another reason than the rejected records of its body.

    A later body can have the same entries and fewer rejected records; then the guards decide again.
    """
    return held.delta == composed.delta and any(reason.guard != "max_rejected" for reason in held.reasons)


def _candidate(
    files: SealedFiles, state: ListState, request: CommitRequest, composed: Composed, reasons: tuple[Reason, ...]
) -> Candidate:
    """The held candidate. If the same delta is held already, its id, time and suffixes are taken over."""
    assert composed.delta is not None
    same = request.held is not None and request.held.delta == composed.delta
    if request.held is not None and same:
        suffixes = request.held.suffixes
    else:
        suffixes = suffixes_of(files, composed.delta, has_changes=composed.changed > 0)
    return Candidate(
        id=request.held.id if request.held is not None and same else request.candidate,
        list=state.id,
        created=request.held.created if request.held is not None and same else request.now,
        change=request.change,
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
    """The files and counts of the new version. Seals the snapshot from the live one and the delta, unless composing has
    written it already."""
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


def commit_job(store: Store, request: CommitRequest) -> dict[str, Any]:
    """Runs `commit` in a job. Returns the CommitResult as JSON (CommitResult.from_json)."""
    return asdict(commit(store, request))


def digests_to_read(state: ListState, change: Change, others: Iterable[Sha256 | None] = ()) -> list[Sha256 | None]:
    """The sealed files that a commit reads: the live snapshot, the entries of the sources, and `others`. The bases of
    patches are not among them (asserted.bases)."""
    return [state.live.sha256 if state.live else None, *state.accepted.values(), *change.sources.values(), *others]
