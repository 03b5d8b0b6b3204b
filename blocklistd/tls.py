"""Loads a certificate and its key from the places that the configuration names, and reads what a certificate says.

A key is in a file, a systemd credential or the environment.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blocklistd.config import Secret
from blocklistd.config.document import require_regular
from blocklistd.errors import SigningError
from blocklistd.model import Sha256

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def load_certificate(context: ssl.SSLContext, cert: Path, key: Secret) -> None:
    """Loads a certificate chain and its key into `context`. Raises SigningError if they can't be read or don't match.

    They are loaded into a separate context first: a pair that does not match leaves a context without a key.
    """
    _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert, key)
    _load(context, cert, key)


def _load(context: ssl.SSLContext, cert: Path, key: Secret) -> None:
    try:
        for path in filter(None, (cert, key.path)):
            require_regular(path)  # OpenSSL would read a device without end
        if key.path is not None:
            # without `password`, OpenSSL would ask for it on the terminal
            context.load_cert_chain(cert, key.path, password=lambda: b"")
            return
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # OpenSSL reads only files; this one is 0600
            file.write(key.read())
            file.flush()
            context.load_cert_chain(cert, file.name, password=lambda: b"")
    except OSError as error:  # ssl.SSLError is one
        reason = (error.reason or "not PEM") if isinstance(error, ssl.SSLError) else error.strerror
        raise SigningError(f"{cert} and its key: {reason}: expected a certificate and its own key in PEM") from error


def server_context() -> ssl.SSLContext:
    """A context for the feed, with TLS 1.2 and later, and no certificate yet."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


@dataclass(frozen=True, slots=True)
class ServerName:
    """What clients verify a server's certificate by. `name`: its first DNS name without a wildcard, else its first IP
    address. `pin`: base64 of the SHA-256 of its public key (SPKI, RFC 5280 4.1.2.7)."""

    name: str
    pin: str


def server_name(path: Path) -> ServerName | None:
    """The name and the pin of the first certificate in a PEM file; None if it has no name."""
    from cryptography.x509 import (
        DNSName,
        ExtensionNotFound,
        IPAddress,
        SubjectAlternativeName,
        load_pem_x509_certificates,
    )

    try:
        certificate = load_pem_x509_certificates(path.read_bytes())[0]
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (OSError, ValueError, ExtensionNotFound):
        return None
    found = [name for name in names.get_values_for_type(DNSName) if "*" not in name]
    found += map(str, names.get_values_for_type(IPAddress))
    digest = spki_digest(certificate)
    if not found or digest is None:
        return None
    return ServerName(found[0], base64.b64encode(bytes.fromhex(digest)).decode())


def spki_digest(certificate: Certificate) -> Sha256 | None:
    """The SHA-256 (hex) of a certificate's public key (SubjectPublicKeyInfo, RFC 5280 4.1.2.7) in DER; None if the key
    is of an unknown kind."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        encoded = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return Sha256(hashlib.sha256(encoded).hexdigest())


_NOT_TRUSTED: Final = (18, 19, 20, 21)  # X509_V_ERR_…: the chain ends in no authority that this host trusts


def has_untrusted_authority(serving: ssl.SSLContext) -> bool:
    """Whether this host does not trust the authority of a listener's certificate, so that clients need the authority's
    certificate. False for any other fault of the certificate."""
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):  # ClientHello; the server's certificate; its verification
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return error.verify_code in _NOT_TRUSTED
        except ssl.SSLError:
            break
    return False
