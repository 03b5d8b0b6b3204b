"""Schema of version 0.5.0: adds corrections, freezes and rollbacks, ages of entries, hits of guard files, statistics,
alarms that were sent, and names of subscribers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

TIME = sa.String(27)
DIGEST = sa.String(64)
SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def add(table: str, name: str, kind: Any, comment: str | None = None) -> None:
    op.add_column(table, sa.Column(name, kind, nullable=True, comment=comment))


def upgrade() -> None:
    op.drop_column("lists", "first_asserted")  # nothing wrote to it
    add("lists", "basis", DIGEST, "snapshot of the earlier version that a rollback brought back; null: no rollback")
    add("lists", "frozen", sa.JSON(), "who froze the list, when and why (change.Freeze); null: it is not frozen")
    add("lists", "categories", sa.JSON(), "entries of the live version by category; null: not counted yet")
    add("lists", "counted", sa.Integer(), "the newest version in daily_figures and in `ages`; null: none yet")
    add(
        "lists",
        "ages",
        DIGEST,
        "sealed file: since when entries are live (ages.Ages); null: all since `ages_since`",
    )
    add("lists", "ages_since", TIME, "entries that are not in `ages` are live since then")
    add(
        "versions", "sources", sa.JSON(), "sealed entries of each source; null once a later version is in daily_figures"
    )
    add("list_sources", "ages", DIGEST, "sealed file: since when they are asserted; null: all since `ages_since`")
    add("list_sources", "ages_since", TIME, "those that are not in `ages` since then; null: see source_ages")
    add("candidates", "actor_uid", sa.BigInteger(), "of that user; null: nobody, or not known")
    add("candidates", "basis", DIGEST, "of a rollback: the snapshot that it brings back")
    add("candidates", "lifts", sa.JSON(), "numbers of the corrections that end with it")
    add("candidates", "evaluated", TIME, "of an expiry: entries that end by then have ended")
    add("candidates", "hits", sa.JSON(), "ids of the entries that guard files withhold, by rule")
    add("candidates", "categories", sa.JSON(), "changes by category")
    add("candidates", "by_source", sa.JSON(), "changes by source")
    add("candidates", "next_expiry", TIME, "no entry of the list ends before, once it is released; null: none ends")
    add("decisions", "excepted", sa.JSON(), "ids of the entries without which it was approved; null: none")
    _corrections()
    _guards()
    _figures()


def _corrections() -> None:
    op.create_table(
        "corrections",
        sa.Column("number", SERIAL, primary_key=True),
        sa.Column("list", sa.String(32), sa.ForeignKey("lists.id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False, comment="delisted, embargoed, excepted"),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("entry", sa.String(64), nullable=False, comment="the id of the entry"),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False, comment="of an embargo: who asked for it; else empty"),
        sa.Column("until", TIME, nullable=True, comment="when it ends; null: when a person ends it"),
        sa.Column("created", TIME, nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=True),
        sa.Column(
            "version",
            sa.Integer(),
            nullable=True,
            comment="the version without the entry; null: the entry was not live",
        ),
        sa.Column("requests", sa.Integer(), nullable=False, comment="how often its end was requested"),
        sa.Column("ended", TIME, nullable=True, comment="null: it is in force"),
        sa.Column("ended_by", sa.Text(), nullable=True, comment="the user; auto: `until` has passed"),
    )
    op.create_index("ix_corrections_list", "corrections", ["list", "ended"])


def _guards() -> None:
    op.create_table(
        "guard_hits",
        sa.Column("list", sa.String(32), sa.ForeignKey("lists.id"), primary_key=True),
        sa.Column("entry", sa.String(64), primary_key=True, comment="the id of the entry"),
        sa.Column("rule", sa.String(32), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("since", TIME, nullable=False),
    )
    op.create_table(
        "kept_entries",
        sa.Column("list", sa.String(32), sa.ForeignKey("lists.id"), primary_key=True),
        sa.Column("type", sa.String(16), primary_key=True),
        sa.Column("value", sa.Text(), primary_key=True),
        sa.Column("time", TIME, nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
    )
    op.create_table(
        "subscriber_names",
        sa.Column("subscriber", sa.String(64), sa.ForeignKey("subscribers.id"), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
    )


def _figures() -> None:
    op.drop_table("daily_figures")  # nothing wrote to it
    op.create_table(
        "daily_figures",
        sa.Column("list", sa.String(32), primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True, comment="YYYY-MM-DD, UTC"),
        sa.Column("source", sa.String(32), primary_key=True, comment="empty: all"),
        sa.Column("category", sa.String(64), primary_key=True, comment="empty: all"),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=False),
        sa.Column("live", sa.BigInteger(), nullable=False, comment="entries at the end of the day"),
        sa.Column("expired", sa.BigInteger(), nullable=False, comment="of `removed`: those that ended by themselves"),
        sa.Column("corrected", sa.BigInteger(), nullable=False, comment="of `removed`: those that a person took out"),
        sa.Column("lives", sa.JSON(), nullable=False, comment="of `removed`: how many by the days that they were live"),
    )
    op.create_table(
        "source_ages",
        sa.Column("list", sa.String(32), sa.ForeignKey("lists.id"), primary_key=True),
        sa.Column("source", sa.String(32), primary_key=True),
        sa.Column(
            "ages", DIGEST, nullable=True, comment="sealed file: since when they are asserted; null: all since `since`"
        ),
        sa.Column(
            "since", TIME, nullable=True, comment="those that are not in `ages` since then; null: it is not known"
        ),
    )
    op.create_table(
        "sent_alarms",
        sa.Column("way", sa.String(16), primary_key=True, comment="webhook, command"),
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("subject", sa.String(255), primary_key=True),
        sa.Column("raised", TIME, nullable=False),
        sa.Column("sent", TIME, nullable=True, comment="null: not delivered yet"),
        sa.Column("state", sa.String(8), nullable=False, comment="raised, over, done: its end is delivered"),
    )
