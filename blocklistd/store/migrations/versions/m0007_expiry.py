"""Schema of version 0.4.0: adds the time of the last evaluation of expiries, and that of the next expiry, by list."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    evaluated = "when expiries were last evaluated; null: never"
    op.add_column("lists", sa.Column("evaluated", sa.String(27), nullable=True, comment=evaluated))
    next_expiry = "before this, no entry of the live version ends; null: none ends"
    op.add_column("lists", sa.Column("next_expiry", sa.String(27), nullable=True, comment=next_expiry))
