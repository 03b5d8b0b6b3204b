"""Adds the audit: schema of version 0.3.0."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from blocklistd.store.append_only import forbid_changes

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            autoincrement=False,
            comment="from 1, without a gap",
        ),
        sa.Column("time", sa.String(27), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False, comment="the user; auto: the daemon by itself"),
        sa.Column("uid", sa.BigInteger(), nullable=True, comment="of the user; null: the daemon by itself"),
        sa.Column("action", sa.String(64), nullable=False, comment="the command, or release"),
        sa.Column("object", sa.Text(), nullable=False, comment="an id; never an entry"),
        sa.Column("detail", sa.Text(), nullable=False, comment="canonical JSON, ids and figures only"),
        sa.Column(
            "hash",
            sa.String(64),
            nullable=False,
            comment="of this line and of the hash of the line before (store/audit.py)",
        ),
        sa.PrimaryKeyConstraint("number"),
    )
    forbid_changes(op.get_bind())
