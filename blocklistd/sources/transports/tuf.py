"""The transports tuf+https, and tuf+http from this machine: the feed of another blocklistd (docs/feed.md). The download
is in tuf_download.py, which is slow to import."""

from __future__ import annotations

import dataclasses
import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from blocklistd.sources.transports import web
from blocklistd.sources.transports.page_reasons import HTTP_REASONS
from blocklistd.sources.transports.transport import Download, Request, Transport

_PATH: Final = re.compile(r"((?:/[^/]+)*?/v1/lists)?/([a-z0-9][a-z0-9-]{0,31})/?")
_EXPECTED: Final = "the feed of a list, like tuf+https://feed.example/LIST, without a query"

NOT_A_FEED: Final = "not the feed of a list: check `url`, or ask the publisher"
NO_VERSION: Final = "the list has no version yet: the next pull tries again"
REPLACED: Final = "a file of the version is not there any more: the next pull tries again"
UNKNOWN_NAME: Final = "its name does not resolve: check `url`, and the resolver of this machine"
HINTS: Final = {
    401: "check `auth`, or ask the publisher for a new token",
    403: "check `url`: a proxy refuses the request, or this is another server",
    404: "check the name of the list in `url`, or ask the publisher whether you may have it",
}
"""The next step for a status of the feed."""
LATER: Final = "the next pull tries again"
"""The next step for any other status."""


class FeedAddress(NamedTuple):
    """The address of a list in a feed, an https: or http: URL without a slash at its end, and the name of the list."""

    url: str
    list: str


def feed_address(url: str) -> FeedAddress:
    """Parse a tuf+https: or tuf+http: URL: HOST/LIST, or the address of the list in the feed. Raises ValueError, with a
    description of an acceptable URL, for any other."""
    scheme, _, rest = url.partition(":")
    text = f"{scheme.lower().removeprefix('tuf+')}:{rest}"
    web.check(text)
    parts = urlsplit(text)
    found = _PATH.fullmatch(parts.path)
    if found is None or "?" in text:
        raise ValueError(_EXPECTED)
    prefix, name = found.groups()
    return FeedAddress(f"{parts.scheme}://{parts.netloc}{prefix or '/v1/lists'}/{name}", name)


def check(url: str) -> None:
    """Raises ValueError, as `feed_address`."""
    feed_address(url)


def _open(request: Request) -> Download:
    from blocklistd.sources.transports.tuf_download import TufDownload

    return TufDownload(request)


_REASONS: Final = (
    f"OURS: {NOT_A_FEED}",
    f"OURS: {NO_VERSION}",
    f"OURS: {REPLACED}",
    "OURS: more than N bytes of metadata: check `url`, or ask the publisher",
    *(f"OURS: status N: expected 200, {hint}" for hint in (*HINTS.values(), LATER)),
    "OURS: a content coding that was not requested: expected identity or zstd",
    *HTTP_REASONS,
)

TRANSPORT: Final = Transport(
    _open,
    check=check,
    uses_tls=True,
    format="entries",
    proof="tuf",
    uses_key=True,
    takes_receipts=True,
    reasons=_REASONS,
)
"""tuf+https. It parses metadata before it is verified, so it runs in a process of its own."""
LOOPBACK: Final = dataclasses.replace(TRANSPORT, note="to loopback only", uses_tls=False)
"""tuf+http, from loopback only."""
