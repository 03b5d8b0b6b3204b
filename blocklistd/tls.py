"""Certificates and their keys from where the configuration says: a file, a systemd credential, the environment."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import Final

from blocklistd.config import FeedTlsSettings, Secret
from blocklistd.errors import ConfigError, SigningError


def load_certificate(context: ssl.SSLContext, cert: Path, key: Secret) -> None:
    """Loads a chain and its key. Raises SigningError where they can't be read or don't belong together.

    They are tried on a separate context first: a pair that does not match would leave a live context without a key.
    """
    _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert, key)
    _load(context, cert, key)


def _load(context: ssl.SSLContext, cert: Path, key: Secret) -> None:
    try:
        if key.path is not None:
            context.load_cert_chain(cert, key.path, password=lambda: b"")  # else OpenSSL asks on the terminal
            return
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # OpenSSL reads files only; this one is 0600
            file.write(key.read())
            file.flush()
            context.load_cert_chain(cert, file.name, password=lambda: b"")
    except OSError as error:  # ssl.SSLError is one
        reason = (error.reason or "not PEM") if isinstance(error, ssl.SSLError) else error.strerror
        raise SigningError(f"{cert} and its key: {reason}: expected a certificate and its own key in PEM") from error


def server_context() -> ssl.SSLContext:
    """TLS 1.2 and up for the feed, without a certificate yet."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class ServedCertificate:
    """The certificate of a listener; `load` replaces it for new connections. `context` is None for plain HTTP.
    `unusable` says why no certificate is loaded: until one is, every handshake fails."""

    def __init__(self, tls: FeedTlsSettings | None) -> None:
        self.context = server_context() if tls is not None else None
        self.unusable: str | None = None
        try:
            self.load(tls)
        except (ConfigError, SigningError) as error:
            self.unusable = f"the feed is not served: it has no usable certificate: {error}"

    def load(self, tls: FeedTlsSettings | None) -> None:
        """Loads the certificate. Raises SigningError, or ConfigError for a secret that does not exist; then the one
        loaded before stays."""
        if self.context is not None and tls is not None:
            load_certificate(self.context, tls.cert, tls.key)
            self.unusable = None


_NOT_TRUSTED: Final = (18, 19, 20, 21)  # X509_V_ERR_… for a chain that ends in no authority this host trusts


def is_private(serving: ssl.SSLContext) -> bool:
    """Whether a listener's certificate is of an authority that this host does not trust, so that clients need that
    authority's certificate. Other faults of the certificate count as no."""
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):  # hello, the certificate, its verification
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return error.verify_code in _NOT_TRUSTED
        except ssl.SSLError:
            break
    return False
