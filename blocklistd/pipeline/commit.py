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

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from blocklistd.change import Candidate, Change, ChangeKind, Freeze, Reason
from blocklistd.compose.compose import ADDITIONS
from blocklistd.compose.guard import WINDOW, Hold, judge, judge_expiry
from blocklistd.errors import RefusedError
from blocklistd.jobs.sandbox import LARGE_WORK, lower_priority
from blocklistd.kinds import CANONICALISER
from blocklistd.model import AUTO, Act, CandidateId, Sha256, Version
from blocklistd.pipeline import approvals
from blocklistd.pipeline.aging import ages_of
from blocklistd.pipeline.change_figures import ChangeFigures, change_figures, guard_figures
from blocklistd.pipeline.commit_audit import write_audit
from blocklistd.pipeline.composing import Composed, apply_delta, compose_change
from blocklistd.pipeline.earlier import basis_without
from blocklistd.pipeline.exceptions import delta_without
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.pipeline.selections import selection_reasons
from blocklistd.store import candidates, corrections, freezing, guard_hits, kept_entries
from blocklistd.store.automatic import changed_automatically
from blocklistd.store.candidates import Decision
from blocklistd.store.database import Database
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import ListState, NewVersion, list_state, release
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """A request to commit a change.

    - `candidate`: the id to use if the change is held.
    - `fingerprints`: those of the files that the job reads, as far as they are known.
    - `approved`, `act`: the held candidate that a user approves, and the command. Only its delta may be released,
      without the entries that the change places corrections on (exceptions.py).
    - `held`: the held candidate of the same cause; before a first version, of any cause. If the change gives its delta,
      the change stays held, even if no guard holds it any more.
    - `keep_held`: judge the change again, but hold it in any case.
    - `reasons`: more reasons to hold the change, whatever the guards say (ListContext.reasons).
    - `freeze`: of a rollback: the list is frozen, and the held rollback superseded, in the same transaction.
    - `complete`: the snapshot of a rollback that is held: this one is without its additions, and so is its basis.
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
    reasons: tuple[Reason, ...] = ()
    needs_delta: bool = False
    freeze: Freeze | None = None
    complete: Sha256 | None = None


@dataclass(frozen=True, slots=True)
class CommitResult:
    """Outcome of a commit. One of these is set:

    - `made`: the new version.
    - `unchanged`: the change altered no entry of the list.
    - `candidate`: the change is held. Its id is that of the candidate held so far if the delta is the same.
    - `rejected`: the candidate with this delta, which a reviewer rejected earlier.

    `verified`: the fingerprints of the files that the job verified or wrote. `withheld`: withheld entries by rule.
    `added`, `removed`, `changed`: numbers of entries.
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

    @classmethod
    def from_json(cls, answer: dict[str, Any]) -> CommitResult:
        """Reads the JSON that `commit_job` returns."""
        fields = answer["candidate"]
        if fields is None:
            return cls(**answer)
        change = Change.from_json(fields["change"])
        reasons = tuple(Reason(**reason) for reason in fields["reasons"])
        times = {name: fields[name] and datetime.fromisoformat(fields[name]) for name in ("created", "next_expiry")}
        candidate = Candidate(**(fields | {"change": change, "reasons": reasons} | times))
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
        judged = compose_and_judge(database, files, verified, state, _composed_request(request))
        composed, approved = judged.composed, request.approved
        counts = composed.added, composed.removed, composed.changed
        result = CommitResult(verified.fingerprints, composed.withheld, *counts)
        if judged.rejected is not None:
            return replace(result, rejected=judged.rejected)
        if judged.reasons:
            return replace(result, candidate=_candidate(files, state, request, composed, judged.reasons))
        made = _new_version(files, verified, state, composed) if composed.alters or state.live is None else None
        change = request.change
        if request.complete is not None and state.live is not None:
            snapshot = made.snapshot if made else state.live.sha256
            change = replace(change, basis=basis_without(files, verified, change.basis, request.complete, snapshot))
        with database.write() as connection:
            released_by = ""
            if approved is not None and request.act is not None:
                excepted = [one.entry for one in request.change.places]
                decision = Decision.of(request.act, request.now, approve=True, excepted=excepted)
                approvals.refuse_other_exceptions(
                    candidates.held_case(connection, approved.id), request.plan.release, decision
                )
                case = candidates.decide(connection, approved.id, decision)
                if approvals.missing(case, request.plan.release):
                    raise RefusedError(
                        f"candidate {approved.id}: an approval by another user is missing: ask another reviewer"
                    )
                released_by = ", ".join(one.user for one in approvals.counted(case, request.plan.release))
            version = release(
                connection,
                state,
                change,
                made,
                now=request.now,
                canonicaliser=CANONICALISER,
                act=request.act or AUTO,
                candidate=approved.id if approved else None,
                released_by=released_by,
                withheld=None if judged.as_approved and state.live and state.withheld is None else composed.withheld,
                evaluated=composed.evaluated,
                next_expiry=composed.next_expiry,
                ages=composed.ages,
            )
            guard_hits.update(connection, state.id, composed.hits, composed.no_hits, request.now)
            if request.freeze is not None:
                freezing.freeze(connection, state.id, request.freeze)
                candidates.supersede_kind(connection, state.id, ChangeKind.ROLLBACK, request.now)
            write_audit(connection, request, version, made)
        if made is None:
            return replace(result, unchanged=True)
        return replace(result, made=version)


