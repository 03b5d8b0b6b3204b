"""Adds the method that makes the ids of entries: schema of version 0.3.0. Existing lists keep HMAC-SHA-256."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column(
        "lists",
        sa.Column(
            "ids",
            sa.String(length=16),
            nullable=False,
            server_default="hmac-sha256",
            comment="method that makes the ids of entries (lines/ids.py)",
        ),
    )
