"""Constructs the name server for secondaries from its settings and the parts that it asks, and configures it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from blocklistd.config import Config, DnsSettings
from blocklistd.daemon import plans
from blocklistd.daemon.resolvers import PRIVATE_CA, PUBLIC_CA, TlsPrimary
from blocklistd.ops.metrics import Metrics
from blocklistd.pipeline.catalogs import CatalogPublisher
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.connections import Connections, Holder
from blocklistd.serve.dns import xot
from blocklistd.serve.dns.server import DnsServer
from blocklistd.serve.dns.zones import Zones, ZoneView
from blocklistd.store.subscribers import Subscriber
from blocklistd.tls import dns_name, has_untrusted_authority, load_certificate, server_context


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
        certificate=xot.XotCertificate(dns.tls),
        telemetry=metrics,
        clocks=lambda: (int(resources.clock().timestamp()), int(time.time())),
    )


def catalog_publisher(
    resources: Resources,
    served: Zones,
    configured: Callable[[], Config],
    announce: Callable[[ZoneView, str], None],
) -> CatalogPublisher:
    """The catalogs by the running configuration, which `configured` returns."""
    return CatalogPublisher(
        *(resources, served, lambda: (configured().serves_dns or DnsSettings()).catalog),
        *(lambda: plans.zone_plans(configured()), announce),
    )


def prepare_certificate(server: DnsServer | None, config: Config) -> Callable[[], None]:
    """Loads the certificate of `dns.tls`. The result, once called, uses it for new connections.

    Raises SigningError, or ConfigError for a secret that does not exist; the certificate loaded before then stays.
    """
    dns = config.serves_dns
    if server is None or dns is None:
        return lambda: None
    context = xot.prepare(dns.tls)
    return lambda: server.certificate.adopt(context)


def tls_primary(server: DnsServer | None, config: Config) -> TlsPrimary | None:
    """What secondaries need to transfer over TLS; None if the server has no usable certificate with a DNS name."""
    dns = config.serves_dns
    if server is None or server.certificate.context is None or dns is None or dns.tls is None:
        return None
    name = dns_name(dns.tls.cert)
    if name is None:
        return None
    context = server_context()
    load_certificate(context, dns.tls.cert, dns.tls.key)
    ca = PRIVATE_CA if has_untrusted_authority(context) else PUBLIC_CA
    return TlsPrimary(dns.tls.listen[0], name, ca)


def admit(
    server: DnsServer | None, served: Zones, connections: Connections, subscribers: Collection[Subscriber]
) -> None:
    """Replaces the subscribers that the name server admits. Ends connections of those that are revoked, and NOTIFY
    requests to secondaries that are not entitled any more."""
    served.replace_peers(plans.peer(who) for who in subscribers if who.revoked is None)
    connections.close({Holder("subscriber", who.id) for who in subscribers if who.revoked is not None})
    if server is None:
        return
    server.key_use.keep(served.peers)
    server.key_use.learn(
        (wire_name(key.name), int(key.used.timestamp())) for who in subscribers for key in who.keys if key.used
    )
    server.notify.drop_unentitled()


def end_notifies(server: DnsServer | None) -> None:
    """Ends the NOTIFY requests of zones that are gone, after a change of the zones or of the catalog's name."""
    if server is not None:
        server.notify.drop_unentitled()
