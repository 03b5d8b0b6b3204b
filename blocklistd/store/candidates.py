"""Candidates that wait for a person, and the decisions on them.

States: a candidate begins as `held`, and ends as `released`, `rejected` or `superseded` (by a newer candidate of the
same cause, or because its cause is gone). At most one is held per list and cause: a source, or the policy. A decision
is bound to the digest of the delta: a rejected delta is never held again, and an approval releases no other delta.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from blocklistd.errors import RefusedError
from blocklistd.model import Act, Candidate, CandidateId, Change, ChangeKind, ListId, Policy, Reason, Sha256
from blocklistd.store.schema import candidates, decisions, versions


@dataclass(frozen=True, slots=True)
class Decision:
    """Who said what about a candidate; a user is known by the uid behind the control socket."""

    uid: int
    user: str
    time: datetime
    approve: bool

    @classmethod
    def of(cls, act: Act, time: datetime, *, approve: bool) -> Decision:
        assert act.uid is not None, "a decision is a person's"
        return cls(act.uid, act.user, time, approve)


@dataclass(frozen=True, slots=True)
class Case:
    """A candidate and what became of it. `version` is the live version once it was released."""

    candidate: Candidate
    state: str
    decisions: tuple[Decision, ...]
    why: str | None
    version: int | None


def hold(connection: Connection, candidate: Candidate) -> None:
    """Puts the candidate before a reviewer, in place of the held one of the same cause. A candidate for a first version
    is composed from all sources, so it takes the place of every other."""
    change = candidate.change
    if candidate.base:
        supersede(connection, candidate.list, change.kind, change.cause, candidate.created)
    else:
        _supersede(connection, candidate.list, candidate.created)
    connection.execute(candidates.insert().values(id=candidate.id, state="held", **_columns(candidate)))


def renew(connection: Connection, candidate: Candidate) -> None:
    """The held candidate has the same delta on another base, or was judged again: decisions on it stay as they are."""
    connection.execute(update(candidates).where(candidates.c.id == candidate.id).values(**_columns(candidate)))


def _columns(candidate: Candidate) -> dict[str, Any]:
    change = candidate.change
    return {
        "list": candidate.list,
        "kind": change.kind.value,
        "cause": change.cause,
        "actor": change.actor,
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
    }


def supersede(connection: Connection, list_id: ListId, kind: ChangeKind, cause: str, now: datetime) -> None:
    """The cause asks for something else now, or for nothing: what is held of it is no longer to be published."""
    _supersede(connection, list_id, now, candidates.c.kind == kind, candidates.c.cause == cause)


def _supersede(connection: Connection, list_id: ListId, now: datetime, *which: Any) -> None:
    connection.execute(
        update(candidates)
        .where(candidates.c.state == "held", candidates.c.list == list_id, *which)
        .values(state="superseded", decided=now)
    )


def held(connection: Connection, list_id: ListId | None = None) -> list[Case]:
    """What waits for a person, oldest first."""
    query = select(candidates).where(candidates.c.state == "held").order_by(candidates.c.created, candidates.c.id)
    if list_id is not None:
        query = query.where(candidates.c.list == list_id)
    return [_case(connection, row) for row in connection.execute(query).all()]


def case(connection: Connection, candidate: CandidateId) -> Case:
    """Raises RefusedError where there is no such candidate."""
    row = connection.execute(select(candidates).where(candidates.c.id == candidate)).first()
    if row is None:
        raise RefusedError("there is no such candidate: `blocklistd candidate list` names those that are held")
    return _case(connection, row)


def rejected(connection: Connection, list_id: ListId, delta: Sha256) -> CandidateId | None:
    """The candidate with this delta that a reviewer rejected."""
    return connection.execute(
        select(candidates.c.id).where(
            candidates.c.state == "rejected", candidates.c.list == list_id, candidates.c.delta == delta
        )
    ).scalar()


def refusals(connection: Connection, list_id: ListId) -> list[Candidate]:
    """The rejected candidates of a list whose cause has changed nothing in it since."""
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
    """A candidate that can be decided on. Raises RefusedError for any other."""
    found = case(connection, candidate)
    if found.state != "held":
        raise RefusedError(f"candidate {candidate} is {found.state}, not held: nothing is left to decide")
    return found


def decide(connection: Connection, candidate: CandidateId, decision: Decision, why: str | None = None) -> Case:
    """Records one person's decision; a rejection is final. Raises RefusedError if the candidate is not held."""
    held_case(connection, candidate)
    connection.execute(decisions.delete().where(decisions.c.candidate == candidate, decisions.c.uid == decision.uid))
    connection.execute(
        decisions.insert().values(
            candidate=candidate,
            uid=decision.uid,
            user=decision.user,
            time=decision.time,
            approve=int(decision.approve),
        )
    )
    if not decision.approve:
        connection.execute(
            update(candidates)
            .where(candidates.c.id == candidate)
            .values(state="rejected", decided=decision.time, why=why)
        )
    return case(connection, candidate)


def hangs_on(connection: Connection, list_id: ListId, files: Collection[Sha256]) -> bool:
    """Whether one of these is a file of a held candidate."""
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


def count_held(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).where(candidates.c.state == "held")).scalar_one())


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
                records=row.records,
                rejected=row.rejected,
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
        ),
        state=row.state,
        decisions=tuple(Decision(d.uid, d.user, d.time, bool(d.approve)) for d in made),
        why=row.why,
        version=row.version,
    )
