"""The state of each source: its newest accepted body, the proof that came with it, and how its pulls ended.

In the database, for each source: a row of `sources`, the newest KEPT_PULLS rows of `pulls`, and what replays.py
remembers to refuse replays. Order of calls in a pull that reads a body:

1. `accept_body`: the body is verified and parsed; its entries become the source's offer, and older bodies are replays.
   The validators are cleared, so that the next pull fetches the whole body if this one stops here.
2. `set_body_files`: the files with which the next body is compared.
3. `record_pull`: how the pull ended; with the validators, once every list has dealt with the body.

`record_decision`, `replace_candidate_of_source` and `end_wait` later change how the newest pull ended. `reread_source`
makes the next pull read all of the body. A source is *overdue* when its offer is older than `max_age`, and *frozen*
when its entries have not changed for `max_unchanged`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, select, update

from blocklistd.change import Candidate, ChangeKind
from blocklistd.limits import KEPT_PULLS
from blocklistd.model import CandidateId, IntakeReport, KeyHistory, ListId, Outcome, Sha256, SourceId, Validators
from blocklistd.store import replays
from blocklistd.store.schema import candidates, pulls, sources

NO_VALIDATORS: Final = Validators()


@dataclass(frozen=True, slots=True)
class Body:
    """The sealed files of the newest body: its decompressed bytes, and the notes on it (canonical.Notes)."""

    listed: Sha256
    notes: Sha256


@dataclass(frozen=True, slots=True)
class SourceState:
    """A row of `sources`. `offered`: the entries that the source offers. `current`: its body was read with the present
    settings. `signature`: the newest one. `histories`: the newest accepted values of each key (replays.py).
    `validators`: of the last body that every list has dealt with. `outcome`, `reason`, `candidate`: how the newest pull
    ended."""

    id: SourceId
    offered: Sha256 | None = None
    body: Body | None = None
    report: IntakeReport | None = None
    validators: Validators = NO_VALIDATORS
    current: bool = False
    signature: Sha256 | None = None
    histories: tuple[KeyHistory, ...] = ()
    last_pull: datetime | None = None
    last_accepted: datetime | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    candidate: CandidateId | None = None
    first_pull: datetime | None = None

    @property
    def signed(self) -> datetime | None:
        """The signed time of the body that the source offers; None if its proof has no time."""
        return None if self.report is None else self.report.signed

    def is_expired(self, now: datetime) -> bool:
        """Whether the proof of the body that the source offers is to be verified again."""
        expires = self.report.expires if self.report else None
        return expires is not None and now.timestamp() >= expires

    @property
    def content_time(self) -> datetime | None:
        """The time from which the offer's age counts: the signed time, but not later than the end of the last accepted
        pull. Without a signed time, the end of that pull; None before it. So a signed body does not look newer when it
        is fetched again, or when the hotline answers 304."""
        return min(filter(None, (self.last_accepted, self.signed)), default=None) if self.last_accepted else None

    @property
    def unchanged_since(self) -> datetime | None:
        """Since when the source has asserted the same entries; None if unknown."""
        return datetime.fromisoformat(self.report.since) if self.report and self.report.since else None

    def overdue_after(self, max_age: timedelta) -> datetime | None:
        """When the source becomes overdue: `max_age` after `content_time`. A source without an accepted pull becomes
        overdue `max_age` after the end of its first pull; None before that."""
        since = self.content_time or self.first_pull
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


def source_state(connection: Connection, source: SourceId, settings: str = "") -> SourceState:
    """The state of a source. `settings`: digest of its present configuration (URL, format, key …). A body that was read
    with other settings is not `current`, and its validators are not used."""
    row = connection.execute(select(sources).where(sources.c.id == source)).first()
    return SourceState(source) if row is None else _state(row, settings)


def source_states(connection: Connection, names: Iterable[SourceId]) -> dict[SourceId, SourceState]:
    """The state of each of the sources, whatever the settings that it was read with."""
    names = list(names)
    rows = {row.id: row for row in connection.execute(select(sources).where(sources.c.id.in_(names)))}
    return {name: _state(rows[name], "") if name in rows else SourceState(name) for name in names}


def _state(row: Row[Any], settings: str) -> SourceState:
    return SourceState(
        id=row.id,
        offered=row.offered,
        body=Body(row.body, row.notes) if row.body and row.notes else None,
        report=IntakeReport(**row.report) if row.report else None,
        validators=Validators(row.etag, row.last_modified, row.position) if row.settings == settings else NO_VALIDATORS,
        current=row.settings == settings,
        signature=row.signature,
        histories=replays.read_histories(row.keys),
        last_pull=row.last_pull,
        last_accepted=row.last_accepted,
        outcome=Outcome(row.outcome) if row.outcome else None,
        reason=row.reason,
        candidate=row.candidate,
        first_pull=row.first_pull,
    )


@dataclass(frozen=True, slots=True)
class Offer:
    """The newest entries of a source. `entries`: their sealed file. `records`: the number of records in the body;
    `rejected`: how many of them are not entries. `restored`: why it is not of the newest accepted body
    (distrust.Restored), None if it is."""

    source: SourceId
    entries: Sha256
    records: int
    rejected: int
    restored: Mapping[str, Any] | None = None


def offers(connection: Connection, settings: Mapping[SourceId, str]) -> dict[SourceId, Offer]:
    """The offers of the sources; without those whose newest body was read with other settings than these."""
    rows = connection.execute(
        select(sources.c.id, sources.c.offered, sources.c.report, sources.c.settings, sources.c.restored).where(
            sources.c.id.in_(list(settings)), sources.c.offered.is_not(None)
        )
    )
    found = {}
    for row in rows:
        if row.settings != settings[row.id]:
            continue
        report = IntakeReport(**row.report)
        found[row.id] = Offer(row.id, row.offered, report.records, report.rejects, row.restored)
    return found


def never_pulled(connection: Connection, names: Iterable[SourceId]) -> list[SourceId]:
    """Those of the sources that offer nothing and of which no pull has ended, well or badly."""
    names = list(names)
    was_pulled = sources.c.last_pull.is_not(None) | sources.c.offered.is_not(None)
    pulled = set(connection.execute(select(sources.c.id).where(sources.c.id.in_(names), was_pulled)).scalars())
    return [name for name in names if name not in pulled]


def wait_of(list_id: ListId, names: Iterable[SourceId]) -> str:
    """The reason of a pull whose entries a list does not take yet: it waits for the pulls of these sources."""
    return f"list {list_id} waits for the pull of {', '.join(names)}"


def no_version_of(list_id: ListId) -> str:
    """The reason of a pull that has waited, and after which the list has no version, so far."""
    return f"list {list_id} has no version yet: see `blocklistd source list`"


def waiting_sources(connection: Connection, list_id: ListId) -> dict[SourceId, str]:
    """The sources whose newest pull ended with `wait_of` or `no_version_of` this list, each with the reason."""
    waits = sources.c.reason.startswith(wait_of(list_id, ()), autoescape=True)
    query = select(sources.c.id, sources.c.reason).where(waits | (sources.c.reason == no_version_of(list_id)))
    return {row.id: row.reason for row in connection.execute(query)}


def end_wait(
    connection: Connection, source: SourceId, outcome: Outcome, reason: str | None, candidate: CandidateId | None
) -> None:
    """Says how the pull of a source ended that waited for others."""
    values = {"outcome": outcome.value, "reason": reason, "candidate": candidate}
    connection.execute(update(sources).where(sources.c.id == source).values(**values))


def accept_body(
    connection: Connection,
    source: SourceId,
    report: IntakeReport,
    settings: str,
    *,
    keys: Collection[Sha256] = (),
    location: Sha256 | None = None,
) -> None:
    """Makes a verified body the source's newest. Older bodies are replays from now on.

    `keys`: the fingerprints of the configured keys; those of the others are forgotten. `location`: the SHA-256 of the
    URL.
    """
    _ensure(connection, source)
    # `record_pull` sets the validators once every list has dealt with the body; until then a pull fetches all of it
    values: dict[str, Any] = {"offered": report.asserted, "report": asdict(report), "settings": settings}
    values |= {"etag": None, "last_modified": None, "position": None, "body": None, "notes": None, "restored": None}
    values |= replays.remember(connection, source, report, keys, location)
    connection.execute(update(sources).where(sources.c.id == source).values(**values))


def set_body_files(connection: Connection, source: SourceId, body: Body) -> None:
    """Sets the files with which the next body is compared."""
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
    """Records how a pull ended. `validators`: None unless every list has dealt with the body; the next pull then
    fetches the whole body again."""
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
        values |= {"etag": validators.etag, "last_modified": validators.last_modified, "position": validators.position}
        values["settings"] = settings
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
    """Sets the outcome of the pull that led to a held candidate, after the decision on the candidate."""
    connection.execute(
        update(sources)
        .where(sources.c.candidate == candidate.id)
        .values(outcome=outcome.value, reason=reason, candidate=None)
    )


def record_resumed(connection: Connection, list_id: ListId, frozen: str) -> None:
    """Ends what pulls have said of a freeze: their entries are offered again. `frozen`: the reason that they gave."""
    reason = f"list {list_id} was resumed: see `blocklistd candidate list`"
    connection.execute(
        update(sources)
        .where(sources.c.reason == frozen, sources.c.candidate.is_(None))
        .values(outcome=Outcome.UNCHANGED.value, reason=reason)
    )


def replace_candidate_of_source(connection: Connection, candidate: Candidate, reason: str) -> None:
    """Names the candidate in the row of its source, in place of a candidate that was superseded."""
    here = candidates.c.list == candidate.list, candidates.c.state == "superseded"
    superseded = select(candidates.c.id).where(*here)
    if candidate.change.kind == ChangeKind.SOURCE:
        connection.execute(
            update(sources)
            .where(sources.c.id == candidate.change.cause, sources.c.candidate.in_(superseded))
            .values(candidate=candidate.id, reason=reason)
        )


def reread_source(connection: Connection, source: SourceId) -> None:
    """Makes the next pull fetch and read the whole body: for a source with a damaged file."""
    connection.execute(
        update(sources)
        .where(sources.c.id == source)
        .values(settings=None, etag=None, last_modified=None, position=None, body=None)
    )


def pull_all_at_start(connection: Connection) -> None:
    """Makes the next start pull each source at once."""
    connection.execute(update(sources).values(last_pull=None))


def _ensure(connection: Connection, source: SourceId) -> None:
    if connection.execute(select(sources.c.id).where(sources.c.id == source)).first() is None:
        connection.execute(sources.insert().values(id=source))
