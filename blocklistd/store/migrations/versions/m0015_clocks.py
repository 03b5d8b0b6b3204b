"""Schema of version 0.7.0: marks nodes whose clock is wrong, and repairs the times of receipts that can't be right.

A time before the year 1000 was once stored with a year of fewer than four digits, which can't be read. A time before
2000 is of no receipt: in its place comes the time when the receipt arrived.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    behind = "error of the node's clock, by the newest receipt: behind, ahead; null: none"
    op.add_column("nodes", sa.Column("clock", sa.String(8), nullable=True, comment=behind))
    unusable = "({0} NOT LIKE '____-__-__T%' OR {0} < '2000')"
    for column in ("applied_at", "live"):
        op.execute(f"UPDATE receipts SET {column} = received WHERE {unusable.format(column)}")
    op.execute(f"UPDATE nodes SET applied_at = seen, clock = 'behind' WHERE {unusable.format('applied_at')}")
    op.execute(f"UPDATE nodes SET probed_at = seen WHERE {unusable.format('probed_at')}")
