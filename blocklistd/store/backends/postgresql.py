"""PostgreSQL by psycopg. A committed transaction survives a power cut of the server if `fsync` is on there.

Bounds of a transaction (limits.py): a statement waits POSTGRESQL_WAIT seconds for a lock, and the server ends a
transaction that does nothing for POSTGRESQL_IDLE seconds. So a process that was stopped in a transaction that writes
holds up the others for that long, and then can't commit.

The database has the encoding UTF8 and the collation C, so that it sorts texts as SQLite and Python do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from blocklistd.errors import StoreError
from blocklistd.limits import POSTGRESQL_CONNECT, POSTGRESQL_IDLE, POSTGRESQL_WAIT, THREADS

_SCHEMA_LOCK: Final = 0x626C6F636B  # of pg_advisory_xact_lock: any number that other programs do not use
_SETTINGS: Final = {
    "lock_timeout": POSTGRESQL_WAIT,
    "idle_in_transaction_session_timeout": POSTGRESQL_IDLE,
}  # seconds
_FITTING: Final = (
    "expected the encoding UTF8 and the collation C: create it with "
    "`createdb --template=template0 --encoding=UTF8 --locale=C NAME`"
)
_SERVER_ERRORS: Final = ("08", "28", "3D", "53", "57", "58", "P0")
"""Classes of errors whose text has no value of a row: connections, access, resources, shutdown, and our own triggers
(PostgreSQL, Appendix A)."""


@dataclass(frozen=True, slots=True)
class Postgresql:
    """The database at `url`, as libpq reads it (postgresql://user@host/db). The password comes by libpq's own ways.
    `folder`: the state_dir."""

    url: str
    folder: Path

    @property
    def place(self) -> str:
        """The host and the name of the database."""
        found = urlsplit(self.url)
        return f"postgresql://{found.netloc.rpartition('@')[2]}{found.path}"

    def engine(self, read_only: bool) -> Engine:
        """See Backend. Writers wait for each other at the row of the epoch (Database.write)."""
        try:
            import psycopg
        except ImportError:
            raise StoreError(f"{self.place}: psycopg is not installed: install requirements-postgresql.lock") from None

        options = " ".join(f"-c {name}={int(seconds * 1000)}" for name, seconds in _SETTINGS.items())

        def connect() -> Any:
            return psycopg.connect(
                self.url,
                connect_timeout=int(POSTGRESQL_CONNECT),
                application_name="blocklistd",
                options=options,
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=2,
                tcp_user_timeout=int(POSTGRESQL_IDLE * 1000),
            )

        engine = create_engine(
            "postgresql+psycopg://", creator=connect, hide_parameters=True, max_overflow=THREADS, pool_pre_ping=True
        )

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            if not connection.get_execution_options().get("writes"):
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

        return engine

    def lock_schema(self, connection: Connection) -> None:
        """Takes an advisory lock, and checks the encoding and the collation."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")
        encoding, collation = connection.exec_driver_sql(
            "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = current_database()"
        ).one()
        if encoding != "UTF8" or collation not in ("C", "C.UTF-8", "C.utf8", "POSIX"):
            raise StoreError(f"{self.place}: found the encoding {encoding} and the collation {collation}: {_FITTING}")

    def damage(self, connection: Connection) -> str | None:
        """None: the server's administrator has pg_amcheck and data checksums."""
        return None

    def copy_to(self, connection: Connection, path: Path) -> None:
        """Refuses: one copy of the state_dir and the database takes the server's own means."""
        raise StoreError(
            f"{self.place}: blocklistd makes no backup of a state in PostgreSQL: run pg_dump, then copy the state_dir"
        )

    def safe_error(self, error: DBAPIError) -> StoreError:
        """See Backend. Errors about rows give their code and its name only: the text of the server may contain
        values."""
        found: Any = error.orig
        state = getattr(found, "sqlstate", None)
        if state is None:  # no answer of the server: psycopg could not connect, or lost the connection
            return StoreError(f"{self.place}: {_one_line(found)}: check the server and the way to it")
        if state[:2] in _SERVER_ERRORS:
            return StoreError(f"{self.place}: {_one_line(found)}: check the server")
        name = type(found).__name__
        return StoreError(f"{self.place}: error {state} ({name}) of the server: its log has the statement")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
