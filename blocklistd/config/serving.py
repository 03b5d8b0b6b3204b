"""The settings of the HTTPS feed, the DNS server, metrics, health and the log."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from blocklistd.config import files, names, net, values
from blocklistd.config.net import Address, Network
from blocklistd.config.public_folder import PublicDirSettings
from blocklistd.config.reader import SectionValues, choice, config_section, optional, or_off, section, sequence, setting
from blocklistd.config.secrets import Secret, secret
from blocklistd.config.values import RateLimit, duration, integer
from blocklistd.limits import LEAST_RATE


@config_section
class ConnectionBounds:
    """The maximum numbers of open connections of a listener.

    `per_address` counts connections before authentication, an IPv6 /64 as one address; `per_subscriber` those after it.
    """

    per_address: int = setting(integer(1), default=128)
    per_subscriber: int = setting(integer(1), default=256)
    total: int = setting(integer(1), default=4096)


_bounds = section(ConnectionBounds)


@config_section
class NotifySettings:
    """How a NOTIFY without an answer is repeated (RFC 1996).

    `retry` is the first pause; each pause doubles. After `give_up` no more is sent: the secondary then finds the
    change at its SOA refresh.
    """

    retry: timedelta = setting(duration, default=timedelta(seconds=5))
    give_up: timedelta = setting(duration, default=timedelta(minutes=10))


@config_section
class DnsTlsSettings:
    """Zone transfers over TLS (RFC 9103). Each address of `listen` is used over TLS, and over UDP: Unbound asks for the
    SOA there. `cert` and `key`: the certificate chain and the private key, in PEM. `client_ca`: client certificates
    must come from one of these authorities; without it, their public key alone counts."""

    listen: tuple[Address, ...] = setting(sequence(net.address, minimum=1), default=(Address("::", 853),))
    cert: Path = setting(values.certificates)
    key: Secret = setting(secret)
    client_ca: Path | None = setting(optional(values.certificates), default=None)


@config_section
class DnsSettings:
    """The DNS server for secondaries; each address of `listen` is used over UDP and TCP. `catalog`: the name of the
    catalog zone (RFC 9432), in which each subscriber sees its own zones."""

    listen: tuple[Address, ...] = setting(sequence(net.address, minimum=1), default=(Address("::", 53),))
    tls: DnsTlsSettings | None = setting(optional(section(DnsTlsSettings, files.check_tls)), default=None)
    catalog: str | None = setting(optional(names.zone), default=None)
    notify: NotifySettings = setting(section(NotifySettings), default_factory=NotifySettings)
    connections: ConnectionBounds = setting(_bounds, default_factory=ConnectionBounds)


@config_section
class FeedTlsSettings:
    """The certificate chain and the private key of the feed, in PEM. `client_ca`: client certificates must come from
    one of these authorities; without it, their public key alone counts."""

    cert: Path = setting(values.certificates)
    key: Secret = setting(secret)
    client_ca: Path | None = setting(optional(values.certificates), default=None)


@config_section
class FeedSettings:
    """The HTTPS feed for subscribers. Without `tls` it may only listen on loopback addresses. `rate_limit`: for each
    node of a subscriber (serve/http/rates.py)."""

    listen: tuple[Address, ...] = setting(sequence(net.address, minimum=1), default=(Address("::", 8443),))
    tls: FeedTlsSettings | None = setting(optional(section(FeedTlsSettings, files.check_tls)), default=None)
    public_url: str | None = setting(optional(net.public_url), default=None)
    public_dir: PublicDirSettings | None = setting(or_off(optional(section(PublicDirSettings))), default=None)
    rate_limit: RateLimit | None = setting(values.rate_or_off, default=RateLimit(600, 60))
    connections: ConnectionBounds = setting(_bounds, default_factory=ConnectionBounds)
    trusted_proxies: tuple[Network, ...] = setting(sequence(net.network), default=())

    @property
    def url(self) -> str:
        """The base URL for subscribers. Its host is the placeholder FEED if the configuration names none."""
        first = self.listen[0]
        where = f"FEED:{first.port}" if first.host in ("::", "0.0.0.0") else str(first)
        return self.public_url or f"{'https' if self.tls else 'http'}://{where}"


def check_feed(section: SectionValues) -> None:
    """Checks that a feed without TLS listens on loopback addresses only. Warns of a limit that no client can keep."""
    if section.has("listen", "tls") and section.values["tls"] is None:
        outside = [str(address) for address in section.values["listen"] if not address.is_loopback]
        if outside:
            section.report("tls", f"cert and key, since {outside[0]} is not loopback")
    limit = section.values.get("rate_limit")
    if limit is not None and min(limit.requests, limit.requests * 60 / limit.seconds) < LEAST_RATE:
        expected = f"at least {LEAST_RATE}/m: one client that waits sends so many when a version arrives"
        section.document.warn(section.dotted("rate_limit"), expected, str(limit))


@config_section
class LogSettings:
    """The log. The format `auto` is the journal under systemd, coloured text on a terminal, JSON lines otherwise."""

    level: str = setting(choice("debug", "info", "warning", "error"), default="info")
    format: str = setting(choice("auto", "journal", "text", "json"), default="auto")


@config_section
class OpsSettings:
    """Metrics, health and the log."""

    listen: tuple[Address, ...] = setting(sequence(net.address, minimum=1), default=(Address("127.0.0.1", 9153),))
    log: LogSettings = setting(section(LogSettings), default_factory=LogSettings)
