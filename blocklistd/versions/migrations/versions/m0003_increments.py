"""What a change is followed with, so that not all is made again: bodies and their notes, the names of zones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for table, column in (("sources", "listed"), ("sources", "notes"), ("zone_serials", "names")):
        op.add_column(table, sa.Column(column, sa.String(64)))
