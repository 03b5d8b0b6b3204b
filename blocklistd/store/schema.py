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
)


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
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


metadata = MetaData()
Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only in an INTEGER PRIMARY KEY
Digest = String(64)  # a SHA-256 in lower-case hex; in most columns it names a sealed file

# Values of the whole database. Keys: `epoch` (database.py), `audit-left` (audit.py), all others in numbers.py.
meta = Table(
    "meta",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)

# Each list, with settings of its live version. `first_asserted`: entries whose first version has no kept delta.
lists = Table(
    "lists",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("session", String(36), nullable=False),  # UUID; versions are numbers within a session
    Column("secret", LargeBinary, nullable=False, comment="key of the hash that makes the ids of entries"),
    Column("created", Time, nullable=False),
    Column("policy", JSON, comment="what the live version was composed under (model.Policy); null before the first"),
    Column("first_asserted", Digest, comment="sealed file: when entries were first asserted that no kept delta adds"),
    Column("ids", String(16), nullable=False, comment="method that makes the ids of entries (lines/ids.py)"),
    Column(
        "withheld", JSON, comment="asserted entries that the live version withholds, by rule; null: not counted yet"
    ),
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
    Column("cause", String(64), nullable=False, comment="the source that changed; empty for other kinds"),
    Column("released_by", Text, nullable=False, comment="auto, or the user who approved"),
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
    Column("settings", Digest, comment="of the configuration that the body was read with"),
    Column("signature", Digest),  # SHA-256 of the newest accepted signature
    Column("signed_at", BigInteger, comment="seconds since 1970"),
    Column("last_pull", Time),  # when the newest pull ended
    Column("last_accepted", Time),  # when the newest pull ended that did not fail
    Column("outcome", String(16)),  # of the newest pull, as are `reason` and `candidate` (model.Outcome)
    Column("reason", Text),
    Column("candidate", String(32)),
    Column("first_pull", Time, comment="when the first pull ended, well or badly"),
)

# Signatures that a source's newer one replaced: a body with one of these is a replay.
superseded_signatures = Table(
    "superseded_signatures",
    metadata,
    Column("source", String(32), primary_key=True),
    Column("signature", Digest, primary_key=True),
    Column("signed_at", BigInteger),
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
    Column("cause", String(64), nullable=False, comment="the source that changed; empty for other kinds"),
    Column("actor", Text, nullable=False, comment="the user who asked for the change; empty if nobody did"),
    Column("created", Time, nullable=False),
    Column("base", Integer, nullable=False, comment="the live version that the delta starts from; 0: none"),
    Column("sources", JSON, nullable=False, comment="what each source is accepted with once it is released"),
    Column("policy", JSON, nullable=False, comment="what it was composed under (model.Policy)"),
    Column("delta", Digest, nullable=False, comment="the sealed delta: its digest is what a decision is bound to"),
    Column("snapshot", Digest, comment="sealed file of the version that it leads to, if composing has written one"),
    Column("added", BigInteger, nullable=False),
    Column("removed", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=False),  # of the list after the release
    Column("records", BigInteger, nullable=False, comment="of the body that brought it"),
    Column("rejected", BigInteger, nullable=False, comment="records of that body that are no entries"),
    Column("reasons", JSON, nullable=False),  # arrays [guard, limit, found] (model.Reason)
    Column("withheld", JSON, nullable=False, comment="entries that the list does not take, by rule"),
    Column("suffixes", JSON, nullable=False, comment="changes by last label"),
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

# Daily counts of changes for each list, source and category. Nothing writes to it yet.
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
)

# Signed TUF metadata: the newest KEPT_METADATA versions of each role of each list.
tuf_metadata = Table(
    "tuf_metadata",
    metadata,
    Column("list", String(32), primary_key=True),
    Column("role", String(16), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("expires", Time, nullable=False),
    Column("signed", Time, nullable=False),
    Column("target", Integer, nullable=False, comment="the list's version that it leads to"),
    Column("body", LargeBinary, nullable=False),  # the signed file as it is served
)

# Subscribers, revoked ones included until their id is given again.
subscribers = Table(
    "subscribers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("token", Digest, nullable=False, unique=True, comment="SHA-256 of the token; the token itself is not kept"),
    Column("created", Time, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("revoked", Time),
    Column("revoked_by", Text),
)

# Each serial of each zone, with the files and settings of the zone at that serial.
zone_serials = Table(
    "zone_serials",
    metadata,
    Column("zone", String(255), primary_key=True),
    Column("serial", BigInteger, primary_key=True),
    Column("list", String(32), comment="null: the zone follows no list (a catalog zone)"),
    Column("session", String(36), nullable=False),
    Column("version", Integer, nullable=False, comment="the list's version that these rules are of"),
    Column("record_settings", Text, nullable=False, comment="what makes the records: action, TTL, selection"),
    Column("apex_settings", Text, nullable=False, comment="what makes the apex: SOA, NS"),
    Column("names", Digest, comment="the sealed file of the names that the rules are made of"),
    Column("rules", Digest, nullable=False, comment="the sealed file of rules"),
    Column("wire", Digest, nullable=False, comment="the sealed file of compiled messages"),
    Column("delta", Digest, comment="the sealed delta of rules from the serial before; null: none leads here"),
    Column("added", BigInteger, nullable=False, comment="rules that the delta adds"),
    Column("removed", BigInteger, nullable=False, comment="rules that the delta removes"),
    Column("records", BigInteger, nullable=False),  # rules in the zone
    # names without a rule of their own: a listed parent domain covers them
    Column("covered", BigInteger, nullable=False),
    Column("omitted", JSON, nullable=False, comment="ids of entries, once for each rule that does not fit"),
    Column("time", Time, nullable=False),
)

# TSIG keys of the subscribers' resolvers (RFC 8945).
tsig_keys = Table(
    "tsig_keys",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("subscriber", ForeignKey("subscribers.id"), nullable=False),
    Column("algorithm", String(16), nullable=False),
    Column("secret", LargeBinary, nullable=False, comment="shared: both sides compute with it"),
    Column("created", Time, nullable=False),
)

# The zones that a subscriber may transfer.
subscriber_zones = Table(
    "subscriber_zones",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("zone", String(255), primary_key=True),
)

# Where NOTIFY messages go (RFC 1996).
subscriber_notify = Table(
    "subscriber_notify",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("address", String(64), primary_key=True, comment="ADDRESS:PORT"),
)

# Networks from which a subscriber may transfer its zones without TSIG.
subscriber_addresses = Table(
    "subscriber_addresses",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("prefix", String(64), primary_key=True, comment="transfers from there go unsigned"),
)

# The lists that a subscriber may fetch from the feed.
subscriber_lists = Table(
    "subscriber_lists",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("list", String(32), primary_key=True),
)
