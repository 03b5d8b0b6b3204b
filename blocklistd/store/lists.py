"""Lists and their versions: the live version, what it was composed from, and the release of the next one.

In the database: a row of `lists` for each list, a row of `versions` for each version (the highest is live), and in
`list_sources` the entries of each source that the live version was composed from. Order of calls: `ensure_list` once,
then for each change `list_state`, and `release` with that state; it fails if another version was released meanwhile. A
version's delta is dropped by upkeep.prune, or by `drop_delta` if its file is lost; its row stays.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from blocklistd.change import Change, ChangeKind, Correction, Freeze, Policy, VersionInfo
from blocklistd.errors import StoreError
from blocklistd.lines.ids import BLAKE2B, Ids
from blocklistd.model import AUTO, Act, CandidateId, ListId, Sha256, SourceId, Version
from blocklistd.store import corrections, guard_hits
from blocklistd.store.ages import StoredAges
from blocklistd.store.candidates import expiries_of
from blocklistd.store.numbers import start_above_number
from blocklistd.store.schema import candidates, list_sources, lists, versions
from blocklistd.times import TOLERANCE


@dataclass(frozen=True, slots=True)
class ListState:
    """A list in the store.

    - `policy`, `accepted` (the sealed entries of each source): what the live version was composed from; before the
      first version the policy is None. `basis`: after a rollback, the snapshot that takes the place of `accepted`.
    - `withheld`: count of withheld entries by rule; None if no version has counted them yet. `hits`: those of them that
      guard files withhold and that are named by id (store/guard_hits.py).
    - `evaluated`: the live version has the entries that have not ended at this time (None: expiries were never
      evaluated). `next_expiry`: no entry of it ends before (None: none ends).
    - `corrections`: those in force. `frozen`: None if the list is not frozen.
    - `last_expiry`: when the newest expiry was made, or rejected. `held_expiry`: the time by which the entries of the
      held expiry have ended; None if none is held.
    - `ages`: since when each source asserts its accepted entries; empty if the list has no `lifetime`. `live_since`:
      since when the entries of the live version are live; None: not counted yet.
    """

    id: ListId
    session: str
    ids: Ids
    policy: Policy | None
    live: VersionInfo | None
    accepted: dict[SourceId, Sha256]
    withheld: dict[str, int] | None = None
    hits: int = 0
    evaluated: datetime | None = None
    next_expiry: datetime | None = None
    basis: Sha256 | None = None
    corrections: tuple[Correction, ...] = ()
    frozen: Freeze | None = None
    last_expiry: datetime | None = None
    held_expiry: datetime | None = None
    ages: dict[SourceId, StoredAges] = field(default_factory=dict)
    live_since: StoredAges | None = None

    @property
    def version(self) -> Version:
        """The live version; 0 before the first."""
        return self.live.version if self.live else Version(0)

    def is_composed_from(self, change: Change) -> bool:
        """Whether the live version was composed from the change's sources under its policy."""
        origins = self.accepted, self.policy, self.basis, (), (), None
        return self.live is not None and origins == change.origins

    def expiry_is_due(self, now: datetime) -> bool:
        """Whether an expiry is to be made now."""
        due = self.expiry_due(now)
        return due is not None and due <= now

    def expiry_due(self, now: datetime) -> datetime | None:
        """When the next expiry is to be made; None if none is, as far as is known.

        The first expiry of a UTC day is made when its first entry ends; what ends later that day waits for the next
        day. None is made while the list is frozen, or another one is held. It is due at once if the list was never
        evaluated, or if the clock was set back: entries that had ended by the later time then come back.
        """
        if self.live is None or self.frozen is not None:
            return None
        evaluated = self.held_expiry or self.evaluated
        if evaluated is None or now < evaluated - TOLERANCE:
            return now
        if self.held_expiry is not None or self.next_expiry is None:
            return None
        last = self.last_expiry
        if last is None or last > now + TOLERANCE or last.date() < self.next_expiry.date():
            return self.next_expiry
        return datetime.combine(last.date() + timedelta(days=1), time(), UTC)

    def evaluation_time(self, change: Change, now: datetime) -> datetime | None:
        """The time by which a change that is composed now judges which entries have ended. None: no entry has.

        Only an expiry moves it past an entry's end, or back. So a change of another kind alters no entry that it does
        not touch, even if an expiry is due and has not been made.
        """
        if change.evaluated is not None:
            return change.evaluated
        if self.live is None or change.kind == ChangeKind.EXPIRY:
            return now
        if self.evaluated is None:
            return None
        latest = max(now, self.evaluated)
        if self.next_expiry is not None and self.next_expiry <= latest:
            latest = max(self.evaluated, self.next_expiry - timedelta(seconds=1))
        return latest


