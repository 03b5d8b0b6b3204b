"""PostgreSQL as the database of the state: its errors, its transactions, and the epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from blocklistd.errors import StoreError
from blocklistd.store.backends import Postgresql
from blocklistd.store.database import Database, upgrade
from blocklistd.store.schema import metadata
from tests.databases import Databases, migrated_store, server


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    Databases.on_postgresql = True
    with closing(Database(migrated_store(tmp_path).backend)) as made:
        made.take_over()
        yield made


def test_migrations_make_the_schema(tmp_path: Path) -> None:
    backend = Postgresql(server().url(server().create()), tmp_path)
    with closing(Database(backend)) as database:
        with database.engine.connect().execution_options(writes=True) as connection, connection.begin():
            upgrade(connection)
        with database.read() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_an_error_contains_no_value(database: Database) -> None:
    def insert_twice() -> None:
        with database.write() as connection:
            for _ in range(2):
                connection.execute(text("INSERT INTO meta VALUES (:key, 'x')"), {"key": "listed.example"})

    with pytest.raises(StoreError, match="error 23505") as raised:
        insert_twice()
    assert "listed" not in str(raised.value)


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    backend = Postgresql(f"postgresql://user@/state?host={tmp_path}", tmp_path)
    with (
        closing(Database(backend)) as database,
        pytest.raises(StoreError, match=r"^postgresql:///state: .*check the server and the way to it$"),
    ):
        database.migrate()


def test_a_database_that_sorts_otherwise_is_refused(tmp_path: Path) -> None:
    backend = Postgresql(server().url(server().create(encoding="LATIN1")), tmp_path)
    with closing(Database(backend)) as database, pytest.raises(StoreError, match="found the encoding LATIN1"):
        database.migrate()


def test_a_connection_that_the_server_closed_is_replaced(database: Database) -> None:
    with database.read():
        pass
    server().restart()
    with database.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
