"""TLS of the feed: the certificate that is served, and what a client has shown of itself.

States of a ServedCertificate:

    unusable → usable   `load` succeeds; until then every TLS handshake fails
    usable   → usable   `load` succeeds: new connections get the new certificate; it fails: they get the one before

Clients are asked for a certificate only while one can authenticate somebody: with `feed.tls.client_ca`, or while one is
registered. Those connections use pyOpenSSL, all others Python's `ssl`, which is faster and never asks. A handshake does
not fail because of the client's certificate: the answer to the request says what is wrong (access.py).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blocklistd.config import FeedTlsSettings
from blocklistd.config.document import read_regular
from blocklistd.errors import ConfigError, SigningError
from blocklistd.serve.accept import AcceptedConnection
from blocklistd.serve.tls_context import ClientCertificate, asking_context, public_key, shown_certificate, trust
from blocklistd.serve.tls_transport import TlsProtocol
from blocklistd.tls import load_certificate, server_context

if TYPE_CHECKING:
    from OpenSSL import SSL
    from OpenSSL.crypto import X509

_ALPN: Final = b"http/1.1"
_OF_TIME: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


Make = Callable[[], asyncio.Protocol]
"""Makes the protocol of a connection whose handshake has succeeded."""


class ServedCertificate:
    """The certificate of the feed. `context`: for its TLS connections; None for plain HTTP. `unusable`: why no
    certificate is loaded, a message for the operator; None once one is. `authorities`: as in ClientCertificate.
    `registered`: whether a subscriber has a certificate."""

    def __init__(self, tls: FeedTlsSettings | None) -> None:
        self.context = server_context() if tls is not None else None
        self.unusable: str | None = None
        self.authorities = ""
        self.registered = False
        self._asking: SSL.Context | None = None
        try:
            self.load(tls)
        except (ConfigError, SigningError) as error:
            self.unusable = f"the feed is not served: it has no usable certificate: {error}"

    def load(self, tls: FeedTlsSettings | None) -> None:
        """Loads the certificate for new connections. Raises SigningError, or ConfigError for a secret that does not
        exist; the certificate loaded before then stays."""
        if self.context is not None and tls is not None:
            asking, authorities = _prepare(tls)
            load_certificate(self.context, tls.cert, tls.key)
            self._asking, self.authorities, self.unusable = asking, authorities, None

    def wrap(self, accepted: AcceptedConnection, make: Make) -> asyncio.BaseProtocol | None:
        """The protocol of a new connection whose client is asked for a certificate; None if none is asked."""
        context, authorities = self._asking, self.authorities
        if context is None or not (authorities or self.registered):
            return None

        def made(transport: asyncio.WriteTransport) -> None:
            accepted.transport = transport  # the handshake is idle time, and may be ended for another connection

        def established(connection: SSL.Connection) -> asyncio.Protocol:
            accepted.certificate = _certificate_of(connection, authorities)
            return make()

        return TlsProtocol(context, made, established, accepted.closed)


def _prepare(tls: FeedTlsSettings) -> tuple[SSL.Context, str]:
    """A context that asks for a certificate, which is optional, and refuses none; and `authorities`."""
    from OpenSSL import SSL

    context = asking_context(tls.cert, tls.key, _ALPN, minimum=SSL.TLS1_2_VERSION)
    context.set_alpn_select_callback(_select_protocol)
    authorities = ""
    if tls.client_ca is not None:
        trust(context, tls.client_ca, "feed.tls.client_ca")
        authorities = _digest(tls.client_ca)

    def accept(connection: SSL.Connection, certificate: X509, error: int, depth: int, verified: int) -> bool:
        if not verified and not (depth == 0 and error in _OF_TIME):  # access.py knows the time of each request
            connection.get_app_data().trusted = False
        return True

    context.set_verify(SSL.VERIFY_PEER, accept)
    return context, authorities


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(read_regular(path)).hexdigest()
    except OSError as error:
        raise SigningError(f"feed.tls.client_ca: {path}: {error.strerror}: expected certificates in PEM") from error


def _select_protocol(connection: SSL.Connection, offered: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
    """Called for a client that offers protocols: one that does not offer HTTP/1.1 is served without any."""
    from OpenSSL import SSL

    return _ALPN if _ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _certificate_of(connection: SSL.Connection, authorities: str) -> ClientCertificate | None:
    """What the client has shown in the handshake, where `authorities` were asked; None if that is no certificate which
    can be parsed."""
    shown = shown_certificate(connection)
    key = public_key(shown)
    if shown is None or not key:
        return None
    trusted = not authorities or connection.get_app_data().trusted
    return ClientCertificate(key, shown.not_valid_before_utc, shown.not_valid_after_utc, trusted, authorities)
