"""The check of the audit finds lines that were altered, removed, reordered, truncated or replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from blocklistd.errors import StoreError
from blocklistd.model import Act
from blocklistd.store import audit
from blocklistd.store.database import Database
from tests.databases import migrated_store

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ALICE = Act("candidate approve", "alice", 1000)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(migrated_store(tmp_path).backend)
    made.take_over()
    yield made
    made.close()


def act(database: Database, count: int) -> None:
    for number in range(count):
        with database.write() as connection:
            audit.append(
                connection, ALICE, f"c-{number}", now=NOW + timedelta(seconds=number), detail={"version": number}
            )


def wrong(database: Database) -> str | None:
    with database.read() as connection:
        return audit.check(connection, database.head_file.read())


def tamper(database: Database, *statements: str) -> None:
    """Changes the table as somebody who owns the database and can drop its triggers."""
    with database.engine.connect().execution_options(writes=True) as connection, connection.begin():
        sqlite = connection.dialect.name == "sqlite"
        triggers = ["audit_no_update", "audit_no_delete"] if sqlite else ["audit_append_only ON audit"]
        for trigger in triggers:
            connection.execute(text(f"DROP TRIGGER {trigger}"))
        for statement in statements:
            connection.execute(text(statement))


def test_lines_are_chained_and_the_head_file_has_the_newest(database: Database) -> None:
    assert wrong(database) is None, "an empty audit is intact"
    act(database, 3)
    with database.read() as connection:
        lines = audit.newest(connection, 10)
        assert audit.newest(connection, 1, before=3) == lines[1:2]
    assert [(line.number, line.object, line.detail) for line in lines] == [
        (1, "c-0", {"version": 0}),
        (2, "c-1", {"version": 1}),
        (3, "c-2", {"version": 2}),
    ]
    assert {(line.actor, line.uid, line.action) for line in lines} == {("alice", 1000, "candidate approve")}
    assert database.head_file.read() == audit.Head(3, lines[-1].hash)
    assert wrong(database) is None


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'bob'", "DELETE FROM audit"])
def test_lines_are_only_appended(database: Database, statement: str) -> None:
    act(database, 1)
    with pytest.raises(StoreError, match="append-only"), database.write() as connection:
        connection.execute(text(statement))
    assert wrong(database) is None


ALTERED = "was changed: its content does not match its hash"


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["UPDATE audit SET actor = 'bob' WHERE number = 2"], f"line 2 {ALTERED}"),
        (["UPDATE audit SET uid = NULL WHERE number = 5"], f"line 5 {ALTERED}"),
        (["UPDATE audit SET time = '2026-11-20T11:00:00.000000Z' WHERE number = 1"], f"line 1 {ALTERED}"),
        (["UPDATE audit SET detail = '{}' WHERE number = 3"], f"line 3 {ALTERED}"),
        (["UPDATE audit SET hash = (SELECT hash FROM audit WHERE number = 1) WHERE number = 3"], f"line 3 {ALTERED}"),
        (["DELETE FROM audit WHERE number = 1"], "line 1 is missing"),
        (["DELETE FROM audit WHERE number IN (2, 3)"], "lines 2 to 3 are missing"),
        (
            ["DELETE FROM audit WHERE number = 2", "UPDATE audit SET number = number - 1 WHERE number > 2"],
            f"line 2 {ALTERED}",
        ),
        (
            [f"UPDATE audit SET number = {new} WHERE number = {old}" for old, new in ((2, 99), (3, 2), (99, 3))],
            f"line 2 {ALTERED}",
        ),
        (["DELETE FROM audit WHERE number > 3"], "lines 4 to 5 are missing at the end"),
        (["DELETE FROM audit"], "lines 1 to 5 are missing at the end"),
    ],
)
def test_every_change_of_the_audit_is_found(database: Database, statements: list[str], found: str) -> None:
    act(database, 5)
    assert wrong(database) is None
    tamper(database, *statements)
    shown = wrong(database)
    assert shown is not None
    assert found in shown


def test_new_lines_do_not_hide_a_truncation(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    act(database, 5)
    kept = database.head_file.read()
    tamper(database, "DELETE FROM audit WHERE number > 3")
    act(database, 6)
    assert database.head_file.read() == kept, "the head file does not follow"
    assert "does not continue" in caplog.text
    assert wrong(database) == "line 5 was replaced: the head file has another hash for it"


def test_the_head_file_follows_again_after_a_loss_is_recorded(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    act(database, 5)
    kept = database.head_file.read()
    tamper(database, "DELETE FROM audit WHERE number > 3")
    with database.write() as connection:
        detail = audit.record_loss(connection, kept)
        audit.append(connection, ALICE, "1000", now=NOW, detail=detail)
    assert detail == {"audit_left": 5}
    assert wrong(database) is None
    act(database, 1)
    assert wrong(database) is None
    assert caplog.text == ""
    with database.write() as connection:
        assert audit.record_loss(connection, database.head_file.read()) == {}, "nothing is lost"
    database.head_file.path.write_text(f"{'9'.zfill(20)} {'ab' * 32}\n")
    assert wrong(database) is not None, "no loss is recorded for this head"
    act(database, 1)
    assert "does not continue" in caplog.text


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda path: path.unlink(), "there is no head file"),
        (lambda path: path.write_text("something else\n"), "can't be read"),
        (lambda path: path.write_text(f"{'7'.zfill(20)} {'ab' * 32}\n"), "lines 3 to 7 are missing at the end"),
    ],
)
def test_a_missing_or_damaged_head_file_is_reported(
    database: Database, harm: Callable[[Path], object], found: str
) -> None:
    act(database, 2)
    harm(database.head_file.path)
    shown = wrong(database)
    assert shown is not None
    assert found in shown


def test_a_transaction_that_is_rolled_back_leaves_no_line(database: Database) -> None:
    act(database, 1)
    with contextlib.suppress(RuntimeError), database.write() as connection:
        audit.append(connection, ALICE, "c-9", now=NOW)
        raise RuntimeError
    act(database, 1)
    with database.read() as connection:
        assert [line.object for line in audit.newest(connection, 9)] == ["c-0", "c-0"]
    assert wrong(database) is None


def test_a_head_file_that_is_behind_is_advanced(database: Database) -> None:
    act(database, 2)
    behind = database.head_file.path.read_text()
    act(database, 2)
    database.head_file.path.write_text(behind)  # as after a power cut between the commit and the file
    assert wrong(database) is None
    database.keep_head()
    head = database.head_file.read()
    assert head is not None
    assert head.number == 4


def test_an_act_succeeds_while_the_head_file_can_not_be_written(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database.head_file.path = tmp_path / "not" / "there"
    act(database, 1)
    assert "could not be written" in caplog.text
    with database.read() as connection:
        assert audit.head(connection).number == 1


def test_concurrent_writers_leave_the_newest_head(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """Each writer commits, then advances the head file: no older head replaces a newer one."""

    def write(number: int) -> None:
        beside = Database(database.backend, database.epoch)
        for _ in range(10):
            with beside.write() as connection:
                audit.append(connection, ALICE, f"c-{number}", now=NOW)
        beside.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert caplog.text == ""
    head = database.head_file.read()
    assert head is not None
    assert head.number == 40
    assert wrong(database) is None
