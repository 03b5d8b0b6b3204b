"""The transports of bodies. Each has a module here that ends with its `TRANSPORT` (transport.py). `fetch.fetch` runs
them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blocklistd.errors import FetchError
from blocklistd.sources.transports import axfr, file, tuf, web
from blocklistd.sources.transports.transport import Transport, redacted_url, scheme_of

__all__ = ["TRANSPORTS", "transport_of"]

TRANSPORTS: Final[Mapping[str, Transport]] = {
    "https": web.TRANSPORT,
    "http": web.LOOPBACK,
    "file": file.TRANSPORT,
    "tuf+https": tuf.TRANSPORT,
    "tuf+http": tuf.LOOPBACK,
    "axfr": axfr.TRANSPORT,
}
"""The transports by the scheme of URLs, in lower case."""


def transport_of(url: str) -> Transport:
    """The transport for the scheme of a URL. Raises FetchError if there is none."""
    transport = TRANSPORTS.get(scheme_of(url))
    if transport is None:
        raise FetchError(f"{redacted_url(url)}: not a URL that can be fetched: expected one of {', '.join(TRANSPORTS)}")
    return transport
