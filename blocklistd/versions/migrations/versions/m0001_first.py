"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "candidates",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("list", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("created", sa.String(27), nullable=False),
        sa.Column("asserted", sa.String(length=64), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("suffixes", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False, comment="held, released, rejected, superseded"),
        sa.Column("decided", sa.String(27), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True, comment="the version that released it"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_candidates_state", "candidates", ["state", "list", "source"], unique=False)
    op.create_table(
        "changes",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("list", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("op", sa.Integer(), nullable=False, comment="+1 added, -1 removed"),
        sa.Column("key", sa.LargeBinary(), nullable=False, comment="type NUL value: the order of a diff"),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_changes_list_version", "changes", ["list", "version"], unique=False)
    op.create_table(
        "lists",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("session", sa.String(length=36), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False, comment="key of the HMAC that makes the ids of entries"),
        sa.Column("created", sa.String(27), nullable=False),
        sa.Column(
            "composition", sa.Text(), nullable=False, comment="what the live version was composed under (compose.py)"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "pulls",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("time", sa.String(27), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False, comment="milliseconds that it took"),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_pulls_source", "pulls", ["source", "id"], unique=False)
    op.create_table(
        "sources",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column(
            "asserted",
            sa.String(length=64),
            nullable=True,
            comment="the newest body that proved its origin and could be read, canonical",
        ),
        sa.Column("report", sa.JSON(), nullable=True, comment="the IntakeReport of that body"),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("last_modified", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=True, comment="what the validators are of: another URL, another body"),
        sa.Column("signature", sa.String(length=64), nullable=True),
        sa.Column("signed_at", sa.BigInteger(), nullable=True),
        sa.Column("last_pull", sa.String(27), nullable=True),
        sa.Column("last_accepted", sa.String(27), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("candidate", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "subscribers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column(
            "token", sa.String(length=64), nullable=False, comment="SHA-256 of the token; the token itself is not kept"
        ),
        sa.Column("created", sa.String(27), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("revoked", sa.String(27), nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token"),
    )
    op.create_table(
        "superseded_signatures",
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("signature", sa.String(length=64), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("source", "signature"),
    )
    op.create_table(
        "tuf_metadata",
        sa.Column("list", sa.String(length=32), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("expires", sa.String(27), nullable=False),
        sa.Column("signed", sa.String(27), nullable=False),
        sa.Column("target", sa.Integer(), nullable=False, comment="the list's version that it leads to"),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("list", "role", "version"),
    )
    op.create_table(
        "decisions",
        sa.Column("candidate", sa.String(length=32), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False, comment="two decisions by one uid count once"),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("time", sa.String(27), nullable=False),
        sa.Column("approve", sa.Integer(), nullable=False, comment="1 approved, 0 rejected"),
        sa.ForeignKeyConstraint(
            ["candidate"],
            ["candidates.id"],
        ),
        sa.PrimaryKeyConstraint("candidate", "uid"),
    )
    op.create_table(
        "list_sources",
        sa.Column("list", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("asserted", sa.String(length=64), nullable=False, comment="what the live version was composed from"),
        sa.Column("accepted", sa.String(27), nullable=False),
        sa.ForeignKeyConstraint(
            ["list"],
            ["lists.id"],
        ),
        sa.PrimaryKeyConstraint("list", "source"),
    )
    op.create_table(
        "subscriber_lists",
        sa.Column("subscriber", sa.String(length=64), nullable=False),
        sa.Column("list", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["subscriber"],
            ["subscribers.id"],
        ),
        sa.PrimaryKeyConstraint("subscriber", "list"),
    )
    op.create_table(
        "versions",
        sa.Column("list", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("time", sa.String(27), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("canonicaliser", sa.Integer(), nullable=False),
        sa.Column("released_by", sa.Text(), nullable=False),
        sa.Column("logged", sa.Integer(), nullable=False, comment="1: the change log holds the step to this version"),
        sa.CheckConstraint("version >= 1", name="ck_versions_from_1"),
        sa.ForeignKeyConstraint(
            ["list"],
            ["lists.id"],
        ),
        sa.PrimaryKeyConstraint("list", "version"),
    )
