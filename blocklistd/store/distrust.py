"""Keys of sources that an operator distrusts, and the offers that were restored for that reason.

In the database: a row of `distrusted_keys` for each source and key, which stays; and in the row of the source in
`sources`, the column `restored`, from `restore_offer` until the next accepted body. While it is set, each change that
the offer makes to a list is held (`Restored.reason`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, select, update

from blocklistd.change import Reason
from blocklistd.errors import DistrustedError
from blocklistd.model import Act, CandidateId, IntakeReport, Outcome, Sha256, SourceId
from blocklistd.store import candidates
from blocklistd.store.pulls import accept_body
from blocklistd.store.schema import candidates as candidate_rows
from blocklistd.store.schema import distrusted_keys as rows
from blocklistd.store.schema import pulls, sources
from blocklistd.times import rfc3339

GUARD: Final = "distrust"
"""The guard of a change that a restored offer makes."""
SHOWN: Final = 16  # digits of a fingerprint in a message


@dataclass(frozen=True, slots=True)
class DistrustedKey:
    """A distrusted key, by its fingerprint. `since`: bodies of pulls from then on are taken back out. `time`,
    `user`, `why`: of the command."""

    key: Sha256
    since: datetime
    time: datetime
    user: str
    why: str


@dataclass(frozen=True, slots=True)
class Restored:
    """Why the offer of a source is not that of its newest accepted body. `since`, `body` (the time of the pull
    of the restored body; None: there is none, and the offer is empty): RFC 3339."""

    key: Sha256
    since: str
    body: str | None

    @property
    def reason(self) -> Reason:
        """The reason to hold a change that the offer makes."""
        found = f"the entries of the body of {self.body}" if self.body else "no entries, since no earlier body is kept"
        return Reason(GUARD, f"no body of the key {self.key[:SHOWN]} since {self.since}", found)


@dataclass(frozen=True, slots=True)
class AcceptedBody:
    """A body that was accepted, by the pull that began at `time` and had this outcome. `evidence`: the name of its kept
    bytes, None if they are not kept."""

    time: datetime
    report: IntakeReport
    outcome: Outcome | None
    evidence: str | None = None

    def was_released(self, unreleased: Collection[Sha256]) -> bool:
        """Whether a list has taken its entries. `unreleased`: as from the function of this name."""
        released = self.outcome in (Outcome.PUBLISHED, Outcome.UNCHANGED)
        return released or self.report.asserted not in unreleased


def distrusted_keys(connection: Connection, source: SourceId) -> dict[Sha256, DistrustedKey]:
    """The distrusted keys of a source, by fingerprint, in the order in which they were distrusted."""
    found = connection.execute(select(rows).where(rows.c.source == source).order_by(rows.c.time))
    return {row.key: DistrustedKey(row.key, row.since, row.time, row.user, row.why) for row in found}


def refuse_distrusted(distrusted: Mapping[Sha256, DistrustedKey], key: Sha256 | None) -> None:
    """Raises DistrustedError if a body is signed by a distrusted key. `key`: None for a body that no key signed."""
    if key is not None and key in distrusted:
        raise DistrustedError(
            f"signed by the key {key[:SHOWN]}, which is distrusted since {rfc3339(distrusted[key].since)}: ask the "
            "hotline for a new key, then replace `verify.key`"
        )


def distrust(
    connection: Connection, source: SourceId, key: Sha256, since: datetime, act: Act, why: str, now: datetime
) -> None:
    """Records that a key is distrusted. For a key that is distrusted already, the earlier `since` applies."""
    known = distrusted_keys(connection, source).get(key)
    if known is not None:
        here = rows.c.source == source, rows.c.key == key
        connection.execute(update(rows).where(*here).values(since=min(since, known.since)))
        return
    values = {"source": source, "key": key, "since": since, "time": now, "user": act.user, "why": why}
    connection.execute(rows.insert().values(**values))


def is_distrusted(body: AcceptedBody, distrusted: Collection[DistrustedKey]) -> bool:
    """Whether a body is taken back out. A signature that version 0.2 recorded without its key counts as the key's."""
    report = body.report
    return report.is_signed and any(
        report.key in (None, known.key) and body.time >= known.since for known in distrusted
    )


def accepted_bodies(connection: Connection, source: SourceId) -> list[AcceptedBody]:
    """The bodies that the newest pulls accepted, newest first."""
    found = select(pulls).where(pulls.c.source == source).order_by(pulls.c.id.desc())
    return [
        AcceptedBody(row.time, IntakeReport(**row.report), Outcome(row.outcome))
        for row in connection.execute(found)
        if row.report
    ]


def unreleased(connection: Connection, source: SourceId) -> set[Sha256]:
    """The entries of the source that were held or rejected, and that no approval has released."""
    where = candidate_rows.c.cause == source, candidate_rows.c.kind == "source"
    released: dict[Sha256, bool] = {}
    for row in connection.execute(select(candidate_rows.c.sources, candidate_rows.c.state).where(*where)):
        entries = row.sources.get(source)
        if entries is not None:
            released[entries] = released.get(entries, False) or row.state == "released"
    return {entries for entries, was_released in released.items() if not was_released}


def restore_offer(
    connection: Connection,
    source: SourceId,
    report: IntakeReport,
    settings: str,
    restored: Restored,
    now: datetime,
    *,
    keys: Collection[Sha256] = (),
    location: Sha256 | None = None,
) -> None:
    """Makes an earlier body's entries the offer of the source, and supersedes the held candidates with other entries
    of the source. `keys`: the fingerprints of the configured keys that are not distrusted; the times and signatures of
    the others are forgotten. `location`: as in `accept_body`."""
    accept_body(connection, source, report, settings, keys=keys, location=location)
    connection.execute(update(sources).where(sources.c.id == source).values(restored=asdict(restored)))
    for case in candidates.held(connection):
        change, entries = case.candidate.change, case.candidate.change.sources.get(source)
        if change.source == source or (not case.candidate.base and entries not in (None, report.asserted)):
            candidates.supersede(connection, case.candidate.list, change.kind, change.cause, now)


def restored_offer(value: Mapping[str, Any] | None) -> tuple[Reason, ...]:
    """The reasons to hold the changes of an offer, from the column `restored`."""
    return (Restored(**value).reason,) if value else ()


def record_restored(
    connection: Connection, source: SourceId, outcome: Outcome, reason: str | None, candidate: CandidateId | None
) -> None:
    """Records in the row of the source what its restored offer has led to."""
    values = {"outcome": outcome.value, "reason": reason, "candidate": candidate}
    connection.execute(update(sources).where(sources.c.id == source).values(**values))


def documents(distrusted: Mapping[Sha256, DistrustedKey]) -> Sequence[dict[str, Any]]:
    """The distrusted keys for the document of a source."""
    return [
        {"key": known.key, "since": rfc3339(known.since), "time": rfc3339(known.time), "user": known.user}
        for known in distrusted.values()
    ]
