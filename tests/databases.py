"""Databases for tests of the store: SQLite, or PostgreSQL for a test with the fixture `on_postgresql`."""

from __future__ import annotations

import atexit
import functools
import tempfile
from contextlib import closing
from pathlib import Path

from blocklistd.store.database import Database
from blocklistd.store.store import Store
from tests.postgresql import PostgresqlServer


class Databases:
    """Where new stores of this process have their databases."""

    on_postgresql = False


@functools.cache
def server() -> PostgresqlServer:
    """The server of this process; it ends with the process."""
    made = PostgresqlServer()
    atexit.register(made.stop)
    return made


@functools.cache
def _migrated_file() -> bytes:
    """The file of an empty database; a copy of it costs less than the migrations that made it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "database"
        with closing(Database(path)) as database:
            database.migrate()
        return path.read_bytes()


@functools.cache
def _migrated_database() -> str:
    """The name of an empty database on the server."""
    name = server().create()
    with tempfile.TemporaryDirectory() as folder, closing(Database(_at(Path(folder), name).backend)) as database:
        database.migrate()
    return name


def _at(folder: Path, name: str) -> Store:
    return Store(folder, url=server().url(name))


_names: dict[Path, str] = {}


def empty_store(folder: Path) -> Store:
    """The store of a folder whose database is not migrated; the same one for each call with this folder."""
    if not Databases.on_postgresql:
        return Store(folder)
    if folder not in _names:
        _names[folder] = server().create()
    return _at(folder, _names[folder])


def migrated_store(folder: Path) -> Store:
    """The store of a folder, its database migrated; the same one for each call with this folder."""
    if Databases.on_postgresql:
        if folder not in _names:
            _names[folder] = server().create(template=_migrated_database())
        return _at(folder, _names[folder])
    store = Store(folder)
    if not store.database.exists():
        store.database.write_bytes(_migrated_file())
    return store


def remove_database(store: Store) -> None:
    """Removes the database of a store; no connection to it may be open."""
    if store.url is None:
        store.database.unlink()
    else:
        server().drop(_names[store.state_dir])
