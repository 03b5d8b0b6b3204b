"""Schema of version 0.4.0: what was accepted of each key of a source, in place of one signed time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    keys = sa.Column(
        "keys", sa.JSON(), nullable=True, comment="the newest accepted values of each key (model.KeyHistory)"
    )
    op.add_column("sources", keys)
    key = sa.Column("key", sa.String(64), nullable=True, comment="fingerprint of the key that made it; null: unknown")
    op.add_column("superseded_signatures", key)
    sources = sa.table(
        "sources",
        sa.column("id", sa.String),
        sa.column("report", sa.JSON),
        sa.column("signature", sa.String),
        sa.column("signed_at", sa.BigInteger),
        sa.column("keys", sa.JSON),
    )
    superseded = sa.table("superseded_signatures", sa.column("source", sa.String), sa.column("key", sa.String))
    connection = op.get_bind()
    for row in connection.execute(sa.select(sources).where(sources.c.signature.is_not(None))).all():
        fingerprint = (row.report or {}).get("key")
        known = {"key": fingerprint, "signed_at": row.signed_at, "sequence": None, "location": None}
        connection.execute(sa.update(sources).where(sources.c.id == row.id).values(keys=[known]))
        connection.execute(sa.update(superseded).where(superseded.c.source == row.id).values(key=fingerprint))
    op.drop_column("sources", "signed_at")