def next_expiries(connection: Connection, now: datetime, names: Collection[ListId]) -> dict[ListId, datetime]:
    """When the next expiry of each of the lists is due (ListState.expiry_due); without the lists that have none."""
    found = {}
    for name in names:
        state = list_state(connection, name)
        if (when := state.expiry_due(now)) is not None:
            found[name] = when
    return found


def policies(connection: Connection) -> dict[ListId, Policy]:
    """The policy of each list that has a live version."""
    rows = connection.execute(select(lists.c.id, lists.c.policy).where(lists.c.policy.is_not(None)))
    return {ListId(row.id): Policy.from_json(row.policy) for row in rows}


def ensure_list(connection: Connection, list_id: ListId, now: datetime) -> None:
    """Makes the list, with its session and secret, if it does not exist."""
    if connection.execute(select(lists.c.id).where(lists.c.id == list_id)).first() is None:
        connection.execute(
            lists.insert().values(
                id=list_id, session=str(uuid.uuid4()), secret=secrets.token_bytes(32), ids=BLAKE2B, created=now
            )
        )


def list_state(connection: Connection, list_id: ListId) -> ListState:
    """The state of a list. Raises StoreError if the list is not in the store."""
    row = connection.execute(select(lists).where(lists.c.id == list_id)).first()
    if row is None:
        raise StoreError(f"list {list_id} is not in the store: restart the daemon with it in the configuration")
    rows = connection.execute(select(list_sources).where(list_sources.c.list == list_id)).all()
    accepted = {row.source: row.accepted for row in rows}
    live = next(version_rows(connection, list_id, newest=1), None)
    policy = Policy.from_json(row.policy) if row.policy else None
    expiries = expiries_of(connection, list_id)
    return ListState(
        id=list_id,
        session=row.session,
        ids=Ids(row.ids, row.secret),
        policy=policy,
        live=live,
        accepted=accepted,
        withheld=row.withheld,
        hits=guard_hits.count(connection, list_id),
        evaluated=row.evaluated,
        next_expiry=row.next_expiry,
        basis=row.basis,
        corrections=corrections.in_force(connection, list_id),
        frozen=Freeze(**row.frozen) if row.frozen else None,
        last_expiry=expiries.last,
        held_expiry=expiries.held,
        ages={row.source: StoredAges(row.ages, row.ages_since) for row in rows if row.ages_since is not None},
        live_since=StoredAges(row.ages, row.ages_since) if live and row.counted == live.version else None,
    )


def version_rows(connection: Connection, list_id: ListId, newest: int | None = None) -> Iterator[VersionInfo]:
    """The list's versions, newest first. `newest`: the number of versions at most; None: all."""
    rows = connection.execute(
        select(versions, lists.c.session)
        .join(lists, lists.c.id == versions.c.list)
        .where(versions.c.list == list_id)
        .order_by(versions.c.version.desc())
        .limit(newest)
    )
    return (_info(row) for row in rows)


def _info(row: Row[Any]) -> VersionInfo:
    return VersionInfo(
        list=row.list,
        session=row.session,
        version=row.version,
        time=row.time,
        entries=row.entries,
        length=row.length,
        sha256=row.sha256,
        added=row.added,
        removed=row.removed,
        changed=row.changed,
        canonicaliser=row.canonicaliser,
        kind=ChangeKind(row.kind),
        cause=row.cause,
        released_by=row.released_by,
        delta=row.delta,
    )


def oldest_diff(connection: Connection, list_id: ListId) -> Version:
    """The lowest version that a difference can start from or lead to; 0 before the first version.

    That is the newest version without a delta: the first, the last one whose delta was pruned, or one whose delta was
    lost.
    """
    rows = select(func.max(versions.c.version)).where(versions.c.list == list_id)
    return Version(connection.execute(rows.where(versions.c.delta.is_(None))).scalar() or 0)


