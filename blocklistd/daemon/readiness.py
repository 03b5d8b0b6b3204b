"""The readiness of lists and zones, for /readyz and `status`."""

from __future__ import annotations

from dataclasses import dataclass, field

from blocklistd.config import Config
from blocklistd.daemon import plans
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.zones import Zones
from blocklistd.serve.http.live_lists import LiveLists
from blocklistd.store.zones import ZonePlan


@dataclass(frozen=True, slots=True)
class Readiness:
    """Lines for people. `down`: lists and zones that have a version and are not served; /readyz is then 503, so that a
    load balancer uses another node. `wrong`: other faults; all that is served is correct."""

    down: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def readiness(
    config: Config, live_lists: LiveLists, publisher: Publisher, served: Zones, zones: ZonePublisher
) -> Readiness:
    """The readiness of every configured list and zone. Costs at most a stat(2) for each damaged zone."""
    found = Readiness()
    for name in config.lists:
        view, stored = live_lists.get(name), publisher.stored.get(name)
        if view is None and stored != 0:
            found.down.append(f"list {name} is not served: it can't be read or signed: see the log")
        elif view is None:
            found.wrong.append(f"list {name} has no version yet, and its metadata can't be signed: see the log")
        elif not view.version and stored:
            found.down.append(f"list {name}: version {stored} is not served: it can't be signed: see the log")
        elif stored is not None and stored > view.version:
            found.wrong.append(
                f"list {name}: version {stored} can't be signed; version {view.version} is served: see the log"
            )
        if view is not None and name in publisher.damaged:
            found.down.append(f"list {name}: the file of version {view.version} is damaged and is made again")
    for plan in plans.zone_plans(config).values():
        _add_zone(found, plan, live_lists, served, zones)
    return found


def _add_zone(found: Readiness, plan: ZonePlan, live_lists: LiveLists, served: Zones, zones: ZonePublisher) -> None:
    view, list_view = served.get(wire_name(plan.name)), live_lists.get(plan.list)
    damage = zones.damaged.get(plan.name)
    if view is None and plan.name in zones.unloaded:
        found.down.append(f"zone {plan.name} is not served: {zones.unloaded[plan.name]}")
    elif view is None:
        if list_view is not None and list_view.live is not None:
            found.wrong.append(f"zone {plan.name} has no serial yet")
    elif damage is not None:
        sent = view.file is None or view.file.is_unchanged()
        (found.wrong if sent else found.down).append(f"zone {plan.name}: {damage}")
    elif plan.name in zones.behind:
        found.wrong.append(
            f"zone {plan.name} keeps serial {view.serial % 2**32}: its next one can't be made: see the log"
        )
