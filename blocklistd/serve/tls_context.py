"""TLS contexts of pyOpenSSL, for listeners that ask their clients for a certificate.

Python's `ssl` ends the handshake with each client whose certificate no authority has signed (docs/adr/0024). These
contexts resume no session: each connection proves that the client has the private key. OpenSSL sends two tickets all
the same, which resume nothing. A client can't renegotiate (TLS 1.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from blocklistd.config import Secret
from blocklistd.config.document import read_regular
from blocklistd.errors import SigningError
from blocklistd.limits import MAX_AUTHORITIES
from blocklistd.serve.tls_transport import count_messages
from blocklistd.tls import load_certificate, server_context, spki_digest

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from OpenSSL import SSL


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate whose private key the client has. `public_key`: the SHA-256 (hex) of its SPKI. `begins`, `ends`:
    its validity. `trusted`: whether an authority in `client_ca` has signed it, or there is no `client_ca`.
    `authorities`: the SHA-256 of that file, "" without one."""

    public_key: str
    begins: datetime
    ends: datetime
    trusted: bool = True
    authorities: str = ""


def asking_context(cert: Path, key: Secret, session_id: bytes, *, minimum: int) -> SSL.Context:
    """A context with a certificate chain and its key. `session_id`: of the protocol. `minimum`: version of TLS.

    Raises SigningError, or ConfigError for a secret that does not exist.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from OpenSSL import SSL

    load_certificate(server_context(), cert, key)  # its messages say what does not fit
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(minimum)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(session_id)
    context.set_info_callback(count_messages)
    context.set_verify_depth(MAX_AUTHORITIES)
    try:
        first, *others = certificates(cert)
        context.use_certificate(first)
        for other in others:
            context.add_extra_chain_cert(other)
        pem = read_regular(key.path) if key.path is not None else key.read_bytes()
        context.use_privatekey(load_pem_private_key(pem, None))  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError, SSL.Error) as error:
        raise SigningError(f"{cert} and its key can't be used: expected certificates and a key in PEM") from error
    return context


def trust(context: SSL.Context, authority: Path, name: str) -> None:
    """Verifies client certificates by the authorities in a file. `name`: of the key of the configuration.

    Raises SigningError if it has none.
    """
    from OpenSSL import SSL
    from OpenSSL.crypto import X509StoreFlags

    try:
        context.load_verify_locations(str(authority))
        for one in certificates(authority):
            context.add_client_ca(one)
    except (OSError, ValueError, SSL.Error) as error:
        raise SigningError(f"{name}: {authority} can't be used: expected certificates in PEM") from error
    store = context.get_cert_store()
    if store is not None:  # a certificate in the file is trusted by itself, also if it is no authority
        store.set_flags(X509StoreFlags.PARTIAL_CHAIN)


def certificates(path: Path) -> list[Certificate]:
    """The certificates in a file. Raises OSError or ValueError."""
    from cryptography.x509 import load_pem_x509_certificates

    return load_pem_x509_certificates(read_regular(path))


def shown_certificate(connection: SSL.Connection) -> Certificate | None:
    """The certificate that the client has shown; None if it has shown none, or one that can't be parsed."""
    try:
        return connection.get_peer_certificate(as_cryptography=True)
    except ValueError:  # OpenSSL accepts more than the library that parses it
        return None


def public_key(certificate: Certificate | None) -> str:
    """The SHA-256 (hex) of the certificate's public key (SPKI); "" without a certificate or for an unknown kind."""
    return "" if certificate is None else spki_digest(certificate) or ""
