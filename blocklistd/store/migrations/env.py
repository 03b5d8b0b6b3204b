"""Alembic's entry: migrations run inside the connection and transaction that `Database.migrate` gives."""

from __future__ import annotations

from alembic import context

from blocklistd.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