@dataclass(frozen=True, slots=True)
class Judged:
    """A composed change, and the judgement on it: the candidate with this delta that was `rejected` before, or the
    `reasons` to hold it; if there are neither, it may be released. `as_approved`: the files of the approved candidate
    were used, since it was composed from the same entries on the same version."""

    composed: Composed
    rejected: CandidateId | None
    reasons: tuple[Reason, ...]
    as_approved: bool


def compose_and_judge(
    database: Database, files: SealedFiles, verified: Verified, state: ListState, request: CommitRequest
) -> Judged:
    """Composes the change on the live version of `state`, and judges it by the guards. Seals files; writes no row.

    Raises StoreError, DamagedError among others.
    """
    approved, composed = request.approved, None
    with database.read() as connection:
        automatic = changed_automatically(connection, state.id, request.now - WINDOW)
        # a correction of an entry that is not live makes no version: the base does not show it
        corrected = approved is not None and corrections.has_any(connection, state.id)
        kept = kept_entries.kept(connection, state.id)
    ages = ages_of(files, verified, state, request.change, request.now, kept)
    is_same = approved is not None and not corrected and approved.comes_from(request.change, state.version)
    if approved is not None and is_same and verified.check(approved.delta):
        composed = Composed.from_candidate(files, verified, state, approved, request.now)
    as_approved = composed is not None
    if composed is None:
        composed = compose_change(files, verified, state, request.change, request.now, ages)
        if state.live is None and (
            request.needs_delta or _reasons_to_hold(files, state, request, composed, automatic, None)
        ):
            composed = composed.with_delta(files, verified)
    withheld = dict(composed.withheld)
    if request.complete is not None:  # its additions are held as a candidate: no rule withholds them
        withheld.pop(ADDITIONS, None)
    after = state.ages if request.change.begins_corrections else ages.after
    composed = replace(composed, ages=after, withheld=withheld)
    expected = delta_without(files, approved.delta, request.change.places) if approved is not None else None
    selected = selection_reasons(database, files, state, request.plan, request.change, composed, request.now)
    request = replace(request, reasons=request.reasons + selected)
    with database.read() as connection:
        kind = request.change.kind
        delta = composed.delta if kind not in (ChangeKind.CORRECTION, ChangeKind.ROLLBACK) else None
        of = ChangeKind.EXPIRY if kind == ChangeKind.EXPIRY else None  # a pull's rejection does not keep what has ended
        rejected = candidates.rejected(connection, state.id, delta, of) if delta else None
    reasons = () if rejected is not None else _reasons_to_hold(files, state, request, composed, automatic, expected)
    return Judged(composed, rejected, reasons, as_approved)


