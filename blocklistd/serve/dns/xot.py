"""TLS of the zone transfers (XoT, RFC 9103): the certificate that is served, and what a client has shown of itself.

States of an XotCertificate:
    unusable → usable   `adopt` of what `prepare` has loaded; until then every handshake is refused
    usable   → usable   `adopt`: new connections get the new certificate, connections under way keep theirs
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from blocklistd.config import DnsTlsSettings
from blocklistd.config.document import read_regular
from blocklistd.errors import ConfigError, SigningError
from blocklistd.serve.dns.zones import TlsClient
from blocklistd.serve.tls_transport import count_messages
from blocklistd.tls import load_certificate, server_context, spki_digest

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
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

    Raises SigningError, or ConfigError for a secret that does not exist.
    """
    if tls is None:
        return None
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from OpenSSL import SSL

    load_certificate(server_context(), tls.cert, tls.key)  # its messages say what does not fit
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)  # RFC 9103 7.1
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # no resumption: each connection shows its certificate. OpenSSL sends two tickets all the same, which resume nothing
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(ALPN)
    context.set_alpn_select_callback(_select_protocol)
    context.set_info_callback(count_messages)
    try:
        first, *others = _certificates(tls.cert)
        context.use_certificate(first)
        for other in others:
            context.add_extra_chain_cert(other)
        path = tls.key.path
        pem = read_regular(path) if path is not None else tls.key.read_bytes()
        context.use_privatekey(load_pem_private_key(pem, None))  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError, SSL.Error) as error:
        raise SigningError(f"{tls.cert} and its key can't be used: expected certificates and a key in PEM") from error
    try:
        _request_certificate(context, tls.client_ca)
    except (OSError, ValueError, SSL.Error) as error:
        raise SigningError(f"dns.tls.client_ca: {tls.client_ca} can't be used: expected certificates in PEM") from error
    return context


def _request_certificate(context: SSL.Context, authority: Path | None) -> None:
    """Asks for a client certificate, which is optional. Without an authority any certificate is accepted: its public
    key identifies the subscriber, who has proved in the handshake to have the private key."""
    from OpenSSL import SSL
    from OpenSSL.crypto import X509StoreFlags

    if authority is not None:
        context.load_verify_locations(str(authority))
        for one in _certificates(authority):
            context.add_client_ca(one)
        store = context.get_cert_store()
        if store is not None:  # a certificate in the file is trusted by itself, also if it is no authority
            store.set_flags(X509StoreFlags.PARTIAL_CHAIN)

    def accept(connection: SSL.Connection, certificate: X509, error: int, depth: int, verified: int) -> bool:
        return authority is None or bool(verified)

    context.set_verify(SSL.VERIFY_PEER, accept)


def _select_protocol(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """Called for a client that offers protocols. An error ends the handshake with no_application_protocol (RFC 7301
    3.2)."""
    from OpenSSL import SSL

    if ALPN not in offered:
        raise SSL.Error("no ALPN protocol matches")
    return ALPN


def _certificates(path: Path) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    return load_pem_x509_certificates(read_regular(path))


def client_of(connection: SSL.Connection) -> TlsClient:
    """What the client has shown in the handshake."""
    try:
        certificate = connection.get_peer_certificate(as_cryptography=True)
    except ValueError:  # OpenSSL accepts more than the library that parses it
        certificate = None
    return TlsClient(
        certificate="" if certificate is None else spki_digest(certificate) or "",
        alpn=connection.get_alpn_proto_negotiated() == ALPN,
    )
