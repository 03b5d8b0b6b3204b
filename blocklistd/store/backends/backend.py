"""What a backend does for the database (store/database.py), and an upsert that runs on each of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from blocklistd.errors import StoreError

STATEMENTS: Final = 500  # compiled ones that a process keeps


class Backend(Protocol):
    """Where the database is, and what is special about it. `folder`: the state_dir, which has the audit's head file."""

    @property
    def folder(self) -> Path:
        """The state_dir."""
        ...

    @property
    def place(self) -> str:
        """The database's name in messages; without a password."""
        ...

    def engine(self, read_only: bool) -> Engine:
        """Opens the database at the first connection.

        A transaction of a connection with the execution option `writes` waits until no other one writes. In all
        others every statement sees the same state.
        """
        ...

    def lock_schema(self, connection: Connection) -> None:
        """Waits until no other process migrates the schema; until the end of the transaction.

        Raises StoreError if the database is not fit for this program.
        """
        ...

    def damage(self, connection: Connection) -> str | None:
        """The first damage that a check of the whole database finds, or None."""
        ...

    def copy_to(self, connection: Connection, path: Path) -> None:
        """Writes the database as one transaction sees it to a new file. `connection` has the execution option `alone`:
        it begins no transaction by itself.

        Raises StoreError if the backend has its own backups.
        """
        ...

    def safe_error(self, error: DBAPIError) -> StoreError:
        """The driver's error as one for people, without any value that was bound to a statement."""
        ...


def upsert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts the rows, which have the same columns. Each changes the row with its primary key, if there is one."""
    if not rows:
        return
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table)
    changes = {name: statement.excluded[name] for name in rows[0] if not table.c[name].primary_key}
    connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=changes), rows)
