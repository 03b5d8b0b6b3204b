"""Addresses to listen on, and URLs to pull from and to be known by."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from blocklistd.config.page import Reader, Spot, Wrong
from blocklistd.config.reader import NOT_BUILT
from blocklistd.config.values import match


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address (without brackets) and a port to listen on; port 0 is any free one, host `::` is both families."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return _is_loopback(self.host)

    def clashes(self, other: Address) -> bool:
        """Whether not both can be listened on."""
        if self.port != other.port or not self.port:
            return False
        hosts = {self.host, other.host}
        if len(hosts) == 1 or "::" in hosts:
            return True
        return "0.0.0.0" in hosts and not any(":" in host for host in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(spot: Spot) -> Address:
    found = match(r"(?:\[([^\[\]]+)\]|([0-9.]+)):(0|[1-9][0-9]{0,4})", spot.text())
    try:
        host = ipaddress.IPv6Address(found[1]) if found[1] else ipaddress.IPv4Address(found[2])
    except ValueError:
        raise Wrong from None
    if int(found[3]) > 65535:
        raise Wrong("a port up to 65535")
    return Address(str(host), int(found[3]))


address: Final = Reader("an address and a port like 127.0.0.1:9153 or [::]:8443", _address)


def _web(text: str) -> str:
    """An https URL, or an http one to this machine. Raises Wrong."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Wrong from None
    if "@" in parts.netloc:
        raise Wrong("a URL without user and password: they belong into `auth`")
    if parts.scheme not in ("https", "http") or not host or port == 0 or parts.fragment:
        raise Wrong
    if parts.scheme == "http" and not _is_loopback(host):
        raise Wrong("https: plain http goes to loopback only (127.0.0.1, [::1], localhost)")
    return text


def source_url(text: str) -> str:
    """The URL of a source as it is written: https, http to loopback, or file. Raises Wrong."""
    if any(character.isspace() for character in text):
        raise Wrong("a URL without spaces")
    scheme = text.partition(":")[0].lower()
    if scheme in ("axfr", "tuf+https"):
        raise Wrong(f"{SOURCE_URL}: {NOT_BUILT}")
    if scheme != "file":
        return _web(text)
    if not file_path(text):
        raise Wrong("a path after `file:` (file:/srv/drop, file:///srv/drop, file:drop)")
    return text


def file_path(url: str) -> str | None:
    """The path in a file URL, relative where it does not start with a slash; None where there is none.

    RFC 8089 has no relative file URLs; here `file:drop` is the folder next to the configuration file.
    """
    path = url[len("file:") :]
    if path.startswith("//"):
        host, slash, path = path[2:].partition("/")
        if host not in ("", "localhost"):
            return None
        path = slash + path
    path = unquote(path)
    return path if path.isprintable() else None


def _public(spot: Spot) -> str:
    text = spot.text()
    if any(mark in text for mark in "? "):
        raise Wrong
    return _web(text).rstrip("/")


def _of_text(take: Callable[[str], str]) -> Callable[[Spot], str]:
    return lambda spot: take(spot.text())


SOURCE_URL: Final = "an https: or file: URL (http: to loopback only)"
url: Final = Reader(SOURCE_URL, _of_text(source_url))
public_url: Final = Reader("an https: URL without a query", _public)
