"""The configuration of the feed, of DNS, and of metrics, health and log."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from blocklistd.config import files, net, values
from blocklistd.config.net import Address, Network
from blocklistd.config.reader import choice, keyed, only, optional, section, sequence, setting
from blocklistd.config.secrets import Secret, secret
from blocklistd.config.values import duration, integer


@keyed
class ConnectionBounds:
    """The most connections that a listener accepts: from one address (IPv6: one /64) before authentication, of one
    subscriber after it, and in total."""

    per_address: int = setting(integer(1), default=128)
    per_subscriber: int = setting(integer(1), default=256)
    total: int = setting(integer(1), default=4096)


_bounds = section(ConnectionBounds)


@keyed
class Notify:
    """How NOTIFY is repeated: `retry` is the first pause, which doubles each time; after `give_up` no more is sent, and
    the secondary finds the change by its own refresh."""

    retry: timedelta = setting(duration, default=timedelta(seconds=5))
    give_up: timedelta = setting(duration, default=timedelta(minutes=10))


@keyed
class Dns:
    """The addresses on which secondaries ask, over UDP and TCP."""

    listen: tuple[Address, ...] = setting(sequence(net.address, least=1), default=(Address("::", 53),))
    tls: None = setting(only(None, None), default=None)
    catalog: None = setting(only(None, None), default=None)
    notify: Notify = setting(section(Notify), default_factory=Notify)
    connections: ConnectionBounds = setting(_bounds, default_factory=ConnectionBounds)


@keyed
class FeedTls:
    """The feed's certificate chain and its key, in PEM."""

    cert: Path = setting(values.certificates)
    key: Secret = setting(secret)
    client_ca: None = setting(only(None, None), default=None)


@keyed
class Feed:
    """The HTTPS feed for subscribers; without TLS only on loopback."""

    listen: tuple[Address, ...] = setting(sequence(net.address, least=1), default=(Address("::", 8443),))
    tls: FeedTls | None = setting(optional(section(FeedTls, files.pair)), default=None)
    public_url: str | None = setting(optional(net.public_url), default=None)
    public_dir: None = setting(only("off", None), default=None)
    rate_limit: None = setting(only("off", None), default=None)
    connections: ConnectionBounds = setting(_bounds, default_factory=ConnectionBounds)
    trusted_proxies: tuple[Network, ...] = setting(sequence(net.network), default=())

    @property
    def url(self) -> str:
        """The feed's address for subscribers; FEED stands for the host where that is not configured."""
        first = self.listen[0]
        where = f"FEED:{first.port}" if first.host in ("::", "0.0.0.0") else str(first)
        return self.public_url or f"{'https' if self.tls else 'http'}://{where}"


@keyed
class Log:
    """`auto` is the journal under systemd, coloured text on a terminal, else JSON lines."""

    level: str = setting(choice("debug", "info", "warning", "error"), default="info")
    format: str = setting(choice("auto", "journal", "text", "json"), default="auto")


@keyed
class Ops:
    """The section of metrics, health and the log."""

    listen: tuple[Address, ...] = setting(sequence(net.address, least=1), default=(Address("127.0.0.1", 9153),))
    log: Log = setting(section(Log), default_factory=Log)
