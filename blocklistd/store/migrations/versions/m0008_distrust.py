"""Schema of version 0.4.0: adds the distrusted keys of sources, and why an offer was restored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "distrusted_keys",
        sa.Column("source", sa.String(32), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True, comment="fingerprint"),
        sa.Column("since", sa.String(27), nullable=False, comment="bodies accepted from then on were taken back out"),
        sa.Column("time", sa.String(27), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
    )
    restored = "why `offered` is not of the newest accepted body (distrust.Restored); null: it is"
    op.add_column("sources", sa.Column("restored", sa.JSON(), nullable=True, comment=restored))
