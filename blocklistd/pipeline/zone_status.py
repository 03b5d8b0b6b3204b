"""The zones as `status --json` has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from blocklistd.limits import OMITTED_SHOWN
from blocklistd.serve.dns.zones import ZoneView
from blocklistd.store.zones import newest_serial


def zone_status(
    connection: Connection, views: Iterable[ZoneView | None], damaged: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Each served zone by its name. `damaged`: the descriptions of damages, by zone.

    A zone with shards is there as the sum of its shards: `shards` has their names, each of which is there, too. Its
    `serial` is None, since each shard has its own; its `version` is the lowest.
    """
    shown: dict[str, dict[str, Any]] = {}
    for view in views:
        if view is None:
            continue
        found = newest_serial(connection, view.plan.name)
        one = {
            "serial": view.serial % 2**32,
            "version": view.version,
            "records": view.records,
            "covered": view.covered,
            "omitted": view.omitted,
            "omitted_ids": list(dict.fromkeys(found.omitted))[:OMITTED_SHOWN] if found else [],
            "list": view.plan.list,
            "damaged": damaged.get(view.plan.name),
        }
        if view.plan.shards > 1:
            _add(shown, view.plan.granted, view.plan.name, one)
        shown[view.plan.name] = one
    return dict(sorted(shown.items(), key=_order))


def _add(shown: dict[str, dict[str, Any]], zone: str, shard: str, one: dict[str, Any]) -> None:
    """Add a shard to the sum of its zone."""
    if zone not in shown:
        shown[zone] = {**one, "serial": None, "shards": [shard]}
        return
    total = shown[zone]
    for name in ("records", "covered", "omitted"):
        total[name] += one[name]
    total["version"] = min(total["version"], one["version"])
    total["omitted_ids"] = list(dict.fromkeys([*total["omitted_ids"], *one["omitted_ids"]]))[:OMITTED_SHOWN]
    total["damaged"] = total["damaged"] or one["damaged"]
    total["shards"] = sorted([*total["shards"], shard])


def _order(item: tuple[str, dict[str, Any]]) -> tuple[str, str]:
    """A zone before its shards."""
    name = item[0]
    first, _, rest = name.partition(".")
    return (rest, first) if first.isdigit() and len(first) == 2 else (name, "")
