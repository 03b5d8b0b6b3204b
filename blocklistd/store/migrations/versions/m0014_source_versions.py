"""Schema of version 0.7.0: adds the versions of sources that lists have, for the receipts of an edge."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "source_versions",
        sa.Column("list", sa.String(32), sa.ForeignKey("lists.id"), primary_key=True),
        sa.Column("source", sa.String(32), primary_key=True),
        sa.Column("session", sa.String(64), primary_key=True, comment="of the source's own list"),
        sa.Column("source_version", sa.BigInteger(), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="of this list"),
        sa.Column("time", sa.String(27), nullable=False, comment="since when the list has it"),
    )
