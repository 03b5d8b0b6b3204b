"""SQLite in WAL mode with synchronous=FULL: a committed transaction survives a power cut."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.util import LRUCache

from blocklistd.errors import DatabaseDamagedError, StoreError
from blocklistd.limits import SQLITE_BUSY, THREADS
from blocklistd.store.backends.backend import STATEMENTS


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


@dataclass(frozen=True, slots=True)
class Sqlite:
    """The database in the file `path`."""

    path: Path

    @property
    def folder(self) -> Path:
        """The file's folder."""
        return self.path.parent

    @property
    def place(self) -> str:
        """The path."""
        return str(self.path)

    def engine(self, read_only: bool) -> Engine:
        """See Backend. Other processes may have the file open too."""
        # hide_parameters: an error's text would otherwise contain the values bound to the statement, perhaps entries
        engine = create_engine(
            self._url(read_only),
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

    def _url(self, read_only: bool) -> str:
        if not read_only:
            return f"sqlite+shared:///{self.path}"
        # A WAL file that a crash left has to be read. Without one, SQLite would try to create its files; `immutable`
        # tells it that nobody writes.
        wal = self.path.with_name(f"{self.path.name}-wal")
        immutable = "" if wal.exists() and wal.stat().st_size else "&immutable=1"
        return f"sqlite+shared:///file:{quote(str(self.path))}?mode=ro{immutable}&uri=true"

    def lock_schema(self, connection: Connection) -> None:
        """Does nothing: a transaction that writes is alone."""

    def damage(self, connection: Connection) -> str | None:
        """The first fault that SQLite's PRAGMA quick_check finds, or None. Reads the whole file."""
        found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        return None if found == "ok" else " ".join(found.split())

    def copy_to(self, connection: Connection, path: Path) -> None:
        """See Backend. The file has no deleted content."""
        connection.exec_driver_sql("VACUUM INTO ?", (str(path),))

    def safe_error(self, error: DBAPIError) -> StoreError:
        """See Backend. DatabaseDamagedError if SQLite found damage."""
        if type(error) is DatabaseError:  # SQLITE_NOTADB or SQLITE_CORRUPT: Python has no other class for them
            return DatabaseDamagedError(
                f"{self.path}: {error.orig}: expected an undamaged database of blocklistd: check the disk"
            )
        return StoreError(f"{self.path}: {error.orig}: check the disk and the file's owner")
