"""Candidates that are held for a reviewer, and the decisions on them.

States of a candidate; all but `held` are final:

    (new) → held         `hold`
    held  → held         `renew`: the same delta on another base, or with other reasons; its decisions stay
    held  → released     `lists.release`, after enough approvals
    held  → rejected     `decide`, with one rejection
    held  → superseded   `supersede`: its cause now has another change or none; or a newer candidate takes its place

At most one candidate is held for each list, kind of change and cause (Change.cause). A decision is bound to the digest
of the delta: an approval releases no other delta, and a rejected delta is not held again. A person may ask again for
the end of a correction and for a rollback; a delta that was rejected as another kind of change does not stop an expiry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select, update

from blocklistd.change import Candidate, Change, ChangeKind, Policy, Reason
from blocklistd.errors import RefusedError
from blocklistd.model import Act, CandidateId, ListId, Sha256
from blocklistd.store.schema import candidates, decisions, versions


@dataclass(frozen=True, slots=True)
class Decision:
    """A reviewer's decision on a candidate. `uid`: of the process at the control socket; it identifies the user.
    `excepted`: ids of the entries without which it is approved, sorted."""

    uid: int
    user: str
    time: datetime
    approve: bool
    excepted: tuple[str, ...] = ()

    @classmethod
    def of(cls, act: Act, time: datetime, *, approve: bool, excepted: Iterable[str] = ()) -> Decision:
        """The decision of the user of an act."""
        assert act.uid is not None, "only a person decides"
        return cls(act.uid, act.user, time, approve, tuple(sorted(set(excepted))))


@dataclass(frozen=True, slots=True)
class Case:
    """A candidate with its state and decisions. `why`: the reviewer's reason, for a rejected one. `version`: the live
    version after its release, else None."""

    candidate: Candidate
    state: str
    decisions: tuple[Decision, ...]
    why: str | None
    version: int | None


def hold(connection: Connection, candidate: Candidate) -> None:
    """Holds the candidate and supersedes the held one of the same cause. A candidate for a first version supersedes
    all others of the list, since it is composed from all sources."""
    change = candidate.change
    if candidate.base:
        supersede(connection, candidate.list, change.kind, change.cause, candidate.created)
    else:
        _supersede(connection, candidate.list, candidate.created)
    connection.execute(candidates.insert().values(id=candidate.id, state="held", **_columns(candidate)))


def renew(connection: Connection, candidate: Candidate) -> None:
    """Updates a held candidate that has the same delta on another base, or new reasons. Its decisions stay."""
    connection.execute(update(candidates).where(candidates.c.id == candidate.id).values(**_columns(candidate)))


def _columns(candidate: Candidate) -> dict[str, Any]:
    change = candidate.change
    return {
        "list": candidate.list,
        "kind": change.kind.value,
        "cause": change.cause,
        "actor": change.actor,
        "actor_uid": change.actor_uid,
        "created": candidate.created,
        "base": candidate.base,
        "sources": change.sources,
        "policy": change.policy.to_json(),
        "delta": candidate.delta,
        "snapshot": candidate.snapshot,
        "added": candidate.added,
        "removed": candidate.removed,
        "changed": candidate.changed,
        "entries": candidate.entries,
        "records": change.records,
        "rejected": change.rejected,
        "reasons": [[reason.guard, reason.limit, reason.found] for reason in candidate.reasons],
        "withheld": candidate.withheld,
        "suffixes": candidate.suffixes,
        "basis": change.basis,
        "lifts": list(change.lifts),
        "evaluated": change.evaluated,
        "hits": candidate.hits,
        "categories": candidate.categories,
        "by_source": candidate.by_source,
        "next_expiry": candidate.next_expiry,
    }


def supersede(connection: Connection, list_id: ListId, kind: ChangeKind, cause: str, now: datetime) -> None:
    """Supersedes the held candidate of a cause, which now has another change, or none."""
    _supersede(connection, list_id, now, candidates.c.kind == kind, candidates.c.cause == cause)


def supersede_kind(connection: Connection, list_id: ListId, kind: ChangeKind, now: datetime) -> None:
    """Supersedes the held candidates of a kind, whatever their cause."""
    _supersede(connection, list_id, now, candidates.c.kind == kind)


def _supersede(connection: Connection, list_id: ListId, now: datetime, *which: Any) -> None:
    connection.execute(
        update(candidates)
        .where(candidates.c.state == "held", candidates.c.list == list_id, *which)
        .values(state="superseded", decided=now)
    )


def held(connection: Connection, list_id: ListId | None = None) -> list[Case]:
    """The held candidates of a list, or of all lists, oldest first."""
    query = select(candidates).where(candidates.c.state == "held").order_by(candidates.c.created, candidates.c.id)
    if list_id is not None:
        query = query.where(candidates.c.list == list_id)
    return [_case(connection, row) for row in connection.execute(query).all()]


class Tripped(NamedTuple):
    """A candidate that began to be held: when, and by which guards."""

    created: datetime
    guards: list[str]


def tripped(connection: Connection, since: datetime, most: int) -> list[Tripped]:
    """The candidates that began to be held since then, at most the newest `most`, decided ones included."""
    columns = candidates.c.created, candidates.c.reasons
    newest = select(*columns).where(candidates.c.created >= since).order_by(candidates.c.created.desc()).limit(most)
    return [Tripped(row.created, [reason[0] for reason in row.reasons]) for row in connection.execute(newest)]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A held candidate. `since`: the time since which a candidate of its cause is held without a break, and `first` the
    id of the one that was held first: a source whose list keeps changing supersedes its candidate at each pull."""

    candidate: CandidateId
    list: ListId
    first: CandidateId
    since: datetime
    approvals: int


