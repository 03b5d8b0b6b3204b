"""The databases that can hold the state: SQLite in the state_dir, or PostgreSQL.

A backend is a frozen value that a job can receive: it says where the database is, opens an engine, and translates the
errors of its driver. All SQL of the other modules of the store runs on both.
"""

from __future__ import annotations

from blocklistd.store.backends.backend import Backend
from blocklistd.store.backends.postgresql import Postgresql
from blocklistd.store.backends.sqlite import Sqlite

__all__ = ["Backend", "Postgresql", "Sqlite"]
