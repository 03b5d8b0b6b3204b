"""Opens, migrates, reads and writes the database, and refuses writes of an earlier daemon's jobs.

SQLite in WAL mode with synchronous=FULL: a committed transaction survives a power cut. Order of calls in a daemon:
`migrate`, `take_over`, then `read` and `write`. Jobs write from processes of their own and only read or write.

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
from typing import Any, Final, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.util import LRUCache

from blocklistd.errors import DatabaseDamagedError, FencedError, StoreError
from blocklistd.events import Event
from blocklistd.limits import SQLITE_BUSY, THREADS
from blocklistd.store import schema
from blocklistd.store.audit import AUDITED, HeadFile
from blocklistd.store.numbers import set_state_lost
from blocklistd.telemetry import NO_TELEMETRY, Telemetry

T = TypeVar("T")

log: Final = logging.getLogger(__name__)

NEWEST_MIGRATION: Final = "0013"
"""The newest migration. `migrate` upgrades an older database and refuses a newer one."""

STATEMENTS: Final = 500  # compiled ones that are kept


class _Dialect(SQLiteDialect_pysqlite):
    """SQLite as SQLAlchemy has it. All engines of a process compile a statement alike, so they share the compiled
    statements (`_COMPILED`), and a job has those of the forkserver (pipeline/rehearsal.py)."""

    supports_statement_cache = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Dialect)

    def __hash__(self) -> int:
        return hash(_Dialect)


registry.register("sqlite.shared", __name__, _Dialect.__name__)
_COMPILED: Final = LRUCache[Any, Any](STATEMENTS)


class Database:
    """One process's connections to the database. Transactions are short. Methods block: on the event loop call only
    `reading` and `writing`, which use a thread.

    `epoch`: of the daemon (see the module). `keeps_head`: each write that appends an audit line updates the head file.
    """

    def __init__(
        self,
        path: Path,
        epoch: int = 0,
        telemetry: Telemetry = NO_TELEMETRY,
        *,
        keeps_head: bool = True,
        read_only: bool = False,
    ) -> None:
        self.path = path
        self.epoch = epoch
        self.read_only = read_only
        self.engine = _engine(path, read_only)
        self.head_file = HeadFile(path.parent / "audit-head")
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
            raise StoreError(f"{self.path.parent}: the file system is read-only: mount it read-write, then restart")
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
        """The first fault that SQLite's PRAGMA quick_check finds, or None. Reads the whole file."""
        try:
            with self._errors(), self.engine.connect() as connection:
                found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        except StoreError as error:
            return str(error)
        return None if found == "ok" else " ".join(found.split())

    def copy_to(self, path: Path) -> None:
        """Writes the database as one transaction sees it to a new file, without deleted content. Writers don't wait.
        Raises StoreError."""
        with self._errors(), self.engine.connect().execution_options(alone=True) as connection:
            connection.exec_driver_sql("VACUUM INTO ?", (str(path),))

    def _check_epoch(self, connection: Connection) -> None:
        current = _epoch(connection)
        if current != self.epoch:
            raise FencedError(
                f"{self.path}: another daemon has taken over (epoch {current}, this one has {self.epoch}): nothing was "
                f"written; stop one of the two"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if type(error) is DatabaseError:  # SQLITE_NOTADB or SQLITE_CORRUPT: Python has no other class for them
                raise DatabaseDamagedError(
                    f"{self.path}: {error.orig}: expected an undamaged database of blocklistd: check the disk"
                ) from None
            raise StoreError(f"{self.path}: {error.orig}: check the disk and the file's owner") from None

    def take_over(self) -> None:
        """Begins a new epoch: jobs that an earlier daemon started can't write any more. On a read-only file system the
        epoch stays the same. Raises StoreError."""
        if self.read_only:
            with self.read() as found:
                self.epoch = _epoch(found)
            return
        with self._errors(), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            self.epoch = _epoch(connection) + 1
            connection.execute(schema.meta.delete().where(schema.meta.c.key == "epoch"))
            connection.execute(schema.meta.insert().values(key="epoch", value=str(self.epoch)))

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
                f"{self.path}: its schema is {found}, this program knows up to {NEWEST_MIGRATION}: it was written by a "
                f"newer blocklistd; install that version again"
            )
        if self.read_only:
            raise StoreError(
                f"{self.path}: its schema is {found or 'none'} and not {NEWEST_MIGRATION}, and the file system is "
                f"read-only: mount it read-write"
            )
        with self._errors(), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
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


def _epoch(connection: Connection) -> int:
    return int(connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "epoch")).scalar() or 0)


def _url(path: Path, read_only: bool) -> str:
    if not read_only:
        return f"sqlite+shared:///{path}"
    # A WAL file that a crash left has to be read. Without one, SQLite would try to create its files; `immutable` tells
    # it that nobody writes.
    wal = path.with_name(f"{path.name}-wal")
    immutable = "" if wal.exists() and wal.stat().st_size else "&immutable=1"
    return f"sqlite+shared:///file:{quote(str(path))}?mode=ro{immutable}&uri=true"


def _engine(path: Path, read_only: bool) -> Engine:
    # hide_parameters: an error's text would otherwise contain the values bound to the statement, perhaps entries
    engine = create_engine(
        _url(path, read_only),
        hide_parameters=True,
        connect_args={"timeout": SQLITE_BUSY},
        max_overflow=THREADS,
        execution_options={"compiled_cache": _COMPILED},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # sqlite3 would send BEGIN only before the first write: see `begin`
        writing = () if read_only else ("journal_mode=WAL", "synchronous=FULL")
        for pragma in (*writing, "foreign_keys=ON", "trusted_schema=OFF"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes the lock at once: a read transaction that begins to write fails if another wrote meanwhile.
        options = connection.get_execution_options()
        if not options.get("alone"):  # a statement that SQLite takes outside a transaction only
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")

    return engine
