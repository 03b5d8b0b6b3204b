"""TLS of the zone transfers (XoT, RFC 9103): the certificate that is served, and what a client has shown of itself.

States of an XotCertificate:
    unusable → usable   `adopt` of what `prepare` has loaded; until then every handshake is refused
    usable   → usable   `adopt`: new connections get the new certificate, connections under way keep theirs
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blocklistd.config import DnsTlsSettings
from blocklistd.errors import ConfigError, SigningError
from blocklistd.serve.dns.zones import TlsClient
from blocklistd.serve.tls_context import asking_context, public_key, shown_certificate, trust

if TYPE_CHECKING:
    from OpenSSL import SSL
    from OpenSSL.crypto import X509

ALPN: Final = b"dot"
"""The protocol of DNS over TLS (RFC 7858), which XoT uses (RFC 9103 7.1)."""


class XotCertificate:
    """The certificate of the XoT listener. `context`: for new connections, None if no certificate is loaded.
    `unusable`: why none is, a message for the operator. Both are None without `tls`."""

    def __init__(self, tls: DnsTlsSettings | None) -> None:
        self.context: SSL.Context | None = None
        self.unusable: str | None = None
        try:
            self.adopt(prepare(tls))
        except (ConfigError, SigningError) as error:
            self.unusable = f"zones are not served over TLS: dns.tls has no usable certificate: {error}"

    def adopt(self, context: SSL.Context | None) -> None:
        """Uses what `prepare` has returned for new connections."""
        self.context, self.unusable = context, None


def prepare(tls: DnsTlsSettings | None) -> SSL.Context | None:
    """Loads the certificate, its key and the authority of client certificates; None without `tls`.

    A client certificate is asked for, and is optional. Without an authority any certificate is accepted: its public key
    identifies the subscriber, who has proved in the handshake to have the private key. Raises SigningError, or
    ConfigError for a secret that does not exist.
    """
    if tls is None:
        return None
    from OpenSSL import SSL

    context = asking_context(tls.cert, tls.key, ALPN, minimum=SSL.TLS1_3_VERSION)  # RFC 9103 7.1
    context.set_alpn_select_callback(_select_protocol)
    authority = tls.client_ca
    if authority is not None:
        trust(context, authority, "dns.tls.client_ca")

    def accept(connection: SSL.Connection, certificate: X509, error: int, depth: int, verified: int) -> bool:
        return authority is None or bool(verified)

    context.set_verify(SSL.VERIFY_PEER, accept)
    return context


def _select_protocol(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """Called for a client that offers protocols. An error ends the handshake with no_application_protocol (RFC 7301
    3.2)."""
    from OpenSSL import SSL

    if ALPN not in offered:
        raise SSL.Error("no ALPN protocol matches")
    return ALPN


def client_of(connection: SSL.Connection) -> TlsClient:
    """What the client has shown in the handshake."""
    return TlsClient(
        certificate=public_key(shown_certificate(connection)),
        alpn=connection.get_alpn_proto_negotiated() == ALPN,
    )
