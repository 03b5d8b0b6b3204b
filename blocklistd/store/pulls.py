"""What each source last said: its newest readable body, the proof it came with, and how every pull ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, select, update

from blocklistd.limits import KEPT_PULLS
from blocklistd.model import Candidate, CandidateId, ChangeKind, IntakeReport, Outcome, Sha256, SourceId, Validators
from blocklistd.store.schema import candidates, pulls, sources, superseded_signatures

NO_VALIDATORS: Final = Validators()


@dataclass(frozen=True, slots=True)
class Body:
    """The sealed files of a body that was read: its bytes, unpacked, and what is noted of it (canonical.Notes)."""

    listed: Sha256
    notes: Sha256


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source as the store has it. `validators` are those of the last body that every list has dealt with."""

    id: SourceId
    offered: Sha256 | None = None
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
    first_pull: datetime | None = None

    @property
    def signed(self) -> datetime | None:
        """The signed time of the body that the source offers now; None where its proof has no time."""
        if self.report is None or self.report.signed_at is None:
            return None
        return datetime.fromtimestamp(self.report.signed_at, UTC)

    @property
    def said(self) -> datetime | None:
        """The time from which the age of the source's offer counts: when it was signed, else when a pull was last
        accepted. So the same signed body, or a 304, does not make the source look fresh."""
        return min(filter(None, (self.last_accepted, self.signed)), default=None) if self.last_accepted else None

    @property
    def unchanged_since(self) -> datetime | None:
        """Since when the source has asserted the same entries; None where that is not known."""
        return datetime.fromisoformat(self.report.since) if self.report and self.report.since else None

    def overdue_after(self, max_age: timedelta) -> datetime | None:
        """When the source becomes overdue: `max_age` after `said`. A source without an accepted pull becomes so
        `max_age` after the end of its first pull; None before that."""
        since = self.said or self.first_pull
        return since + max_age if since else None

    def is_overdue(self, max_age: timedelta, now: datetime) -> bool:
        """Whether the source is overdue."""
        until = self.overdue_after(max_age)
        return until is not None and now > until

    def frozen_after(self, max_unchanged: timedelta | None) -> datetime | None:
        """When the source becomes frozen: `max_unchanged` after `unchanged_since`. None: never."""
        since = self.unchanged_since
        return since + max_unchanged if max_unchanged is not None and since is not None else None

    def is_frozen(self, max_unchanged: timedelta | None, now: datetime) -> bool:
        """Whether the source has asserted the same for longer than `max_unchanged`."""
        until = self.frozen_after(max_unchanged)
        return until is not None and now > until

    def is_of_key(self, key: Sha256 | None) -> bool:
        """Whether the remembered signatures are of this key. Those that earlier versions recorded, without a key, count
        as such."""
        known = self.report.key if self.report else None
        return known is None or known == key


def source_state(connection: Connection, source: SourceId, settings: str = "") -> SourceState:
    """`settings` are the source's present ones (its URL, format, key …): what was read with others is not `current`,
    and its validators are not used."""
    row = connection.execute(select(sources).where(sources.c.id == source)).first()
    return SourceState(source) if row is None else _state(row, settings)


def source_states(connection: Connection, names: Iterable[SourceId]) -> dict[SourceId, SourceState]:
    """Each of the sources, whatever settings it was read with."""
    names = list(names)
    rows = {row.id: row for row in connection.execute(select(sources).where(sources.c.id.in_(names)))}
    return {name: _state(rows[name], "") if name in rows else SourceState(name) for name in names}


def _state(row: Row[Any], settings: str) -> SourceState:
    return SourceState(
        id=row.id,
        offered=row.offered,
        body=Body(row.body, row.notes) if row.body and row.notes else None,
        report=IntakeReport(**row.report) if row.report else None,
        validators=Validators(row.etag, row.last_modified) if row.settings == settings else NO_VALIDATORS,
        current=row.settings == settings,
        signature=row.signature,
        signed_at=row.signed_at,
        last_pull=row.last_pull,
        last_accepted=row.last_accepted,
        outcome=Outcome(row.outcome) if row.outcome else None,
        reason=row.reason,
        candidate=row.candidate,
        first_pull=row.first_pull,
    )


@dataclass(frozen=True, slots=True)
class Offer:
    """What a source offers now: its sealed entries, and how many records of its body there are and are no entries."""

    source: SourceId
    entries: Sha256
    records: int
    rejected: int


