"""The database: opening, migrating, and fencing off a daemon that was killed.

SQLite in WAL with synchronous=FULL is the embedded default: what a transaction named survives a power cut. Jobs write
from processes of their own; each carries the epoch of the daemon that started it, and a newer daemon's start makes
every older epoch invalid, so that nothing a dead daemon left running can publish.
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
from sqlalchemy.exc import DatabaseError, DBAPIError

from blocklistd.errors import DatabaseDamagedError, FencedError, StoreError
from blocklistd.events import Event
from blocklistd.limits import SQLITE_BUSY, THREADS
from blocklistd.store import schema
from blocklistd.store.audit import AUDITED, HeadFile
from blocklistd.store.numbers import mark_lost
from blocklistd.telemetry import NO_TELEMETRY, Telemetry

T = TypeVar("T")

log: Final = logging.getLogger(__name__)

NEWEST_MIGRATION: Final = "0004"
"""The newest migration; an older database is upgraded at start, a newer one is refused."""


class Database:
    """One process's way to the state. Transactions are short; no call may be made on the event loop."""

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
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view: every statement in the block sees the same state."""
        with self._errors(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction; committed when the block is left without an exception.

        Raises FencedError if another daemon took over, StoreError if the database can't be written or is halted.
        """
        if self.read_only:
            raise StoreError(f"{self.path.parent}: the file system is read-only: mount it read-write, then restart")
        self.require()
        with self._errors(), self.engine.connect().execution_options(writes=True) as connection:
            with self._telemetry.time_stage("database", "wait"):  # BEGIN IMMEDIATE: until no other writes
                transaction = connection.begin()
            with transaction:
                self._check_epoch(connection)
                yield connection
            audited = connection.info.pop(AUDITED, False)
        if audited and self._keeps_head:
            self.keep_head()

    def require(self) -> None:
        """Raises StoreError while nothing may be written."""
        if self.halted is not None:
            raise StoreError(self.halted)

    async def reading(self, query: Callable[[Connection], T]) -> T:
        """`query` in a `read` of its own, in a thread: no database call holds the event loop."""

        def run() -> T:
            with self.read() as connection:
                return query(connection)

        return await asyncio.to_thread(run)

    async def writing(self, change: Callable[[Connection], T]) -> T:
        """`change` in a `write` of its own, in a thread."""

        def run() -> T:
            with self.write() as connection:
                return change(connection)

        with self._telemetry.time_stage("database", "write"):
            return await asyncio.to_thread(run)

    def keep_head(self) -> None:
        """The newest line of the audit is kept outside the database, too."""
        try:
            with self.read() as connection:
                self.head_file.advance(connection)
        except StoreError as error:  # what was done is done: the next line takes it over
            Event.AUDIT_HEAD_NOT_WRITTEN.log(log, reason=error)

    def damage(self) -> str | None:
        """The first fault that SQLite finds in the file (PRAGMA quick_check), or None. Reads all of the file."""
        try:
            with self._errors(), self.engine.connect() as connection:
                found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        except StoreError as error:
            return str(error)
        return None if found == "ok" else " ".join(found.split())

    def _check_epoch(self, connection: Connection) -> None:
        current = _epoch(connection)
        if current != self.epoch:
            raise FencedError(
                f"{self.path}: a newer daemon has taken over (epoch {current}, ours {self.epoch}); nothing was written"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if type(error) is DatabaseError:  # SQLite's NOTADB and CORRUPT, which have no class of their own in Python
                raise DatabaseDamagedError(
                    f"{self.path}: {error.orig}: expected an undamaged database of blocklistd: check the disk"
                ) from None
            raise StoreError(f"{self.path}: {error.orig}: check the disk and the file's owner") from None

    def take_over(self) -> None:
        """Begins a new epoch: from now on nothing that an earlier daemon started can write. On a read-only file system
        the epoch stays."""
        if self.read_only:
            with self.read() as found:
                self.epoch = _epoch(found)
            return
        with self._errors(), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            self.epoch = _epoch(connection) + 1
            connection.execute(schema.meta.delete().where(schema.meta.c.key == "epoch"))
            connection.execute(schema.meta.insert().values(key="epoch", value=str(self.epoch)))

    def migrate(self, *, beside_files: bool = False) -> None:
        """Brings the schema to NEWEST_MIGRATION, or raises StoreError if it is newer than this program.

        `beside_files`: sealed files exist, so that a missing schema means a lost database (Numbers.lost).
        """
        found = self._revision()
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
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(importlib.resources.files("blocklistd.store") / "migrations"))
        with self._errors(), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if found is None and beside_files:
                mark_lost(connection)

    def _revision(self) -> str | None:
        with self._errors(), self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _epoch(connection: Connection) -> int:
    return int(connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "epoch")).scalar() or 0)


def _url(path: Path, read_only: bool) -> str:
    if not read_only:
        return f"sqlite:///{path}"
    # a log that a crash left must be read; without one, SQLite would try to make its files, unless told by `immutable`
    # that nobody writes
    wal = path.with_name(f"{path.name}-wal")
    immutable = "" if wal.exists() and wal.stat().st_size else "&immutable=1"
    return f"sqlite:///file:{quote(str(path))}?mode=ro{immutable}&uri=true"


def _engine(path: Path, read_only: bool) -> Engine:
    # hide_parameters: an error's text would otherwise show the values bound to the statement, entries among them
    engine = create_engine(
        _url(path, read_only), hide_parameters=True, connect_args={"timeout": SQLITE_BUSY}, max_overflow=THREADS
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # pysqlite's own BEGIN comes too late for a consistent view: see `begin`
        writing = () if read_only else ("journal_mode=WAL", "synchronous=FULL")
        for pragma in (*writing, "foreign_keys=ON", "trusted_schema=OFF"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a writer takes its lock at once: a reader that becomes one could only fail
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
