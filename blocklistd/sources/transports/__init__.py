"""How a body comes: a file a transport, each with its `TRANSPORT` (transport.py). `fetch.fetch` runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blocklistd.errors import FetchError
from blocklistd.sources.transports import file, web
from blocklistd.sources.transports.transport import Transport, scheme_of, shown

__all__ = ["TRANSPORTS", "transport_of"]

TRANSPORTS: Final[Mapping[str, Transport]] = {
    "https": web.TRANSPORT,
    "http": web.LOOPBACK,
    "file": file.TRANSPORT,
}
"""By the scheme of a URL, in lower case."""


def transport_of(url: str) -> Transport:
    """The transport of a URL's scheme. Raises FetchError."""
    transport = TRANSPORTS.get(scheme_of(url))
    if transport is None:
        raise FetchError(f"{shown(url)}: not a URL that can be fetched: expected one of {', '.join(TRANSPORTS)}")
    return transport
