"""The data from which the configuration of each program is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from blocklistd.config import Address, ZoneSettings
from blocklistd.daemon.profiles.versions import Software

PORT: Final = 53
"""The default port of DNS, omitted in a configuration."""
OWN_SECONDARY: Final = "192.0.2.60"
"""Placeholder for the addresses of the server's own secondaries: a documentation address (RFC 5737)."""
SECRET: Final = "SECRET"
"""Placeholder for the secret of a TSIG key that was shown before."""
PUBLIC_CA: Final = "/etc/ssl/certs/ca-certificates.crt"
PRIVATE_CA: Final = "/etc/ssl/blocklistd-ca.pem"
"""Placeholder for the file with the authority of the publisher's certificate, if hosts do not trust it already."""
CLIENT_CERT: Final = "/etc/ssl/blocklistd-client.pem"
CLIENT_KEY: Final = "/etc/ssl/private/blocklistd-client.key"
"""Placeholders for the files of the client certificate that is registered with `--cert`, and of its private key."""
PLACEHOLDERS: Final = {
    PRIVATE_CA: "the authority of the publisher's certificate",
    CLIENT_CERT: "the client certificate of --cert,",
    CLIENT_KEY: "its private key",
}
"""Texts of comments that say what to put in place of these files."""

CENSORED: Final = 16
"""The extended DNS error Censored (RFC 8914, 4.17)."""
NOT_BLOCKING: Final = ("rpz-passthru.", "rpz-tcp-only.")
"""The actions that do not block."""

Tsig = Mapping[str, str]
"""A TSIG key: `name`, `algorithm`, `secret` (base64)."""


@dataclass(frozen=True, slots=True)
class TlsPrimary:
    """The publisher's DNS over TLS. `name`: a DNS name in its certificate, or an IP address if that has none. `ca`: the
    file with its authority. `pin`: base64 of the SHA-256 of its public key (SPKI)."""

    address: Address
    name: str
    ca: str
    pin: str


@dataclass(frozen=True, slots=True)
class ConfigRequest:
    """What the configuration of one program contains. `primary`: the address to transfer from; the TLS address if `tls`
    is set. `tsig`: the key; None if the publisher knows the server by its address. `client_certificate`: whether one is
    registered for the server. `catalog`: the name of `dns.catalog`. `rules`: the number of rules of each zone that
    has a version, by the zone's name."""

    software: Software
    zones: tuple[ZoneSettings, ...]
    primary: Address
    tsig: Tsig | None = None
    tls: TlsPrimary | None = None
    client_certificate: bool = False
    catalog: str | None = None
    rules: Mapping[str, int] = field(default_factory=dict)

    @property
    def at(self) -> str:
        """The port as most programs take it after an address; empty for the default of DNS."""
        return "" if self.primary.port == PORT else f"@{self.primary.port}"

    @property
    def sends_certificate(self) -> bool:
        """Whether the server is to send its client certificate."""
        return self.client_certificate and self.tls is not None


def blocks(zone: ZoneSettings) -> bool:
    """Whether the rules of the zone block names, so that answers may say so."""
    return zone.action not in NOT_BLOCKING


def blocked_by(name: str) -> str:
    """The text of an extended DNS error, for the people who are blocked. `name`: of the zone or the list."""
    return f"Blocked by the list {name}"
