"""The tables. Content is in sealed files; the database names it, logs its changes and records who decided what.

Changes to this file need a migration in `migrations/versions/`; a test holds that both make the same schema.
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
    """An aware datetime, kept as RFC 3339 text in UTC with microseconds: sorts as it reads, in every database."""

    impl = String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


metadata = MetaData()
Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts rows up only under INTEGER PRIMARY KEY
Digest = String(64)

meta = Table(
    "meta",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)

lists = Table(
    "lists",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("session", String(36), nullable=False),
    Column("secret", LargeBinary, nullable=False, comment="key of the HMAC that makes the ids of entries"),
    Column("created", Time, nullable=False),
    Column("composition", Text, nullable=False, comment="what the live version was composed under (compose.py)"),
)

versions = Table(
    "versions",
    metadata,
    Column("list", ForeignKey("lists.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("time", Time, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("sha256", Digest, nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("removed", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("canonicaliser", Integer, nullable=False),
    Column("released_by", Text, nullable=False),
    Column("logged", Integer, nullable=False, comment="1: the change log holds the step to this version"),
    CheckConstraint("version >= 1", name="ck_versions_from_1"),
)

changes = Table(
    "changes",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("list", String(32), nullable=False),
    Column("version", Integer, nullable=False),
    Column("op", Integer, nullable=False, comment="+1 added, -1 removed"),
    Column("key", LargeBinary, nullable=False, comment="type NUL value: the order of a diff"),
    Column("line", LargeBinary, nullable=False),
    Index("ix_changes_list_version", "list", "version"),
)

list_sources = Table(
    "list_sources",
    metadata,
    Column("list", ForeignKey("lists.id"), primary_key=True),
    Column("source", String(32), primary_key=True),
    Column("asserted", Digest, nullable=False, comment="what the live version was composed from"),
    Column("accepted", Time, nullable=False),
)

sources = Table(
    "sources",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("asserted", Digest, comment="the newest body that proved its origin and could be read, canonical"),
    Column("listed", Digest, comment="that body, unpacked: what the next one is compared with"),
    Column("notes", Digest, comment="what its canonical form does not say of it (canonical.py)"),
    Column("report", JSON, comment="the IntakeReport of that body"),
    Column("etag", Text),
    Column("last_modified", Text),
    Column("url", Text, comment="what the validators are of: another URL, another body"),
    Column("signature", Digest),
    Column("signed_at", BigInteger),
    Column("last_pull", Time),
    Column("last_accepted", Time),
    Column("outcome", String(16)),
    Column("reason", Text),
    Column("candidate", String(32)),
)

superseded_signatures = Table(
    "superseded_signatures",
    metadata,
    Column("source", String(32), primary_key=True),
    Column("signature", Digest, primary_key=True),
    Column("signed_at", BigInteger),
)

pulls = Table(
    "pulls",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("source", String(32), nullable=False),
    Column("time", Time, nullable=False),
    Column("seconds", Integer, nullable=False, comment="milliseconds that it took"),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text),
    Column("report", JSON),
    Index("ix_pulls_source", "source", "id"),
)

candidates = Table(
    "candidates",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("list", String(32), nullable=False),
    Column("source", String(32), nullable=False),
    Column("created", Time, nullable=False),
    Column("asserted", Digest, nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("removed", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("suffixes", JSON, nullable=False),
    Column("state", String(16), nullable=False, comment="held, released, rejected, superseded"),
    Column("decided", Time),
    Column("why", Text),
    Column("version", Integer, comment="the version that released it"),
    Index("ix_candidates_state", "state", "list", "source"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("candidate", ForeignKey("candidates.id"), primary_key=True),
    Column("uid", BigInteger, primary_key=True, comment="two decisions by one uid count once"),
    Column("user", Text, nullable=False),
    Column("time", Time, nullable=False),
    Column("approve", Integer, nullable=False, comment="1 approved, 0 rejected"),
)

tuf_metadata = Table(
    "tuf_metadata",
    metadata,
    Column("list", String(32), primary_key=True),
    Column("role", String(16), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("expires", Time, nullable=False),
    Column("signed", Time, nullable=False),
    Column("target", Integer, nullable=False, comment="the list's version that it leads to"),
    Column("body", LargeBinary, nullable=False),
)

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

zone_serials = Table(
    "zone_serials",
    metadata,
    Column("zone", String(255), primary_key=True),
    Column("serial", BigInteger, primary_key=True),
    Column("list", String(32), nullable=False),
    Column("session", String(36), nullable=False),
    Column("version", Integer, nullable=False, comment="the list's version that these rules are of"),
    Column("records_of", Text, nullable=False, comment="what makes the records of the rules: action, TTL, selection"),
    Column("apex_of", Text, nullable=False, comment="what makes the apex: SOA, NS"),
    Column("names", Digest, comment="the sealed file of the names that the rules are made of"),
    Column("rules", Digest, nullable=False, comment="the sealed file of rules"),
    Column("wire", Digest, nullable=False, comment="the sealed file of compiled messages"),
    Column("records", BigInteger, nullable=False),
    Column("covered", BigInteger, nullable=False),
    Column("omitted", JSON, nullable=False, comment="ids of entries, once for each rule that does not fit"),
    Column("logged", Integer, nullable=False, comment="1: the change log leads from the serial before to this one"),
    Column("time", Time, nullable=False),
)

zone_changes = Table(
    "zone_changes",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("zone", String(255), nullable=False),
    Column("serial", BigInteger, nullable=False),
    Column("op", Integer, nullable=False, comment="+1 comes, -1 goes"),
    Column("rule", LargeBinary, nullable=False),
    Index("ix_zone_changes_zone_serial", "zone", "serial"),
)

tsig_keys = Table(
    "tsig_keys",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("subscriber", ForeignKey("subscribers.id"), nullable=False),
    Column("algorithm", String(16), nullable=False),
    Column("secret", LargeBinary, nullable=False, comment="shared: both sides compute with it"),
    Column("created", Time, nullable=False),
)

subscriber_zones = Table(
    "subscriber_zones",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("zone", String(255), primary_key=True),
)

subscriber_notify = Table(
    "subscriber_notify",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("address", String(64), primary_key=True, comment="ADDRESS:PORT"),
)

subscriber_addresses = Table(
    "subscriber_addresses",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("prefix", String(64), primary_key=True, comment="transfers from there go unsigned"),
)

subscriber_lists = Table(
    "subscriber_lists",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("list", String(32), primary_key=True),
)
