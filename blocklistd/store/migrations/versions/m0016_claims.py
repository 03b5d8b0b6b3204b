"""Schema of version 0.7.0: adds the claims of clients to hold a number above the newest one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "client_claims",
        sa.Column("subscriber", sa.String(64), primary_key=True),
        sa.Column("subject", sa.String(300), primary_key=True, comment="list or zone, with its name"),
        sa.Column("time", sa.String(27), nullable=False, comment="of the first claim"),
        sa.Column("text", sa.Text(), nullable=False, comment="of the alarm"),
    )
