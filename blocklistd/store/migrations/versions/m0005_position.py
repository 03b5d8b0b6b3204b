"""Schema of version 0.4.0: adds where the last body of a source ended, for sources that are read on from there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("sources", sa.Column("position", sa.Text(), nullable=True))
