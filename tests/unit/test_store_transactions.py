"""Transactions of the database, on each system that can hold the state."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from blocklistd.errors import FencedError
from blocklistd.store.database import Database
from tests.databases import migrated_store


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(migrated_store(tmp_path).backend)) as made:
        made.take_over()
        yield made


def test_a_read_sees_one_state_while_another_writes(database: Database) -> None:
    count = text("SELECT count(*) FROM meta")
    with database.read() as reading:
        before = reading.execute(count).scalar()
        with database.write() as writing:
            writing.execute(text("INSERT INTO meta VALUES ('another', '1')"))
        assert reading.execute(count).scalar() == before
    with database.read() as reading:
        assert reading.execute(count).scalar() == 2


def test_a_writer_waits_for_another_one(database: Database) -> None:
    seen: list[str] = []
    began = threading.Event()

    def second() -> None:
        began.set()
        with database.write() as connection:
            seen.append(str(connection.execute(text("SELECT value FROM meta WHERE key = 'number'")).scalar()))

    other = threading.Thread(target=second)
    with database.write() as connection:
        other.start()
        assert began.wait(10)
        connection.execute(text("INSERT INTO meta VALUES ('number', '1')"))
        assert seen == []
    other.join(10)
    assert seen == ["1"]


def test_a_daemon_whose_epoch_ended_writes_nothing(database: Database) -> None:
    with closing(Database(database.backend)) as newer:
        newer.take_over()
        with pytest.raises(FencedError, match="another daemon has taken over"), database.write():
            pass
        with newer.write():
            pass
