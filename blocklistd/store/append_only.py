"""Triggers that let the audit's rows be added only. Somebody who owns the database can drop them; the hashes of the
lines then show what was changed (store/audit.py)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

_REFUSED: Final = "the audit is append-only"
_SQLITE: Final = tuple(
    f"CREATE TRIGGER audit_no_{what.lower()} BEFORE {what} ON audit BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
    for what in ("UPDATE", "DELETE")
)
_POSTGRESQL: Final = (
    "CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$",
    "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()",
)


def forbid_changes(connection: Connection) -> None:
    """Makes the triggers of the table `audit`, which exists."""
    for statement in _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL:
        connection.exec_driver_sql(statement)
