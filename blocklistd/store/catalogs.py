"""Catalog zones in the store: a row of `catalogs` for each subscriber, with the zones that its catalog names.

A row stays after the subscriber is revoked: the id may be given again, and its secondaries must not see a lower serial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from blocklistd.store.schema_served import catalogs


@dataclass(frozen=True, slots=True)
class StoredCatalog:
    """A subscriber's catalog at its newest serial. `members`: names of zones, sorted."""

    serial: int
    members: tuple[str, ...]


def load(connection: Connection, zone: str) -> dict[str, StoredCatalog]:
    """The catalogs of this name, by subscriber."""
    rows = connection.execute(select(catalogs).where(catalogs.c.zone == zone))
    return {row.subscriber: StoredCatalog(row.serial, tuple(row.members)) for row in rows}


def save(connection: Connection, zone: str, changed: Mapping[str, Sequence[str]], lowest: int) -> None:
    """Gives these subscribers' catalogs new members, and each the same serial: one above all serials of catalogs of
    this name, and above `lowest`."""
    if not changed:
        return
    serial = max([lowest, *(found.serial for found in load(connection, zone).values())]) + 1
    for subscriber, members in changed.items():
        here = catalogs.c.zone == zone, catalogs.c.subscriber == subscriber
        connection.execute(delete(catalogs).where(*here))
        values = {"zone": zone, "subscriber": subscriber, "serial": serial, "members": list(members)}
        connection.execute(catalogs.insert().values(values))
