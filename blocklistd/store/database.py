"""Opens, migrates, reads and writes the database, and refuses writes of an earlier daemon's jobs.

The database is in a file (SQLite) or on a server (PostgreSQL): see `backends/`. A committed transaction survives a
power cut. Order of calls in a daemon: `migrate`, `take_over`, then `read` and `write`. Jobs write from processes of
their own and only read or write.

The *epoch* is a number in the table `meta`. `take_over` raises it by one, and each job gets the epoch of its daemon.
`write` compares the two and raises FencedError if they differ, so a job of a killed daemon can't commit anything.

A database is *halted* while the daemon must make no number, for example because the database may be older than the
numbers that were served (store/high_water.py). `write` then raises StoreError with the reason.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.exc import DBAPIError

from blocklistd.errors import FencedError, StoreError
from blocklistd.events import Event
from blocklistd.store import schema
from blocklistd.store.audit import AUDITED, HeadFile
from blocklistd.store.backends import Backend, Sqlite
from blocklistd.store.backends.backend import upsert
from blocklistd.store.numbers import set_state_lost
from blocklistd.telemetry import NO_TELEMETRY, Telemetry

T = TypeVar("T")

log: Final = logging.getLogger(__name__)

EPOCH: Final = "epoch"  # keys in `meta`
STATE: Final = "state"
NEWEST_MIGRATION: Final = "0016"
"""The newest migration. `migrate` upgrades an older database and refuses a newer one."""


class Database:
    """One process's connections to the database `where`; a path is that of an SQLite file. Transactions are short.
    Methods block: on the event loop call only `reading` and `writing`, which use a thread.

    `epoch`: of the daemon (see the module). `keeps_head`: each write that appends an audit line updates the head file.
    """

    def __init__(
        self,
        where: Path | Backend,
        epoch: int = 0,
        telemetry: Telemetry = NO_TELEMETRY,
        *,
        keeps_head: bool = True,
        read_only: bool = False,
    ) -> None:
        self.backend: Backend = Sqlite(where) if isinstance(where, Path) else where
        self.epoch = epoch
        self.read_only = read_only
        self.engine = self.backend.engine(read_only)
        self.head_file = HeadFile(self.backend.folder / "audit-head")
        self._keeps_head = keeps_head
        self.halted: str | None = None
        """Why this process may write nothing; None unless it is halted."""
        self._telemetry = telemetry

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One read transaction: every statement in the block sees the same state.

        Raises StoreError, or DatabaseDamagedError if SQLite finds damage.
        """
        with self._errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, while_halted: bool = False) -> Iterator[Connection]:
        """One write transaction; committed if the block ends without an exception. `while_halted`: it makes no number,
        and may be written by a halted database.

        Raises FencedError if another daemon took over, StoreError if the database is read-only, halted or can't be
        written.
        """
        if self.read_only:
            raise StoreError(f"{self.backend.folder}: the file system is read-only: mount it read-write, then restart")
        if not while_halted:
            self.require()
        with self._errors(), self.engine.connect().execution_options(writes=True) as connection:
            with self._telemetry.time_stage("database", "wait"):  # BEGIN IMMEDIATE waits for other writers
                transaction = connection.begin()
            with transaction:
                self._check_epoch(connection)
                yield connection
            audited = connection.info.pop(AUDITED, False)
        if audited and self._keeps_head:
            self.keep_head()

    def require(self) -> None:
        """Raises StoreError if the database is halted."""
        if self.halted is not None:
            raise StoreError(self.halted)

    async def reading(self, query: Callable[[Connection], T]) -> T:
        """Runs `query` in a read transaction of its own, in a thread; returns its result."""

        def run() -> T:
            with self.read() as connection:
                return query(connection)

        return await asyncio.to_thread(run)

    async def writing(self, change: Callable[[Connection], T], *, while_halted: bool = False) -> T:
        """Runs `change` in a write transaction of its own (`write`), in a thread; returns its result."""

        def run() -> T:
            with self.write(while_halted=while_halted) as connection:
                return change(connection)

        with self._telemetry.time_stage("database", "write"):
            return await asyncio.to_thread(run)

    def keep_head(self) -> None:
        """Advances the audit's head file to the newest line. An error is logged: a later line advances the file."""
        try:
            with self.read() as connection:
                self.head_file.advance(connection)
        except StoreError as error:  # the change is committed already
            Event.AUDIT_HEAD_NOT_WRITTEN.log(log, reason=error)

    def damage(self) -> str | None:
        """The first fault that the backend's check of the whole database finds, or None."""
        try:
            with self._errors(), self.engine.connect() as connection:
                return self.backend.damage(connection)
        except StoreError as error:
            return str(error)

    def copy_to(self, path: Path) -> None:
        """Writes the database as one transaction sees it to a new file, without deleted content. Writers don't wait.
        Raises StoreError, also for a backend that has its own backups."""
        with self._errors(), self.engine.connect().execution_options(alone=True) as connection:
            self.backend.copy_to(connection, path)

    def _check_epoch(self, connection: Connection) -> None:
        current = _epoch(connection, locks=True)
        if current != self.epoch:
            raise FencedError(
                f"{self.backend.place}: another daemon has taken over (epoch {current}, this one has {self.epoch}): "
                f"nothing was written; stop one of the two"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self.backend.safe_error(error) from None

    def take_over(self, state: str | None = None) -> None:
        """Begins a new epoch: jobs that an earlier daemon started can't write any more. On a read-only file system the
        epoch stays the same.

        `state`: the id of the state_dir (store/state_id.py); None: the database is in it. Raises StoreError if the
        database belongs to another state_dir, whose files it names.
        """
        if self.read_only:
            with self.read() as found:
                self.epoch = _epoch(found)
            return
        with self._errors(), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            epoch = _epoch(connection, locks=True) + 1
            if state is not None:
                owner = _value(connection, STATE)
                if owner not in (None, state):
                    raise StoreError(
                        f"{self.backend.place} names the files of another state_dir, with the id {owner}: expected "
                        f"{state}, the id of {self.backend.folder}: configure that state_dir, or an empty database"
                    )
                upsert(connection, schema.meta, [{"key": STATE, "value": state}])
            upsert(connection, schema.meta, [{"key": EPOCH, "value": str(epoch)}])
        self.epoch = epoch

    def migrate(self, *, beside_files: bool = False) -> None:
        """Makes the schema of a new database, or upgrades that of an older one to NEWEST_MIGRATION; in one transaction.

        `beside_files`: sealed files exist, so a missing schema means a lost database (Numbers.lost). Raises StoreError
        if the schema is newer than this program, or needs an upgrade on a read-only file system.
        """
        found = self.revision()
        if found == NEWEST_MIGRATION:
            return
        if found is not None and found > NEWEST_MIGRATION:
            raise StoreError(
                f"{self.backend.place}: its schema is {found}, this program knows up to {NEWEST_MIGRATION}: it was "
                f"written by a newer blocklistd; install that version again"
            )
        if self.read_only:
            raise StoreError(
                f"{self.backend.place}: its schema is {found or 'none'} and not {NEWEST_MIGRATION}, and the file "
                f"system is read-only: mount it read-write"
            )
        with self._errors(), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            self.backend.lock_schema(connection)
            if found is not None:
                upgrade(connection)
                return
            schema.metadata.create_all(connection, checkfirst=False)
            connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
            connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": NEWEST_MIGRATION})
            if beside_files:
                set_state_lost(connection)

    def revision(self) -> str | None:
        """The newest migration of the schema; None without a schema. Raises StoreError."""
        with self._errors(), self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Runs the migrations up to `revision`, in the transaction of the connection. They make the same schema from
    nothing as schema.py, in five times the time."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(importlib.resources.files("blocklistd.store") / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _epoch(connection: Connection, *, locks: bool = False) -> int:
    return int(_value(connection, EPOCH, locks=locks) or 0)


def _value(connection: Connection, key: str, *, locks: bool = False) -> str | None:
    """A value of `meta`. `locks`: waits until no other transaction that locks it runs; SQLite has no locks of rows, and
    a transaction that writes is alone."""
    query = select(schema.meta.c.value).where(schema.meta.c.key == key)
    value: str | None = connection.execute(query.with_for_update() if locks else query).scalar()
    return value
