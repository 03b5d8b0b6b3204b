"""Constructs the name server for secondaries from its settings and the parts that it asks."""

from __future__ import annotations

import time

from blocklistd.config import DnsSettings
from blocklistd.ops.metrics import Metrics
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.connections import Connections
from blocklistd.serve.dns.server import DnsServer
from blocklistd.serve.dns.zones import Zones


def name_server(
    dns: DnsSettings | None,
    resources: Resources,
    publisher: ZonePublisher,
    served: Zones,
    connections: Connections,
    metrics: Metrics,
) -> DnsServer | None:
    """The server, which does not listen yet; None without settings: there is no zone to serve."""
    if dns is None:
        return None
    return DnsServer(
        served,
        publisher.difference,
        publisher.secondaries.saw,
        publisher.secondaries.sent,
        usable=publisher.usable,
        connections=connections,
        retry=dns.notify.retry.total_seconds(),
        give_up=dns.notify.give_up.total_seconds(),
        telemetry=metrics,
        clocks=lambda: (int(resources.clock().timestamp()), int(time.time())),
    )
