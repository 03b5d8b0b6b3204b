"""Zones: their serials and changes, and what a subscriber needs to transfer them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "zone_serials",
        sa.Column("zone", sa.String(255), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("list", sa.String(32), nullable=False),
        sa.Column("session", sa.String(36), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("records_of", sa.Text(), nullable=False),
        sa.Column("apex_of", sa.Text(), nullable=False),
        sa.Column("rules", sa.String(64), nullable=False),
        sa.Column("wire", sa.String(64), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("covered", sa.BigInteger(), nullable=False),
        sa.Column("omitted", sa.JSON(), nullable=False),
        sa.Column("logged", sa.Integer(), nullable=False),
        sa.Column("time", sa.String(27), nullable=False),
        sa.PrimaryKeyConstraint("zone", "serial"),
    )
    op.create_table(
        "zone_changes",
        sa.Column("id", SERIAL, nullable=False),
        sa.Column("zone", sa.String(255), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("op", sa.Integer(), nullable=False),
        sa.Column("rule", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_zone_changes_zone_serial", "zone_changes", ["zone", "serial"])
    op.create_table(
        "tsig_keys",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("subscriber", sa.String(64), nullable=False),
        sa.Column("algorithm", sa.String(16), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.String(27), nullable=False),
        sa.ForeignKeyConstraint(["subscriber"], ["subscribers.id"]),
        sa.PrimaryKeyConstraint("name"),
    )
    for table, column, length in (
        ("subscriber_zones", "zone", 255),
        ("subscriber_notify", "address", 64),
        ("subscriber_addresses", "prefix", 64),
    ):
        op.create_table(
            table,
            sa.Column("subscriber", sa.String(64), nullable=False),
            sa.Column(column, sa.String(length), nullable=False),
            sa.ForeignKeyConstraint(["subscriber"], ["subscribers.id"]),
            sa.PrimaryKeyConstraint("subscriber", column),
        )
