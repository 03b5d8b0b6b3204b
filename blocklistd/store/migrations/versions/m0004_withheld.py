"""Schema of version 0.3.0: adds counts of withheld entries by list, and the time of each source's first pull."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    withheld = "asserted entries that the live version withholds, by rule; null: not counted yet"
    op.add_column("lists", sa.Column("withheld", sa.JSON(), nullable=True, comment=withheld))
    first_pull = "when the first pull ended, well or badly"
    op.add_column("sources", sa.Column("first_pull", sa.String(27), nullable=True, comment=first_pull))
    op.execute(
        "UPDATE sources SET first_pull = "
        "COALESCE((SELECT MIN(time) FROM pulls WHERE pulls.source = sources.id), last_pull)"
    )
