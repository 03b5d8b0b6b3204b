"""Schema of version 0.5.0: adds the catalog zone of each subscriber."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "catalogs",
        sa.Column("zone", sa.String(255), primary_key=True, comment="the catalog's name"),
        sa.Column("subscriber", sa.String(64), primary_key=True),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("members", sa.JSON(), nullable=False, comment="names of zones, sorted"),
    )
