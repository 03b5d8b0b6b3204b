"""The transports https, and http from this machine. The download is in http.py, which is slow to import."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Final
from urllib.parse import urlsplit

from blocklistd.sources.transports.page_reasons import PAGE_REASONS
from blocklistd.sources.transports.transport import Download, Request, TransferMode, Transport


def check(url: str) -> None:
    """Raises ValueError unless the text is an https URL, or an http URL of this machine. Its message describes what is
    expected; it is empty if that is the general description of a URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError from None
    if "@" in parts.netloc:
        raise ValueError("a URL without user and password: they belong into `auth`")
    if parts.scheme not in ("https", "http") or not host or port == 0 or parts.fragment:
        raise ValueError
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("https: plain http goes to loopback only (127.0.0.1, [::1], localhost)")


def is_loopback(host: str) -> bool:
    """Whether an address or a name is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _open(request: Request) -> Download:
    if request.transfer is TransferMode.LOG:
        from blocklistd.sources.transports.log import LogDownload

        return LogDownload(request)
    if request.transfer is TransferMode.PAGES:
        from blocklistd.sources.transports.pages import PageDownload

        return PageDownload(request)
    from blocklistd.sources.transports.http import HttpDownload

    return HttpDownload(request)


TRANSPORT: Final = Transport(
    _open,
    check=check,
    uses_tls=True,
    fetches_signatures=True,
    transfers=(TransferMode.BODY, TransferMode.LOG, TransferMode.PAGES),
    reasons=PAGE_REASONS,
    in_own_process=False,
)
"""https. It runs in the daemon's own process, since it only streams bytes to a file, except for pages
(TransferMode.PAGES), whose links it reads."""
LOOPBACK: Final = dataclasses.replace(TRANSPORT, note="to loopback only", uses_tls=False)
"""http, from loopback only."""
