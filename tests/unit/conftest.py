"""Runs the tests of the store, and of the tables that others write, on each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.databases import Databases

ON_EACH_DATABASE = frozenset(
    f"tests.unit.test_{name}"
    for name in (
        "daemon_operations_report",
        "pipeline_catalogs",
        "pipeline_counting",
        "pipeline_receipts",
        "store_audit",
        "store_entry_versions",
        "store_high_water",
        "store_pulls",
        "store_replays",
        "store_scratch",
        "store_subscribers",
        "store_transactions",
        "store_upkeep",
    )
)
"""Modules whose tests run on SQLite and on PostgreSQL."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes two tests of each one in ON_EACH_DATABASE."""
    if metafunc.module.__name__ in ON_EACH_DATABASE:
        metafunc.parametrize("_database_system", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def _database_system(request: pytest.FixtureRequest) -> Iterator[None]:
    """The system on which new stores of a test have their databases (tests/databases.py)."""
    Databases.on_postgresql = getattr(request, "param", "sqlite") == "postgresql"
    yield
    Databases.on_postgresql = False
