"""The tables of the database. Content is in sealed files; rows name these files by their digest and record decisions.

A change to a table, a column or a column's `comment` needs a migration in `migrations/versions/`; a test checks that
the migrations and this file make the same schema. Remarks that need no migration are Python comments here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    event,
)

from blocklistd.store.append_only import forbid_changes


class Time(TypeDecorator[datetime]):
    """An aware datetime, stored as RFC 3339 text in UTC with microseconds, so that texts sort by time."""

    impl = String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else time_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


def time_text(time: datetime) -> str:
    """The text of a time in the database."""
    # not strftime: its %Y has no zeros before the year 9, which then can't be parsed
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


metadata = MetaData()
Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only in an INTEGER PRIMARY KEY
Digest = String(64)  # a SHA-256 in lower-case hex; in most columns it names a sealed file

# Values of the whole database. Keys: `epoch`, `state` (database.py), `audit-left` (audit.py), `disk` (disk.py), others
# in numbers.py.
meta = Table(
    "meta",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)

# Each list, with settings of its live version.
lists = Table(
    "lists",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("session", String(36), nullable=False),  # UUID; versions are numbers within a session
    Column("secret", LargeBinary, nullable=False, comment="key of the hash that makes the ids of entries"),
    Column("created", Time, nullable=False),
    Column("policy", JSON, comment="what the live version was composed under (change.Policy); null before the first"),
    Column("ids", String(16), nullable=False, comment="method that makes the ids of entries (lines/ids.py)"),
    Column(
        "withheld", JSON, comment="asserted entries that the live version withholds, by rule; null: not counted yet"
    ),
    Column("evaluated", Time, comment="when expiries were last evaluated; null: never"),
    Column("next_expiry", Time, comment="before this, no entry of the live version ends; null: none ends"),
    Column("basis", Digest, comment="snapshot of the earlier version that a rollback brought back; null: no rollback"),
    Column("frozen", JSON, comment="who froze the list, when and why (change.Freeze); null: it is not frozen"),
    Column("categories", JSON, comment="entries of the live version by category; null: not counted yet"),
    Column("counted", Integer, comment="the newest version in daily_figures and in `ages`; null: none yet"),
    Column(
        "ages", Digest, comment="sealed file: since when entries are live (ages.Ages); null: all since `ages_since`"
    ),
    Column("ages_since", Time, comment="entries that are not in `ages` are live since then"),
)

# Each version of each list, kept for ever; pruning only clears `delta`. The highest version is the live one.
versions = Table(
    "versions",
    metadata,
    Column("list", ForeignKey("lists.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("time", Time, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False, comment="bytes of the snapshot"),
    Column("sha256", Digest, nullable=False, comment="the sealed file of the snapshot"),
    Column("delta", Digest, comment="the sealed delta from the version before; null for the first, and once pruned"),
    Column("added", BigInteger, nullable=False),  # `added`, `removed`, `changed`: entries against the version before
    Column("removed", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("canonicaliser", Integer, nullable=False),  # version of the rules for canonical values
    Column("kind", String(16), nullable=False, comment="of the change: source, policy, …"),
    Column("cause", String(64), nullable=False, comment="what brought the change, as its kind says (change.Change)"),
    Column("released_by", Text, nullable=False, comment="auto, or the user who approved"),
    Column("sources", JSON, comment="sealed entries of each source; null once a later version is in daily_figures"),
    CheckConstraint("version >= 1", name="ck_versions_from_1"),
)

# The sources that a list's live version was composed from.
list_sources = Table(
    "list_sources",
    metadata,
    Column("list", ForeignKey("lists.id"), primary_key=True),
    Column("source", String(32), primary_key=True),
    Column("accepted", Digest, nullable=False, comment="the source's entries that the live version was composed from"),
    Column("time", Time, nullable=False, comment="when they were accepted"),
    Column("ages", Digest, comment="sealed file: since when they are asserted; null: all since `ages_since`"),
    Column("ages_since", Time, comment="those that are not in `ages` since then; null: see source_ages"),
)

# Since when sources assert the entries of the newest counted version of a list (lists.counted) without a lifetime.
source_ages = Table(
    "source_ages",
    metadata,
    Column("list", ForeignKey("lists.id"), primary_key=True),
    Column("source", String(32), primary_key=True),
    Column("ages", Digest, comment="sealed file: since when they are asserted; null: all since `since`"),
    Column("since", Time, comment="those that are not in `ages` since then; null: it is not known"),
)

# Each source: its newest body and how its newest pull ended. pulls.py has the order in which columns are set.
sources = Table(
    "sources",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("offered", Digest, comment="the source's entries in its newest verified body, canonical"),
    Column("body", Digest, comment="that body, unpacked: the next one is compared with it"),
    Column("notes", Digest, comment="what the canonical entries do not say of the body (canonical.Notes)"),
    Column("report", JSON, comment="the IntakeReport of that body"),
    Column("etag", Text),  # `etag`, `last_modified`: for the next conditional GET; null: fetch the whole body
    Column("last_modified", Text),
    Column("position", Text),  # where the last body ended (Validators.position); null: fetch the whole body
    Column("settings", Digest, comment="of the configuration that the body was read with"),
    Column("signature", Digest),  # SHA-256 of the newest accepted signature
    Column("last_pull", Time),  # when the newest pull ended
    Column("last_accepted", Time),  # when the newest pull ended that did not fail
    Column("outcome", String(16)),  # of the newest pull, as are `reason` and `candidate` (model.Outcome)
    Column("reason", Text),
    Column("candidate", String(32)),
    Column("first_pull", Time, comment="when the first pull ended, well or badly"),
    Column("keys", JSON, comment="the newest accepted values of each key (model.KeyHistory)"),
    Column(
        "restored",
        JSON,
        comment="why `offered` is not of the newest accepted body (distrust.Restored); null: it is",
    ),
)

# Keys of sources that an operator distrusts. `time`, `user`, `why`: of the command.
distrusted_keys = Table(
    "distrusted_keys",
    metadata,
    Column("source", String(32), primary_key=True),
    Column("key", Digest, primary_key=True, comment="fingerprint"),
    Column("since", Time, nullable=False, comment="bodies accepted from then on were taken back out"),
    Column("time", Time, nullable=False),
    Column("user", Text, nullable=False),
    Column("why", Text, nullable=False),
)

# Signatures that a source's newer one replaced: a body with one of these is a replay.
superseded_signatures = Table(
    "superseded_signatures",
    metadata,
    Column("source", String(32), primary_key=True),
    Column("signature", Digest, primary_key=True),
    Column("signed_at", BigInteger),
    Column("key", Digest, comment="fingerprint of the key that made it; null: unknown"),
)

# The newest pulls of each source, at most KEPT_PULLS. `time`: of the start; `report`: the body's IntakeReport.
pulls = Table(
    "pulls",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("source", String(32), nullable=False),
    Column("time", Time, nullable=False),
    Column("milliseconds", Integer, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text),
    Column("report", JSON),
    Index("ix_pulls_source", "source", "id"),
)

# All candidates, held and decided; candidates.py has their states. `delta` is against the version `base`.
candidates = Table(
    "candidates",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("list", String(32), nullable=False),
    Column("kind", String(16), nullable=False, comment="of the change: source, policy, …"),
    Column("cause", String(64), nullable=False, comment="what brought the change, as its kind says (change.Change)"),
    Column("actor", Text, nullable=False, comment="the user who asked for the change; empty if nobody did"),
    Column("actor_uid", BigInteger, comment="of that user; null: nobody, or not known"),
    Column("created", Time, nullable=False),
    Column("base", Integer, nullable=False, comment="the live version that the delta starts from; 0: none"),
    Column("sources", JSON, nullable=False, comment="what each source is accepted with once it is released"),
    Column("policy", JSON, nullable=False, comment="what it was composed under (change.Policy)"),
    Column("delta", Digest, nullable=False, comment="the sealed delta: its digest is what a decision is bound to"),
    Column("snapshot", Digest, comment="sealed file of the version that it leads to, if composing has written one"),
    Column("added", BigInteger, nullable=False),
    Column("removed", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=False),  # of the list after the release
    Column("records", BigInteger, nullable=False, comment="of the body that brought it"),
    Column("rejected", BigInteger, nullable=False, comment="records of that body that are no entries"),
    Column("reasons", JSON, nullable=False),  # arrays [guard, limit, found] (change.Reason)
    Column("withheld", JSON, nullable=False, comment="entries that the list does not take, by rule"),
    Column("suffixes", JSON, nullable=False, comment="changes by last label"),
    Column("basis", Digest, comment="of a rollback: the snapshot that it brings back"),
    Column("lifts", JSON, comment="numbers of the corrections that end with it"),
    Column("evaluated", Time, comment="of an expiry: entries that end by then have ended"),
    Column("hits", JSON, comment="ids of the entries that guard files withhold, by rule"),
    Column("categories", JSON, comment="changes by category"),
    Column("by_source", JSON, comment="changes by source"),
    Column("next_expiry", Time, comment="no entry of the list ends before, once it is released; null: none ends"),
    Column("state", String(16), nullable=False, comment="held, released, rejected, superseded"),
    Column("decided", Time),  # when the state became a final one
    Column("why", Text),  # the reviewer's reason for a rejection
    Column("version", Integer, comment="the version that released it"),
    Index("ix_candidates_state", "state", "list", "kind", "cause"),
    Index("ix_candidates_delta", "list", "delta"),
)

# Approvals and rejections of candidates, one for each reviewer.
decisions = Table(
    "decisions",
    metadata,
    Column("candidate", ForeignKey("candidates.id"), primary_key=True),
    Column("uid", BigInteger, primary_key=True, comment="two decisions by one uid count once"),
    Column("user", Text, nullable=False),
    Column("time", Time, nullable=False),
    Column("approve", Integer, nullable=False, comment="1 approved, 0 rejected"),
    Column("excepted", JSON, comment="ids of the entries without which it was approved; null: none"),
)

# The audit: a row for each line; rows are only added.
audit = Table(
    "audit",
    metadata,
    Column("number", Serial, primary_key=True, comment="from 1, without a gap", autoincrement=False),
    Column("time", Time, nullable=False),
    Column("actor", Text, nullable=False, comment="the user; auto: the daemon by itself"),
    Column("uid", BigInteger, comment="of the user; null: the daemon by itself"),
    Column("action", String(64), nullable=False, comment="the command, or release"),
    Column("object", Text, nullable=False, comment="an id; never an entry"),
    Column("detail", Text, nullable=False, comment="canonical JSON, ids and figures only"),
    Column("hash", Digest, nullable=False, comment="of this line and of the hash of the line before (store/audit.py)"),
)


@event.listens_for(audit, "after_create")
def _forbid_changes(_: Table, connection: Connection, **__: Any) -> None:
    forbid_changes(connection)


# Corrections of lists, those that have ended included (store/corrections.py). An entry's text is here and in sealed
# files only.
corrections = Table(
    "corrections",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("list", ForeignKey("lists.id"), nullable=False),
    Column("kind", String(16), nullable=False, comment="delisted, embargoed, excepted"),
    Column("type", String(16), nullable=False),
    Column("value", Text, nullable=False),
    Column("entry", String(64), nullable=False, comment="the id of the entry"),
    Column("why", Text, nullable=False),
    Column("owner", Text, nullable=False, comment="of an embargo: who asked for it; else empty"),
    Column("until", Time, comment="when it ends; null: when a person ends it"),
    Column("created", Time, nullable=False),
    Column("user", Text, nullable=False),
    Column("uid", BigInteger),
    Column("version", Integer, comment="the version without the entry; null: the entry was not live"),
    Column("requests", Integer, nullable=False, comment="how often its end was requested"),
    Column("ended", Time, comment="null: it is in force"),
    Column("ended_by", Text, comment="the user; auto: `until` has passed"),
    Index("ix_corrections_list", "list", "ended"),
)

# Entries that guard files withhold from a live version, at most MAX_HITS of each list.
guard_hits = Table(
    "guard_hits",
    metadata,
    Column("list", ForeignKey("lists.id"), primary_key=True),
    Column("entry", String(64), primary_key=True, comment="the id of the entry"),
    Column("rule", String(32), nullable=False),
    Column("type", String(16), nullable=False),
    Column("value", Text, nullable=False),
    Column("since", Time, nullable=False),
)

# Entries that a person has confirmed (`entry keep`): their lifetimes begin again at `time`.
kept_entries = Table(
    "kept_entries",
    metadata,
    Column("list", ForeignKey("lists.id"), primary_key=True),
    Column("type", String(16), primary_key=True),
    Column("value", Text, primary_key=True),
    Column("time", Time, nullable=False),
    Column("user", Text, nullable=False),
    Column("why", Text, nullable=False),
)

# Alarms that were sent to people (`alarms` of the configuration).
sent_alarms = Table(
    "sent_alarms",
    metadata,
    Column("way", String(16), primary_key=True, comment="webhook, command"),
    Column("kind", String(32), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("raised", Time, nullable=False),
    Column("sent", Time, comment="null: not delivered yet"),
    Column("state", String(8), nullable=False, comment="raised, over, done: its end is delivered"),
)

# Daily counts of changes for each list, source and category, kept for ever.
daily_figures = Table(
    "daily_figures",
    metadata,
    Column("list", String(32), primary_key=True),
    Column("day", String(10), primary_key=True, comment="YYYY-MM-DD, UTC"),
    Column("source", String(32), primary_key=True, comment="empty: all"),
    Column("category", String(64), primary_key=True, comment="empty: all"),
    Column("added", BigInteger, nullable=False),
    Column("removed", BigInteger, nullable=False),
    Column("live", BigInteger, nullable=False, comment="entries at the end of the day"),
    Column("expired", BigInteger, nullable=False, comment="of `removed`: those that ended by themselves"),
    Column("corrected", BigInteger, nullable=False, comment="of `removed`: those that a person took out"),
    Column("lives", JSON, nullable=False, comment="of `removed`: how many by the days that they were live"),
)
