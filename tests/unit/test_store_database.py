"""The schema and its migrations are one, an older database is upgraded with its data, and a read sees one state."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import text

from blocklistd.errors import StoreError
from blocklistd.lines.ids import BLAKE2B, HMAC_SHA256, Ids
from blocklistd.model import KeyHistory, ListId, Sha256
from blocklistd.store import database as module
from blocklistd.store.database import NEWEST_MIGRATION, Database
from blocklistd.store.lists import ensure_list, list_state
from blocklistd.store.replays import read_histories
from blocklistd.store.schema import metadata


def test_migrations_make_the_schema(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    database.migrate()
    database.migrate()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == NEWEST_MIGRATION
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    database.close()


def test_an_older_database_is_upgraded_and_keeps_its_data(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
    with database.engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO meta VALUES ('epoch', '41')"))
        connection.execute(
            text("INSERT INTO lists (id, session, secret, created) VALUES ('old', 's', :secret, :created)"),
            {"secret": b"s" * 32, "created": "2026-11-28T00:00:00.000000Z"},
        )
    database.migrate()
    database.take_over()
    assert database.epoch == 42
    with database.write() as connection:
        ensure_list(connection, ListId("new"), datetime(2026, 11, 29, tzinfo=UTC))
        assert list_state(connection, ListId("old")).ids == Ids(HMAC_SHA256, b"s" * 32)
        assert list_state(connection, ListId("new")).ids.method == BLAKE2B
    database.close()


def test_signed_times_belong_to_a_key_after_an_upgrade(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
    with database.engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        for source, report in (("old", "{}"), ("new", f'{{"key": "{"k" * 64}"}}')):
            values = {"id": source, "report": report, "signature": "s" * 64, "earlier": "e" * 64}
            connection.execute(
                text("INSERT INTO sources (id, report, signature, signed_at) VALUES (:id, :report, :signature, 7)"),
                values,
            )
            connection.execute(text("INSERT INTO superseded_signatures VALUES (:id, :earlier, 5)"), values)
        connection.execute(text("INSERT INTO sources (id) VALUES ('unsigned')"))
    database.migrate()
    database.take_over()
    with database.write() as connection:
        found = connection.execute(text("SELECT id, keys FROM sources ORDER BY id")).all()
        keys = {row.id: read_histories(json.loads(row.keys)) if row.keys else () for row in found}
        key = Sha256("k" * 64)
        assert keys == {"new": (KeyHistory(key, 7),), "old": (KeyHistory(None, 7),), "unsigned": ()}
        earlier = connection.execute(text("SELECT source, key FROM superseded_signatures ORDER BY source")).all()
        assert [tuple(row) for row in earlier] == [("new", key), ("old", None)]
    database.close()


def test_a_file_that_is_not_a_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"something else altogether" * 100)
    with pytest.raises(StoreError, match="expected an undamaged database of blocklistd"):
        Database(tmp_path / "db").migrate()


def test_a_read_sees_one_state_while_another_writes(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    database.migrate()
    database.take_over()
    count = text("SELECT count(*) FROM meta")
    with database.read() as reading:
        before = reading.execute(count).scalar()
        with database.write() as writing:
            writing.execute(text("INSERT INTO meta VALUES ('another', '1')"))
        assert reading.execute(count).scalar() == before
    with database.read() as reading:
        assert reading.execute(count).scalar() == 2
    database.close()


def test_an_error_does_not_contain_bound_values(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    database.migrate()
    database.take_over()

    def insert_twice() -> None:
        with database.write() as connection:
            for _ in range(2):
                connection.execute(text("INSERT INTO meta VALUES (:key, 'x')"), {"key": "listed.example"})

    with pytest.raises(StoreError) as raised:
        insert_twice()
    assert "listed" not in str(raised.value)
    database.close()
