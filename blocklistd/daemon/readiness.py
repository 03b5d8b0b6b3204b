"""What keeps /readyz from being green once the daemon has started."""

from __future__ import annotations

from collections.abc import Iterator

from blocklistd.config import Config
from blocklistd.daemon import plans
from blocklistd.pipeline.publish import Publisher
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.zones import Zones
from blocklistd.serve.http.catalogue import Catalogue


def missing(
    config: Config, catalogue: Catalogue, publisher: Publisher, served: Zones, zones: ZonePublisher
) -> Iterator[str]:
    """A line for each list and zone that is not served, or whose file is damaged."""
    for name in config.lists:
        if catalogue.get(name) is None:
            yield f"list {name} has no version that can be served"
    for view in catalogue:
        if view.id in publisher.damaged:
            yield f"list {view.id}: the file of version {view.version} is damaged and is made again"
        if view.live is not None:
            for plan in plans.zone_plans(config).values():
                if plan.list == view.id and served.get(wire_name(plan.name)) is None:
                    yield f"zone {plan.name} has no serial yet"
    for zone, reason in zones.damaged.copy().items():
        yield f"zone {zone}: {reason}"