def waiting(connection: Connection) -> list[Waiting]:
    """What waits for a person, oldest candidate first."""
    found = []
    for one in held(connection):
        change, first, since = one.candidate.change, one.candidate.id, one.candidate.created
        earlier = select(candidates.c.id, candidates.c.created, candidates.c.decided).where(
            candidates.c.state == "superseded",
            candidates.c.list == one.candidate.list,
            candidates.c.kind == change.kind,
            candidates.c.cause == change.cause,
            candidates.c.created < since,
        )
        for row in connection.execute(earlier.order_by(candidates.c.created.desc())).all():
            if row.decided != since:
                break
            first, since = CandidateId(row.id), row.created
        approvals = sum(decision.approve for decision in one.decisions)
        found.append(Waiting(one.candidate.id, one.candidate.list, first, since, approvals))
    return found


def case(connection: Connection, candidate: CandidateId) -> Case:
    """The candidate with this id. Raises RefusedError if there is none."""
    row = connection.execute(select(candidates).where(candidates.c.id == candidate)).first()
    if row is None:
        raise RefusedError("there is no such candidate: run `blocklistd candidate list` for those that are held")
    return _case(connection, row)


def rejected(
    connection: Connection, list_id: ListId, delta: Sha256, kind: ChangeKind | None = None
) -> CandidateId | None:
    """The rejected candidate with this delta, of this kind of change (None: of any), or None."""
    which = candidates.c.state == "rejected", candidates.c.list == list_id, candidates.c.delta == delta
    of_kind = (candidates.c.kind == kind,) if kind is not None else ()
    return connection.execute(select(candidates.c.id).where(*which, *of_kind)).scalar()


@dataclass(frozen=True, slots=True)
class KnownExpiries:
    """`last`: when the newest expiry of a list was made, or rejected. `held`: Change.evaluated of the one that is held;
    None if there is none."""

    last: datetime | None
    held: datetime | None


def expiries_of(connection: Connection, list_id: ListId) -> KnownExpiries:
    """The expiries of a list."""
    made = select(func.max(versions.c.time)).where(versions.c.list == list_id, versions.c.kind == ChangeKind.EXPIRY)
    here = candidates.c.list == list_id, candidates.c.kind == ChangeKind.EXPIRY
    refused = select(func.max(candidates.c.decided)).where(*here, candidates.c.state == "rejected")
    held = select(candidates.c.evaluated).where(*here, candidates.c.state == "held")
    last = max(filter(None, (connection.execute(query).scalar() for query in (made, refused))), default=None)
    return KnownExpiries(last, connection.execute(held).scalar())


