"""Signed TUF metadata: one row for each list, role and version. This primary key prevents two contents with one number.

Rows are only added, and removed once KEPT_METADATA newer versions of the role exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, select

from blocklistd.limits import KEPT_METADATA
from blocklistd.model import ListId, Version
from blocklistd.store.schema_served import tuf_metadata


@dataclass(frozen=True, slots=True)
class SignedRole:
    """One signed file. `role`: targets, snapshot or timestamp. `target`: the list's version that it leads to. `body`:
    the file as it is served."""

    role: str
    version: int
    signed: datetime
    expires: datetime
    target: Version
    body: bytes


def load_roles(connection: Connection, list_id: ListId) -> list[SignedRole]:
    """The kept metadata of a list, all roles, oldest version first."""
    rows = connection.execute(
        select(tuf_metadata).where(tuf_metadata.c.list == list_id).order_by(tuf_metadata.c.version)
    )
    return [SignedRole(r.role, r.version, r.signed, r.expires, Version(r.target), r.body) for r in rows]


def save_roles(connection: Connection, list_id: ListId, roles: list[SignedRole]) -> None:
    """Adds newly signed roles and drops versions that no client can still be fetching. In the caller's transaction."""
    for role in roles:
        connection.execute(
            tuf_metadata.insert().values(
                list=list_id,
                role=role.role,
                version=role.version,
                signed=role.signed,
                expires=role.expires,
                target=role.target,
                body=role.body,
            )
        )
        newest = select(func.max(tuf_metadata.c.version)).where(
            tuf_metadata.c.list == list_id, tuf_metadata.c.role == role.role
        )
        connection.execute(
            delete(tuf_metadata).where(
                tuf_metadata.c.list == list_id,
                tuf_metadata.c.role == role.role,
                tuf_metadata.c.version <= newest.scalar_subquery() - KEPT_METADATA,
            )
        )
