"""The tables of subscribers and their rights, zones, and signed metadata (schema.py has all others)."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from blocklistd.store.schema import Digest, Time, metadata

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
    Column("software", String(64), comment="NAME or NAME:VERSION"),
    Column("objective", BigInteger, comment="seconds in which each version is to be live at each node; null: none"),
)

# Tokens that a rotation has replaced.
old_tokens = Table(
    "old_tokens",
    metadata,
    Column("token", Digest, primary_key=True, comment="SHA-256 of the token"),
    Column("subscriber", ForeignKey("subscribers.id"), nullable=False),
    Column("expires", Time, nullable=False),
    Column("used", Time, comment="last use since the rotation, within an hour; null: none"),
)

# Client certificates, which identify a subscriber on TLS.
subscriber_certificates = Table(
    "subscriber_certificates",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("public_key", Digest, primary_key=True, comment="SHA-256 of the SubjectPublicKeyInfo"),
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
    Column("wire", Digest, nullable=False, comment="the sealed file of compiled messages; of `rules` until then"),
    Column("delta", Digest, comment="the sealed delta of rules from the serial before; null: none leads here"),
    Column("added", BigInteger, nullable=False, comment="rules that the delta adds"),
    Column("removed", BigInteger, nullable=False, comment="rules that the delta removes"),
    Column("records", BigInteger, nullable=False),  # rules in the zone
    # names without a rule of their own: a listed parent domain covers them
    Column("covered", BigInteger, nullable=False),
    Column("omitted", JSON, nullable=False, comment="ids of entries, once for each rule that does not fit"),
    Column("zonemd", String(96), comment="digest of the ZONEMD record, in hex; null: the zone has none"),
    Column("time", Time, nullable=False),
)

# The catalog zone of each subscriber (RFC 9432); a row outlives the subscriber, since a serial never falls.
catalogs = Table(
    "catalogs",
    metadata,
    Column("zone", String(255), primary_key=True, comment="the catalog's name"),
    Column("subscriber", String(64), primary_key=True),
    Column("serial", BigInteger, nullable=False),
    Column("members", JSON, nullable=False, comment="names of zones, sorted"),
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
    Column("expires", Time, comment="null: the newest key"),
    Column("used", Time, comment="last use, within an hour; null: never"),
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

# Names of a subscriber's own services, which no list may block.
subscriber_names = Table(
    "subscriber_names",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("name", String(255), primary_key=True),
)

# The lists that a subscriber may fetch from the feed.
subscriber_lists = Table(
    "subscriber_lists",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("list", String(32), primary_key=True),
)

# The nodes of subscribers: what each one has, by its receipts. A secondary is a node of a zone (receipts.Node).
nodes = Table(
    "nodes",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("copied", String(8), primary_key=True, comment="list, zone"),
    Column("subject", String(255), primary_key=True, comment="the list's id, or the zone's name"),
    Column("node", String(64), primary_key=True, comment="the name that it gives itself; of a secondary, its address"),
    Column("since", Time, nullable=False),
    Column("seen", Time, nullable=False),
    Column("version", BigInteger, comment="the highest that is live there; null: none"),
    Column("reported", BigInteger, nullable=False, comment="version of the newest receipt"),
    Column("state", String(8), nullable=False, comment="of the newest receipt: applied, partial, failed"),
    Column("reason", Text),
    Column("applied_at", Time, nullable=False),
    Column("probe", String(8), comment="of the newest receipt: blocked, resolves; null: no probe"),
    Column("probed_version", BigInteger, comment="version of the newest probe; null: none"),
    Column("probed_at", Time),
    Column("probed", String(8), comment="blocked, resolves"),
    Column("clock", String(8), comment="error of the node's clock, by the newest receipt: behind, ahead; null: none"),
)

# What a node reported of each version; kept for RECEIPT_DAYS (receipts.Reported).
receipts = Table(
    "receipts",
    metadata,
    Column("subscriber", ForeignKey("subscribers.id"), primary_key=True),
    Column("copied", String(8), primary_key=True, comment="list, zone"),
    Column("subject", String(255), primary_key=True),
    Column("node", String(64), primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("state", String(8), nullable=False, comment="of the newest receipt of this version"),
    Column("reason", Text),
    Column("applied_at", Time, nullable=False),
    Column("probe", String(8)),
    Column("live", Time, comment="since when the version is live at the node; null: it failed"),
    Column("received", Time, nullable=False),
    Index("ix_receipts_received", "received"),
)

# From which version on a list has all that a version of its source says; the source is a list of another blocklistd.
source_versions = Table(
    "source_versions",
    metadata,
    Column("list", ForeignKey("lists.id"), primary_key=True),
    Column("source", String(32), primary_key=True),
    Column("session", String(64), primary_key=True, comment="of the source's own list"),
    Column("source_version", BigInteger, primary_key=True),
    Column("version", Integer, nullable=False, comment="of this list"),
    Column("time", Time, nullable=False, comment="since when the list has it"),
)

# Clients that claimed to hold a number above the newest one here (serve/claims.py).
client_claims = Table(
    "client_claims",
    metadata,
    Column("subscriber", String(64), primary_key=True),
    Column("subject", String(300), primary_key=True, comment="list or zone, with its name"),
    Column("time", Time, nullable=False, comment="of the first claim"),
    Column("text", Text, nullable=False, comment="of the alarm"),
)
