"""Claims of clients to hold a higher number than the newest one here (serve/claims.py): a restart keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, delete, select

from blocklistd.store.schema_served import client_claims


class ClientClaim(NamedTuple):
    """The first claim of a subscriber about a list or a zone. `text`: of the alarm."""

    subscriber: str
    subject: str
    time: datetime
    text: str


def load(connection: Connection) -> list[ClientClaim]:
    """The stored claims."""
    table = client_claims.c
    rows = connection.execute(select(table.subscriber, table.subject, table.time, table.text))
    return [ClientClaim(*row) for row in rows]


def replace(connection: Connection, claims: Iterable[ClientClaim]) -> None:
    """Stores these claims, and no other."""
    connection.execute(delete(client_claims))
    rows = [one._asdict() for one in claims]
    if rows:
        connection.execute(client_claims.insert(), rows)
