"""Schema of version 0.6.0: adds objectives of subscribers, their nodes, and the receipts that these send."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

TIME = sa.String(27)


def upgrade() -> None:
    objective = "seconds in which each version is to be live at each node; null: none"
    op.add_column("subscribers", sa.Column("objective", sa.BigInteger(), nullable=True, comment=objective))
    address = "the name that it gives itself; of a secondary, its address"
    op.create_table(
        "nodes",
        sa.Column("subscriber", sa.String(64), sa.ForeignKey("subscribers.id"), primary_key=True),
        sa.Column("copied", sa.String(8), primary_key=True, comment="list, zone"),
        sa.Column("subject", sa.String(255), primary_key=True, comment="the list's id, or the zone's name"),
        sa.Column("node", sa.String(64), primary_key=True, comment=address),
        sa.Column("since", TIME, nullable=False),
        sa.Column("seen", TIME, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True, comment="the highest that is live there; null: none"),
        sa.Column("reported", sa.BigInteger(), nullable=False, comment="version of the newest receipt"),
        sa.Column("state", sa.String(8), nullable=False, comment="of the newest receipt: applied, partial, failed"),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("applied_at", TIME, nullable=False),
        sa.Column(
            "probe", sa.String(8), nullable=True, comment="of the newest receipt: blocked, resolves; null: no probe"
        ),
        sa.Column("probed_version", sa.BigInteger(), nullable=True, comment="version of the newest probe; null: none"),
        sa.Column("probed_at", TIME, nullable=True),
        sa.Column("probed", sa.String(8), nullable=True, comment="blocked, resolves"),
    )
    live = "since when the version is live at the node; null: it failed"
    op.create_table(
        "receipts",
        sa.Column("subscriber", sa.String(64), sa.ForeignKey("subscribers.id"), primary_key=True),
        sa.Column("copied", sa.String(8), primary_key=True, comment="list, zone"),
        sa.Column("subject", sa.String(255), primary_key=True),
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("version", sa.BigInteger(), primary_key=True),
        sa.Column("state", sa.String(8), nullable=False, comment="of the newest receipt of this version"),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("applied_at", TIME, nullable=False),
        sa.Column("probe", sa.String(8), nullable=True),
        sa.Column("live", TIME, nullable=True, comment=live),
        sa.Column("received", TIME, nullable=False),
    )
    op.create_index("ix_receipts_received", "receipts", ["received"])
