"""Candidates that wait for a person, and the decisions on them. At most one is held per list and source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from blocklistd.errors import RefusedError
from blocklistd.model import Candidate, CandidateId, ListId, Reason, Sha256, SourceId
from blocklistd.versions.schema import candidates, decisions


@dataclass(frozen=True, slots=True)
class Decision:
    """Who said what about a candidate; a user is known by the uid behind the control socket."""

    uid: int
    user: str
    time: datetime
    approve: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A candidate with what became of it: `suffixes` counts what would change by the last two labels of its names."""

    candidate: Candidate
    state: str
    suffixes: dict[str, int]
    decisions: tuple[Decision, ...]
    why: str | None
    version: int | None


def hold(connection: Connection, candidate: Candidate, suffixes: dict[str, int]) -> None:
    """Puts the candidate before a reviewer, in the place of what the same source held before."""
    supersede(connection, candidate.list, candidate.source, candidate.created)
    connection.execute(
        candidates.insert().values(
            id=candidate.id,
            list=candidate.list,
            source=candidate.source,
            created=candidate.created,
            asserted=candidate.asserted,
            added=candidate.added,
            removed=candidate.removed,
            changed=candidate.changed,
            entries=candidate.entries,
            reasons=[[reason.guard, reason.limit, reason.found] for reason in candidate.reasons],
            suffixes=suffixes,
            state="held",
        )
    )


def supersede(connection: Connection, list_id: ListId, source: SourceId, now: datetime) -> None:
    """A newer body came: what is held of the same source is no longer what anybody would publish."""
    connection.execute(
        update(candidates)
        .where(candidates.c.state == "held", candidates.c.list == list_id, candidates.c.source == source)
        .values(state="superseded", decided=now)
    )


def held(connection: Connection, list_id: ListId | None = None, source: SourceId | None = None) -> list[Case]:
    """What waits for a person, oldest first."""
    query = select(candidates).where(candidates.c.state == "held").order_by(candidates.c.created)
    if list_id is not None:
        query = query.where(candidates.c.list == list_id)
    if source is not None:
        query = query.where(candidates.c.source == source)
    return [_case(connection, row) for row in connection.execute(query).all()]


def case(connection: Connection, candidate: CandidateId) -> Case:
    """Raises RefusedError where there is no such candidate."""
    row = connection.execute(select(candidates).where(candidates.c.id == candidate)).first()
    if row is None:
        raise RefusedError("there is no such candidate: `blocklistd candidate list` names those that are held")
    return _case(connection, row)


def is_rejected(connection: Connection, list_id: ListId, source: SourceId, asserted: Sha256) -> CandidateId | None:
    """The candidate with the same content that a reviewer rejected."""
    return connection.execute(
        select(candidates.c.id).where(
            candidates.c.state == "rejected",
            candidates.c.list == list_id,
            candidates.c.source == source,
            candidates.c.asserted == asserted,
        )
    ).scalar()


def decide(connection: Connection, candidate: CandidateId, decision: Decision, why: str | None = None) -> Case:
    """Records one person's decision; a rejection is final. Raises RefusedError if the candidate is not held."""
    found = case(connection, candidate)
    if found.state != "held":
        raise RefusedError(f"candidate {candidate} is {found.state}, not held: nothing is left to decide")
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


def count_held(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).where(candidates.c.state == "held")).scalar_one())


def _case(connection: Connection, row: Row[Any]) -> Case:
    made = connection.execute(select(decisions).where(decisions.c.candidate == row.id).order_by(decisions.c.time)).all()
    return Case(
        candidate=Candidate(
            id=row.id,
            list=row.list,
            source=row.source,
            created=row.created,
            asserted=row.asserted,
            added=row.added,
            removed=row.removed,
            changed=row.changed,
            entries=row.entries,
            reasons=tuple(Reason(*reason) for reason in row.reasons),
        ),
        state=row.state,
        suffixes=row.suffixes,
        decisions=tuple(Decision(d.uid, d.user, d.time, bool(d.approve)) for d in made),
        why=row.why,
        version=row.version,
    )
