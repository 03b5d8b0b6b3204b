"""Identifies the server of a TLS connection, for the evidence of a body."""

from __future__ import annotations

import asyncio
import hashlib

from blocklistd.model import Sha256, TlsPeer


def load() -> None:
    """Import the modules that `peer_of` needs. Call it before the sandbox, in which no file can be opened."""
    import cryptography.exceptions
    import cryptography.hazmat.primitives.serialization
    import cryptography.x509  # noqa: F401


def peer_of(transport: asyncio.BaseTransport | None) -> TlsPeer | None:
    """The server of a TLS connection; None without TLS, or if its certificate can't be parsed."""
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    return peer_of_certificate(certificate) if certificate is not None else None


def peer_of_certificate(certificate: bytes) -> TlsPeer | None:
    """The server with this certificate (DER); None if it can't be parsed."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509 import load_der_x509_certificate

    try:
        public_key = load_der_x509_certificate(certificate).public_key()
        encoded = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):  # OpenSSL accepts more than this library
        return None
    return TlsPeer(_sha256(certificate), _sha256(encoded))


def _sha256(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())