def offers(connection: Connection, settings: Mapping[SourceId, str]) -> dict[SourceId, Offer]:
    """The offer of each of the sources whose newest body was read with these settings."""
    rows = connection.execute(
        select(sources.c.id, sources.c.offered, sources.c.report, sources.c.settings).where(
            sources.c.id.in_(list(settings)), sources.c.offered.is_not(None)
        )
    )
    found = {}
    for row in rows:
        if row.settings != settings[row.id]:
            continue
        report = IntakeReport(**row.report)
        found[row.id] = Offer(row.id, row.offered, report.records, report.rejects)
    return found


def never_pulled(connection: Connection, names: Iterable[SourceId]) -> list[SourceId]:
    """Those of the sources that offer nothing and of which no pull has ended yet, well or badly."""
    names = list(names)
    heard = sources.c.last_pull.is_not(None) | sources.c.offered.is_not(None)
    pulled = set(connection.execute(select(sources.c.id).where(sources.c.id.in_(names), heard)).scalars())
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
    values: dict[str, Any] = {"offered": report.asserted, "report": asdict(report), "settings": settings}
    values |= {"etag": None, "last_modified": None, "body": None, "notes": None}
    known = (row.report or {}).get("key")
    last: Sha256 | None = row.signature
    if report.key is not None and known not in (None, report.key):  # what another key has signed says nothing of this
        connection.execute(delete(superseded_signatures).where(superseded_signatures.c.source == source))
        values |= {"signed_at": None}
        last = None
    if report.signature is not None:
        if last not in (None, report.signature):
            connection.execute(
                superseded_signatures.insert().values(
                    source=source, signature=last, signed_at=(row.report or {}).get("signed_at")
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
    connection.execute(update(sources).where(sources.c.id == source).values(body=body.listed, notes=body.notes))


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
    known = connection.execute(select(sources.c.first_pull).where(sources.c.id == source)).one()
    values: dict[str, Any] = {
        "last_pull": ended,
        "outcome": outcome.value,
        "reason": reason,
        "candidate": candidate,
    }
    if outcome is not Outcome.FAILED:
        values["last_accepted"] = ended
    if known.first_pull is None:
        values["first_pull"] = ended
    if validators is not None:
        values |= {"etag": validators.etag, "last_modified": validators.last_modified, "settings": settings}
    connection.execute(update(sources).where(sources.c.id == source).values(**values))
    connection.execute(
        pulls.insert().values(
            source=source,
            time=began,
            milliseconds=round((ended - began).total_seconds() * 1000),
            outcome=outcome.value,
            reason=reason,
            report=asdict(report) if report else None,
        )
    )
    newest = connection.execute(select(func.max(pulls.c.id)).where(pulls.c.source == source)).scalar_one()
    connection.execute(delete(pulls).where(pulls.c.source == source, pulls.c.id <= newest - KEPT_PULLS))


def newest_pulls(connection: Connection, source: SourceId, count: int) -> Sequence[Row[Any]]:
    """The last pulls of a source, newest first."""
    rows = select(pulls).where(pulls.c.source == source).order_by(pulls.c.id.desc()).limit(count)
    return connection.execute(rows).all()


def record_decision(connection: Connection, candidate: Candidate, outcome: Outcome, reason: str | None) -> None:
    """What a person decided is what became of the pull that was held."""
    connection.execute(
        update(sources)
        .where(sources.c.candidate == candidate.id)
        .values(outcome=outcome.value, reason=reason, candidate=None)
    )


def take_the_place(connection: Connection, candidate: Candidate, reason: str) -> None:
    """A source whose last pull led to a candidate that this one supersedes names this one now."""
    here = candidates.c.list == candidate.list, candidates.c.state == "superseded"
    superseded = select(candidates.c.id).where(*here)
    if candidate.change.kind == ChangeKind.SOURCE:
        connection.execute(
            update(sources)
            .where(sources.c.id == candidate.change.cause, sources.c.candidate.in_(superseded))
            .values(candidate=candidate.id, reason=reason)
        )


def read_anew(connection: Connection, source: SourceId) -> None:
    """A file of the source is damaged: its next pull asks for the whole body and reads all of it."""
    connection.execute(
        update(sources).where(sources.c.id == source).values(settings=None, etag=None, last_modified=None, body=None)
    )


def _ensure(connection: Connection, source: SourceId) -> None:
    if connection.execute(select(sources.c.id).where(sources.c.id == source)).first() is None:
        connection.execute(sources.insert().values(id=source))
