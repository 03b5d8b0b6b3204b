"""Schema of version 0.5.0: adds client certificates, the software of subscribers, and what a rotation of tokens and
keys needs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

TIME = sa.String(27)
DIGEST = sa.String(64)


def upgrade() -> None:
    op.add_column("subscribers", sa.Column("software", sa.String(64), nullable=True, comment="NAME or NAME:VERSION"))
    op.add_column("tsig_keys", sa.Column("expires", TIME, nullable=True, comment="null: the newest key"))
    op.add_column("tsig_keys", sa.Column("used", TIME, nullable=True, comment="last use, within an hour; null: never"))
    op.create_table(
        "old_tokens",
        sa.Column("token", DIGEST, primary_key=True, comment="SHA-256 of the token"),
        sa.Column("subscriber", sa.String(64), sa.ForeignKey("subscribers.id"), nullable=False),
        sa.Column("expires", TIME, nullable=False),
        sa.Column("used", TIME, nullable=True, comment="last use since the rotation, within an hour; null: none"),
    )
    op.create_table(
        "subscriber_certificates",
        sa.Column("subscriber", sa.String(64), sa.ForeignKey("subscribers.id"), primary_key=True),
        sa.Column("public_key", DIGEST, primary_key=True, comment="SHA-256 of the SubjectPublicKeyInfo"),
    )
