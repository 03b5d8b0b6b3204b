"""Certificates and their keys from where the configuration says: a file, a systemd credential, the environment."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from blocklistd.config import Secret
from blocklistd.errors import SigningError


def load_certificate(context: ssl.SSLContext, cert: Path, key: Secret) -> None:
    """Loads a chain and its key; raises SigningError where they can't be read or don't belong together.

    Tried on a context of its own first: a pair that does not fit would leave a live one without any key.
    """
    _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert, key)
    _load(context, cert, key)


def _load(context: ssl.SSLContext, cert: Path, key: Secret) -> None:
    try:
        if key.path is not None:
            context.load_cert_chain(cert, key.path)
            return
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # OpenSSL reads files only; this one is 0600
            file.write(key.read())
            file.flush()
            context.load_cert_chain(cert, file.name)
    except OSError as error:  # ssl.SSLError is one
        reason = (error.reason or "no PEM") if isinstance(error, ssl.SSLError) else error.strerror
        raise SigningError(f"{cert} and its key: {reason}: expected a certificate and its own key in PEM") from error


def server_context(cert: Path, key: Secret) -> ssl.SSLContext:
    """TLS 1.2 and up for the feed. Raises SigningError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, cert, key)
    return context