def _composed_request(request: CommitRequest) -> CommitRequest:
    """The request to compose: of a divided rollback, under a policy that withholds entries that are not live."""
    if request.complete is None:
        return request
    policy = replace(request.change.policy, additions=False)
    return replace(request, change=replace(request.change, policy=policy))


def _reasons_to_hold(
    files: SealedFiles,
    state: ListState,
    request: CommitRequest,
    composed: Composed,
    automatic: tuple[int, int],
    expected: Sha256 | None,
) -> tuple[Reason, ...]:
    """The reasons to hold the change. Empty if it may be released, or if it alters nothing.

    `automatic`: entries added and removed within WINDOW (24 h) by versions that no person released. `expected`: the
    delta that a user approved.
    """
    if not composed.alters and state.live is not None:
        return ()
    approved = request.approved
    if approved is not None and composed.delta == expected:
        return ()
    if request.change.places and approved is None:  # it only takes entries out: one editor may
        return ()
    if request.change.kind == ChangeKind.ROLLBACK and not composed.added and approved is None and not request.keep_held:
        return ()
    figures = guard_figures(files, state, request.change, composed, automatic)
    if request.change.kind == ChangeKind.EXPIRY:
        reasons = judge_expiry(figures, request.plan, release=request.plan.release)
        reasons += request.reasons if composed.added else ()
    else:
        takes_hits_out = not composed.added and not composed.changed and _differs_in_names(state, request.change)
        release_rule = "auto" if takes_hits_out else request.plan.release
        verdict = judge(figures, request.plan, release=release_rule)
        reasons = request.reasons + (verdict.reasons if isinstance(verdict, Hold) else ())
    if reasons:
        return reasons
    if approved is not None:
        why = f"approved on version {approved.base}, now on version {state.version}"
        if approved.base == state.version:
            why = "entries of it have ended, or a correction of them began or ended since"
        return (Reason("base", f"the delta of {approved.id}", f"another delta than that of {approved.id}: {why}"),)
    if request.keep_held or (request.held is not None and approvals.stays_held(request.held, composed.delta)):
        why = "no guard holds it now, but it was held before: approve or reject it"
        return (Reason("decision", "a person's", why),)
    return ()


def _differs_in_names(state: ListState, change: Change) -> bool:
    """Whether the change alters nothing but the names of the policy in force: those of guard files, of the publisher
    and of subscribers. If it only takes entries out, no reviewer holds it, as none holds a delisting."""
    if change.kind != ChangeKind.POLICY or state.policy is None:
        return False
    return state.policy.with_names_of(change.policy) == change.policy


def _candidate(
    files: SealedFiles, state: ListState, request: CommitRequest, composed: Composed, reasons: tuple[Reason, ...]
) -> Candidate:
    """The held candidate. If the same delta is held already, its id, time, actor and figures are taken over."""
    assert composed.delta is not None
    same = request.held if request.held is not None and request.held.delta == composed.delta else None
    change = request.change
    if same is not None:
        change = replace(change, actor=same.change.actor, actor_uid=same.change.actor_uid)
    if same is not None and same.categories:
        figures = ChangeFigures(same.suffixes, same.categories, same.by_source)
    else:
        figures = change_figures(files, state, change, composed)
    return Candidate(
        id=same.id if same is not None else request.candidate,
        list=state.id,
        created=same.created if same is not None else request.now,
        change=change,
        base=state.version,
        delta=composed.delta,
        added=composed.added,
        removed=composed.removed,
        changed=composed.changed,
        entries=(state.live.entries if state.live else 0) + composed.added - composed.removed,
        reasons=reasons,
        withheld=composed.withheld,
        suffixes=figures.suffixes,
        snapshot=composed.snapshot.digest if composed.snapshot else None,
        hits=composed.hits_by_rule,
        categories=figures.categories,
        by_source=figures.by_source,
        next_expiry=composed.next_expiry,
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
    """Runs `commit` in a job; a correction comes before other lists' changes. Returns the CommitResult as JSON."""
    if not request.change.begins_corrections:
        lower_priority(LARGE_WORK)
    return asdict(commit(store, request))
