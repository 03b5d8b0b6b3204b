"""Keeps ZONEMD records from the resolvers that they break (docs/adr/0025).

While a subscriber of a zone has such a resolver, a reload and `check-config` refuse `zonemd: true` of that zone. A
start goes on: it serves the zone without the record and raises an alarm.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from blocklistd.config import CheckedConfig, Config
from blocklistd.daemon.alarm_checks import AlarmChecks
from blocklistd.daemon.profiles.versions import broken_by_zonemd
from blocklistd.errors import BlocklistError, ConfigProblem
from blocklistd.store import subscribers
from blocklistd.store.database import Database
from blocklistd.store.store import Store
from blocklistd.store.subscribers import Subscriber


def problems_of(checked: CheckedConfig, known: Collection[Subscriber]) -> list[ConfigProblem]:
    """A problem for each zone with `zonemd: true` that a subscriber has whose resolver the record breaks."""
    found = []
    for name, zone in checked.config.zones.items():
        broken = [
            f"{who.id} with {software}"
            for who in sorted(known, key=lambda who: who.id)
            if who.revoked is None and zone.name in who.zones
            if (software := broken_by_zonemd(who.software, by_address=bool(who.addresses))) is not None
        ]
        if zone.zonemd and broken:
            key = f"zones.{name}.zonemd"
            expected = "false: the record breaks these resolvers; publish a second zone of the list for the others"
            text = f"true, but the zone has the subscribers {', '.join(broken)}"
            found.append(ConfigProblem(checked.config.path, checked.lines.get(key, 1), key, text, expected))
    return found


async def without_records(checked: CheckedConfig, database: Database, alarms: AlarmChecks) -> Config:
    """The configuration with `zonemd: false` for each of these zones; raises an alarm for each. Raises StoreError."""
    known = await database.reading(subscribers.load)
    found = problems_of(checked, known.values())
    alarms.raise_configuration_alarms(found)
    keys, zones = {problem.key for problem in found}, checked.config.zones
    return replace(
        checked.config,
        zones={
            name: replace(zone, zonemd=False) if f"zones.{name}.zonemd" in keys else zone
            for name, zone in zones.items()
        },
    )


def stored_subscribers(state_dir: Path, url: str | None) -> list[Subscriber]:
    """The subscribers in the database of a state_dir, or at `url`. Runs beside a daemon.

    Empty if there is no database, or none that this user and this version can read.
    """
    store = Store.found(state_dir, url)
    with contextlib.suppress(BlocklistError, OSError):
        if url is not None or store.database.exists():
            database = Database(store.backend, read_only=True)
            with contextlib.closing(database), database.read() as connection:
                return list(subscribers.load(connection).values())
    return []
