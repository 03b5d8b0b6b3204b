"""What each source last said: its newest readable body, the proof it came with, and how every pull ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, select, update

from blocklistd.limits import KEPT_PULLS
from blocklistd.model import Candidate, CandidateId, IntakeReport, ListId, Outcome, Sha256, SourceId, Validators
from blocklistd.versions.candidates import is_rejected
from blocklistd.versions.schema import pulls, sources, superseded_signatures

NO_VALIDATORS: Final = Validators()


@dataclass(frozen=True, slots=True)
class Body:
    """The sealed files of a body that was read: the list, unpacked, and what is noted of it (canonical.Notes)."""

    listed: Sha256
    notes: Sha256


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source as the store has it. `validators` are those of the last body that every list has dealt with."""

    id: SourceId
    asserted: Sha256 | None = None
    body: Body | None = None
    report: IntakeReport | None = None
    validators: Validators = NO_VALIDATORS
    current: bool = False
    signature: Sha256 | None = None
    signed_at: int | None = None
    last_pull: datetime | None = None
    last_accepted: datetime | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    candidate: CandidateId | None = None


def source_state(connection: Connection, source: SourceId, settings: str = "") -> SourceState:
    """`settings` are the source's present ones (its URL, format, key …): what was read with others is not `current`,
    and its validators are not used."""
    row = connection.execute(select(sources).where(sources.c.id == source)).first()
    return SourceState(source) if row is None else _state(row, settings)


def _state(row: Row[Any], settings: str) -> SourceState:
    return SourceState(
        id=row.id,
        asserted=row.asserted,
        body=Body(row.listed, row.notes) if row.listed and row.notes else None,
        report=IntakeReport(**row.report) if row.report else None,
        validators=Validators(row.etag, row.last_modified) if row.url == settings else NO_VALIDATORS,
        current=row.url == settings,
        signature=row.signature,
        signed_at=row.signed_at,
        last_pull=row.last_pull,
        last_accepted=row.last_accepted,
        outcome=Outcome(row.outcome) if row.outcome else None,
        reason=row.reason,
        candidate=row.candidate,
    )


def asserted_by(connection: Connection, list_id: ListId, names: Iterable[SourceId]) -> dict[SourceId, Sha256]:
    """What each of the sources last said that could be read, and that nobody rejected for this list."""
    rows = connection.execute(
        select(sources.c.id, sources.c.asserted).where(sources.c.id.in_(list(names)), sources.c.asserted.is_not(None))
    )
    return {row.id: row.asserted for row in rows if not is_rejected(connection, list_id, row.id, row.asserted)}


def never_pulled(connection: Connection, names: Iterable[SourceId]) -> list[SourceId]:
    """Those of the sources of which no pull has ended yet, well or badly."""
    names = list(names)
    pulled = set(
        connection.execute(
            select(sources.c.id).where(sources.c.id.in_(names), sources.c.last_pull.is_not(None))
        ).scalars()
    )
    return [name for name in names if name not in pulled]


def superseded(connection: Connection, source: SourceId) -> list[Sha256]:
    """Signatures that a newer one replaced and that the time in the newest does not rule out by itself."""
    rows = connection.execute(select(superseded_signatures.c.signature).where(superseded_signatures.c.source == source))
    return [row.signature for row in rows]


def take_over(connection: Connection, source: SourceId, report: IntakeReport, settings: str) -> None:
    """The body is now the source's newest: from here on what it superseded is a replay."""
    _ensure(connection, source)
    row = connection.execute(select(sources).where(sources.c.id == source)).one()
    # the validators come once every list has dealt with the body (record_pull); until then the next pull asks for all
    values: dict[str, Any] = {"asserted": report.asserted, "report": asdict(report), "url": settings}
    values |= {"etag": None, "last_modified": None, "listed": None, "notes": None}
    if report.signature is not None:
        if row.signature not in (None, report.signature):
            connection.execute(
                superseded_signatures.insert().values(
                    source=source, signature=row.signature, signed_at=(row.report or {}).get("signed_at")
                )
            )
        values["signature"] = report.signature
        if report.signed_at is not None:
            values["signed_at"] = report.signed_at
            connection.execute(  # these are refused by their time alone
                delete(superseded_signatures).where(
                    superseded_signatures.c.source == source, superseded_signatures.c.signed_at < report.signed_at
                )
            )
    connection.execute(update(sources).where(sources.c.id == source).values(**values))


def keep_body(connection: Connection, source: SourceId, body: Body) -> None:
    """Where the next body finds the one that was taken over last."""
    connection.execute(update(sources).where(sources.c.id == source).values(listed=body.listed, notes=body.notes))


def record_pull(
    connection: Connection,
    source: SourceId,
    *,
    outcome: Outcome,
    reason: str | None,
    candidate: CandidateId | None,
    began: datetime,
    ended: datetime,
    report: IntakeReport | None,
    validators: Validators | None,
    settings: str,
) -> None:
    """How a pull ended; `validators` only once every list has dealt with the body, else the next pull asks for all."""
    _ensure(connection, source)
    values: dict[str, Any] = {
        "last_pull": ended,
        "outcome": outcome.value,
        "reason": reason,
        "candidate": candidate,
    }
    if outcome is not Outcome.FAILED:
        values["last_accepted"] = ended
    if validators is not None:
        values |= {"etag": validators.etag, "last_modified": validators.last_modified, "url": settings}
    connection.execute(update(sources).where(sources.c.id == source).values(**values))
    connection.execute(
        pulls.insert().values(
            source=source,
            time=began,
            seconds=round((ended - began).total_seconds() * 1000),
            outcome=outcome.value,
            reason=reason,
            report=asdict(report) if report else None,
        )
    )
    newest = connection.execute(select(func.max(pulls.c.id)).where(pulls.c.source == source)).scalar_one()
    connection.execute(delete(pulls).where(pulls.c.source == source, pulls.c.id <= newest - KEPT_PULLS))


def record_decision(connection: Connection, candidate: Candidate, outcome: Outcome, reason: str | None) -> None:
    """What a person decided is what became of the pull that was held."""
    connection.execute(
        update(sources)
        .where(sources.c.id == candidate.source, sources.c.candidate == candidate.id)
        .values(outcome=outcome.value, reason=reason, candidate=None)
    )


def _ensure(connection: Connection, source: SourceId) -> None:
    if connection.execute(select(sources.c.id).where(sources.c.id == source)).first() is None:
        connection.execute(sources.insert().values(id=source))