def rejected_candidates(connection: Connection, list_id: ListId) -> list[Candidate]:
    """The rejected candidates of a list, without those whose cause made a version since."""
    since = select(func.coalesce(func.max(versions.c.version), 0)).where(
        versions.c.list == list_id, versions.c.kind == candidates.c.kind, versions.c.cause == candidates.c.cause
    )
    rows = connection.execute(
        select(candidates).where(
            candidates.c.state == "rejected",
            candidates.c.list == list_id,
            candidates.c.base >= since.correlate(candidates).scalar_subquery(),
        )
    ).all()
    return [_case(connection, row).candidate for row in rows]


def held_case(connection: Connection, candidate: CandidateId) -> Case:
    """The held candidate with this id. Raises RefusedError if there is none or it is not held."""
    found = case(connection, candidate)
    if found.state != "held":
        raise RefusedError(
            f"candidate {candidate} is {found.state}, not held: run `blocklistd candidate list` for those that are held"
        )
    return found


def decide(connection: Connection, candidate: CandidateId, decision: Decision, why: str | None = None) -> Case:
    """Records a user's decision, in place of an earlier one by the same uid. A rejection is final.

    Returns the candidate's new state. Raises RefusedError if the candidate is not held.
    """
    held_case(connection, candidate)
    connection.execute(decisions.delete().where(decisions.c.candidate == candidate, decisions.c.uid == decision.uid))
    connection.execute(
        decisions.insert().values(
            candidate=candidate,
            uid=decision.uid,
            user=decision.user,
            time=decision.time,
            approve=int(decision.approve),
            excepted=list(decision.excepted) or None,
        )
    )
    if not decision.approve:
        connection.execute(
            update(candidates)
            .where(candidates.c.id == candidate)
            .values(state="rejected", decided=decision.time, why=why)
        )
    return case(connection, candidate)


def is_file_of_held_candidate(connection: Connection, list_id: ListId, files: Collection[Sha256]) -> bool:
    """Whether one of the files is the delta or the snapshot of a held candidate of the list."""
    return (
        connection.execute(
            select(candidates.c.id).where(
                candidates.c.state == "held",
                candidates.c.list == list_id,
                candidates.c.delta.in_(files) | candidates.c.snapshot.in_(files),
            )
        ).first()
        is not None
    )


def lifted(connection: Connection, list_id: ListId) -> set[int]:
    """The numbers of the corrections whose end is held, or was rejected."""
    here = candidates.c.list == list_id, candidates.c.kind == ChangeKind.CORRECTION
    which = candidates.c.state.in_(("held", "rejected"))
    rows = connection.execute(select(candidates.c.lifts).where(*here, which)).scalars()
    return {number for lifts in rows for number in lifts or ()}


def count_held(connection: Connection) -> int:
    """How many candidates are held, in all lists."""
    return int(connection.execute(select(func.count()).where(candidates.c.state == "held")).scalar_one())


def held_by_list(connection: Connection) -> dict[ListId, int]:
    """How many candidates are held, by list; a list without any has no key."""
    query = select(candidates.c.list, func.count()).where(candidates.c.state == "held").group_by(candidates.c.list)
    return {ListId(row[0]): int(row[1]) for row in connection.execute(query)}


def _case(connection: Connection, row: Row[Any]) -> Case:
    made = connection.execute(select(decisions).where(decisions.c.candidate == row.id).order_by(decisions.c.time)).all()
    return Case(
        candidate=Candidate(
            id=row.id,
            list=row.list,
            created=row.created,
            change=Change(
                kind=ChangeKind(row.kind),
                cause=row.cause,
                policy=Policy.from_json(row.policy),
                sources=row.sources,
                actor=row.actor,
                actor_uid=row.actor_uid,
                records=row.records,
                rejected=row.rejected,
                basis=row.basis,
                lifts=tuple(row.lifts or ()),
                evaluated=row.evaluated,
            ),
            base=row.base,
            delta=row.delta,
            added=row.added,
            removed=row.removed,
            changed=row.changed,
            entries=row.entries,
            reasons=tuple(Reason(*reason) for reason in row.reasons),
            withheld=row.withheld,
            suffixes=row.suffixes,
            snapshot=row.snapshot,
            hits=row.hits or {},
            categories=row.categories or {},
            by_source=row.by_source or {},
            next_expiry=row.next_expiry,
        ),
        state=row.state,
        decisions=tuple(Decision(d.uid, d.user, d.time, bool(d.approve), tuple(d.excepted or ())) for d in made),
        why=row.why,
        version=row.version,
    )