def files_of_versions(connection: Connection, list_id: ListId) -> set[Sha256]:
    """The snapshots and deltas of all versions, including snapshots whose files are not kept."""
    rows = connection.execute(select(versions.c.sha256, versions.c.delta).where(versions.c.list == list_id)).all()
    return {digest for row in rows for digest in row if digest}


def versions_of(connection: Connection, list_id: ListId, deltas: Collection[Sha256]) -> dict[Version, Sha256]:
    """The versions of a list whose delta is one of these; for each version its delta."""
    rows = connection.execute(
        select(versions.c.version, versions.c.delta).where(versions.c.list == list_id, versions.c.delta.in_(deltas))
    )
    return {row.version: row.delta for row in rows}


def drop_delta(connection: Connection, list_id: ListId, version: Version) -> None:
    """Drops the delta of a version, whose file is lost: differences then start at this version."""
    here = versions.c.list == list_id, versions.c.version == version
    connection.execute(update(versions).where(*here).values(delta=None))


def next_version(connection: Connection, live: Version) -> Version:
    """The number of the version after the live one. It may be higher by more than one, after `start-above`."""
    return Version(max(live, start_above_number(connection)) + 1)


@dataclass(frozen=True, slots=True)
class NewVersion:
    """The sealed files of a new version, the length of its snapshot in bytes, and its counts of entries."""

    snapshot: Sha256
    length: int
    delta: Sha256 | None
    entries: int
    added: int
    removed: int
    changed: int


def release(
    connection: Connection,
    state: ListState,
    change: Change,
    made: NewVersion | None,
    *,
    now: datetime,
    canonicaliser: int,
    act: Act,
    candidate: CandidateId | None,
    released_by: str = "",
    withheld: dict[str, int] | None = None,
    evaluated: datetime | None = None,
    next_expiry: datetime | None = None,
    ages: Mapping[SourceId, StoredAges] | None = None,
) -> Version:
    """Makes the version after `state.live` and records the change's sources, policy and corrections, in the caller's
    transaction.

    `act`: the command that releases the change; AUTO if no person does. `made`: None if the change alters no entry;
    there is then no new version. `candidate`: the held candidate that this releases. `released_by`: the users who
    approved it; empty: the user of `act`. `withheld`: count of withheld entries by rule; None if not counted.
    `evaluated`, `next_expiry`, `ages`: as in ListState.

    Returns the live version. Raises StoreError if another version was released since `state` was read.
    """
    current = connection.execute(select(func.max(versions.c.version)).where(versions.c.list == state.id)).scalar() or 0
    if current != state.version:
        raise StoreError(f"list {state.id} has version {current} now, which was released meanwhile: pull again")
    live = Version(current)
    if made is not None:
        live = next_version(connection, live)
        connection.execute(
            versions.insert().values(
                list=state.id,
                version=live,
                time=max(now, state.live.time) if state.live else now,
                entries=made.entries,
                length=made.length,
                sha256=made.snapshot,
                delta=made.delta,
                added=made.added,
                removed=made.removed,
                changed=made.changed,
                canonicaliser=canonicaliser,
                kind=change.kind,
                cause=change.cause,
                released_by=released_by or act.user,
                sources=change.sources,
            )
        )
    values = {"withheld": withheld, "evaluated": evaluated, "next_expiry": next_expiry, "basis": change.basis}
    connection.execute(update(lists).where(lists.c.id == state.id).values(policy=change.policy.to_json(), **values))
    connection.execute(list_sources.delete().where(list_sources.c.list == state.id))
    for source, accepted in change.sources.items():
        known = (ages or {}).get(source)
        values = {"ages": known.file, "ages_since": known.since} if known is not None else {}
        row = {"list": state.id, "source": source, "accepted": accepted, "time": now}
        connection.execute(list_sources.insert().values(row | values))
    corrections.place(connection, state.id, change.places, act, now, live if made is not None else None)
    corrections.lift(connection, change.lifts, change.actor or AUTO.user, now)
    if candidate is not None:
        connection.execute(
            update(candidates).where(candidates.c.id == candidate).values(state="released", decided=now, version=live)
        )
    return live
