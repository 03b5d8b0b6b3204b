"""The schema and its migrations are one, an older database is upgraded with its data, and a read sees one state."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from blocklistd.errors import StoreError
from blocklistd.lines.ids import BLAKE2B, HMAC_SHA256, Ids
from blocklistd.model import KeyHistory, ListId, Sha256
from blocklistd.receipts import Copied
from blocklistd.store import receipts
from blocklistd.store.database import NEWEST_MIGRATION, Database, upgrade
from blocklistd.store.lists import ensure_list, list_state
from blocklistd.store.replays import read_histories
from blocklistd.store.schema import metadata


def made(connection: Connection) -> set[tuple[str, ...]]:
    """The tables with their columns and keys, the indexes, and the triggers. The order of columns may differ."""
    found: set[tuple[str, ...]] = set()
    for kind, name, sql in connection.execute(text("SELECT type, name, sql FROM sqlite_master")).all():
        if kind == "table":
            columns = connection.execute(text(f"PRAGMA table_info({name})")).all()
            # without the default of `lists.ids`, which an upgrade gives to the lists that exist
            found |= {(name, *map(str, column[1:4]), str(column[5])) for column in columns}
            keys = connection.execute(text(f"PRAGMA foreign_key_list({name})")).all()
            found |= {(name, *map(str, key[2:])) for key in keys}
        else:
            found.add((kind, name, " ".join((sql or "").split())))
    return found


def test_migrations_make_the_schema_of_a_new_database(tmp_path: Path) -> None:
    database, new = Database(tmp_path / "db"), Database(tmp_path / "new")
    new.migrate()
    with database.engine.connect() as connection, connection.begin(), new.engine.connect() as other:
        upgrade(connection)
        assert made(connection) == made(other)
        assert {("trigger", "audit_no_update"), ("trigger", "audit_no_delete")} <= {one[:2] for one in made(other)}
        for one in (connection, other):
            assert compare_metadata(MigrationContext.configure(one), metadata) == []
    new.close()
    database.migrate()
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == NEWEST_MIGRATION
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    database.close()


def test_an_older_database_is_upgraded_and_keeps_its_data(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    with database.engine.connect() as connection, connection.begin():
        upgrade(connection, "0001")
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
    with database.engine.connect() as connection, connection.begin():
        upgrade(connection, "0004")
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


def test_times_of_receipts_that_can_not_be_read_are_repaired_by_an_upgrade(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    received = "2026-11-20T12:00:00.000000Z"
    with database.engine.connect() as connection, connection.begin():
        upgrade(connection, "0013")
        values = {"id": "isp", "token": "t", "created": received, "created_by": "root"}
        connection.execute(
            text(
                "INSERT INTO subscribers (id, token, created, created_by) VALUES (:id, :token, :created, :created_by)"
            ),
            values,
        )
        for name, applied in (("old", "1-01-01T00:00:00.000000Z"), ("right", "2026-11-20T11:00:00.000000Z")):
            row = {"node": name, "at": applied, "seen": received}
            place = "subscriber, copied, subject, node"
            here = "'isp', 'list', 'national', :node"
            connection.execute(
                text(
                    f"INSERT INTO nodes ({place}, since, seen, version, reported, state, applied_at, probed_at, probed)"
                    f" VALUES ({here}, :seen, :seen, 1, 1, 'applied', :at, :at, 'blocked')"
                ),
                row,
            )
            connection.execute(
                text(
                    f"INSERT INTO receipts ({place}, version, state, applied_at, live, received) "
                    f"VALUES ({here}, 1, 'applied', :at, :at, :seen)"
                ),
                row,
            )
    database.migrate()
    database.take_over()
    with database.read() as connection:
        nodes = {place.node: node for place, node in receipts.load_nodes(connection).items()}
        reported = receipts.reported_since(connection, "isp", Copied.LIST, "national", 1)
    arrived = datetime.fromisoformat(received)
    times = {name: (node.newest.applied_at, node.newest.clock) for name, node in nodes.items()}
    assert times == {"old": (arrived, "behind"), "right": (arrived - timedelta(hours=1), None)}
    assert reported["old"][1].live == reported["old"][1].newest.applied_at == arrived
    assert reported["right"][1].live == arrived - timedelta(hours=1)
    database.close()


def test_a_file_that_is_not_a_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"something else altogether" * 100)
    with pytest.raises(StoreError, match="expected an undamaged database of blocklistd"):
        Database(tmp_path / "db").migrate()


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
