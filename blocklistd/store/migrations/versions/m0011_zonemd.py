"""Schema of version 0.5.0: adds the digest of each serial's ZONEMD record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    digest = "digest of the ZONEMD record, in hex; null: the zone has none"
    op.add_column("zone_serials", sa.Column("zonemd", sa.String(96), nullable=True, comment=digest))
