"""Prepares the network of a transport in a process of its own, before the process enters the sandbox.

No file can be opened in the sandbox: neither those of the system's authorities, which OpenSSL reads during a handshake,
nor the configuration of the resolver.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

from blocklistd.errors import FetchError
from blocklistd.sources.transports.transport import Request, redacted_url, scheme_of

_HASHED: Final = re.compile(r"[0-9a-f]{8}\.[0-9]{1,3}")
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[\x00-\x7f]*?-----END CERTIFICATE-----")


class KnownHosts(aiohttp.ThreadedResolver):
    """A resolver for a session, which knows the hosts that were looked up before the sandbox, and no other."""

    def __init__(self) -> None:
        super().__init__()
        self._addresses: dict[str, list[Any]] = {}

    async def learn(self, url: str, others: Iterable[str]) -> None:
        """Look up the host of a URL, and other hosts. Raises OSError if the first one is unknown."""
        own = URL(url).raw_host or ""  # in the form in which aiohttp asks for it, with A-labels
        for host in dict.fromkeys((own, *others)):
            try:
                self._addresses[host] = list(await super().resolve(host, 0, socket.AF_UNSPEC))
            except OSError:
                if host == own:
                    raise

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AddressFamily.AF_INET
    ) -> list[Any]:
        """The addresses of a known host. Raises OSError for any other."""
        found = self._addresses.get(host.lower())
        if not found:
            raise OSError(None, "an unknown host")
        return [{**address, "port": port} for address in found]


def with_tls(request: Request, url: str) -> Request:
    """The request for `url`, with TLS contexts if that is an https URL. With a pinned authority or a client
    certificate, other https origins are refused (`Request`). Raises FetchError, as `tls_context`."""
    context = tls_context(request) if scheme_of(url) == "https" else None
    is_own = request.ca is not None or request.client_cert is not None
    return replace(request, url=url, ssl=context, redirect_ssl=None if is_own else context)


def tls_context(request: Request) -> ssl.SSLContext:
    """A TLS context with the pinned authority or the system's, and the client certificate of the request. Raises
    FetchError if one can't be read."""
    try:
        made = ssl.create_default_context(cafile=request.ca)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        if request.ca is None and (authorities := _system_authorities()):
            made.load_verify_locations(cadata=authorities)
        if request.client_cert is not None:
            _load_pair(made, request.client_cert)
    except OSError:  # ssl.SSLError is one
        raise FetchError(
            f"{redacted_url(request.url)}: its TLS files can't be read: check `ca` and `auth.client_cert`"
        ) from None
    return made


def _system_authorities() -> str:
    """The authorities in the system's folder, in PEM; OpenSSL itself reads them during a handshake."""
    folder = ssl.get_default_verify_paths().capath
    if folder is None:
        return ""
    files = (Path(folder, name) for name in sorted(os.listdir(folder)) if _HASHED.fullmatch(name))
    found = [text for path in files if path.is_file() for text in _CERTIFICATE.findall(path.read_bytes())]
    return b"\n".join(found).decode("ascii")


def _load_pair(made: ssl.SSLContext, pem: bytes) -> None:
    """Load a certificate chain and its key, both in `pem`. OpenSSL reads them only from a file."""
    with open(os.memfd_create("client-certificate"), "w+b") as file:
        file.write(pem)
        file.flush()
        made.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=lambda: b"")
