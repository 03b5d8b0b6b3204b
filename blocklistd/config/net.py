"""Readers of addresses, networks and URLs."""

from __future__ import annotations

import ipaddress
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from blocklistd.config import names
from blocklistd.config.document import ConfigNode, InvalidValue, Reader
from blocklistd.config.reader import alternatives
from blocklistd.config.values import match
from blocklistd.sources.transports import TRANSPORTS, web
from blocklistd.sources.transports.file import NOT_BODIES
from blocklistd.sources.transports.transport import scheme_of
from blocklistd.sources.transports.web import is_loopback

SQLITE: Final = "sqlite"
_SECRETS: Final = ("password", "sslpassword")  # parameters of a URL for libpq


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address (without brackets) and a port to listen on. Port 0 is any free port, host `::` is IPv4 and IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach the address."""
        return is_loopback(self.host)

    def clashes(self, other: Address) -> bool:
        """Whether two listeners on these addresses would conflict."""
        if self.port != other.port or not self.port:
            return False
        hosts = {self.host, other.host}
        if len(hosts) == 1 or "::" in hosts:
            return True
        return "0.0.0.0" in hosts and not any(":" in host for host in hosts)


def _address(node: ConfigNode) -> Address:
    found = match(r"(?:\[([^\[\]]+)\]|([0-9.]+)):(0|[1-9][0-9]{0,4})", node.text())
    try:
        host = ipaddress.IPv6Address(found[1]) if found[1] else ipaddress.IPv4Address(found[2])
    except ValueError:
        raise InvalidValue from None
    if int(found[3]) > 65535:
        raise InvalidValue("a port up to 65535")
    return Address(str(host), int(found[3]))


def _network(node: ConfigNode) -> Network:
    try:
        return ipaddress.ip_network(node.text())
    except ValueError:
        raise InvalidValue from None


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
network: Final = Reader("an address, or a prefix like 192.0.2.0/24", _network)
address: Final = Reader("an address and a port like 127.0.0.1:9153 or [::]:8443", _address)


def _host(node: ConfigNode) -> str:
    text = node.text().removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return names.name.convert(node)


host: Final = Reader("a host: a name in the DNS (A-labels) or an address", _host)


def source_url(text: str) -> str:
    """Returns `text` if it is a URL that a transport accepts; raises InvalidValue if not."""
    if any(character.isspace() for character in text):
        raise InvalidValue("a URL without spaces")
    scheme = scheme_of(text)
    if scheme not in TRANSPORTS:
        raise InvalidValue
    return _checked(TRANSPORTS[scheme].check, text)


def _checked(check: Callable[[str], None], text: str) -> str:
    try:
        check(text)
    except ValueError as error:
        raise InvalidValue(str(error)) from None
    return text


def _pattern(node: ConfigNode) -> str:
    text = node.text()
    if not text or "/" in text or text.startswith(".") or text.lower().endswith(NOT_BODIES):
        raise InvalidValue
    return text


def _public(node: ConfigNode) -> str:
    text = node.text()
    if any(character in text for character in "? "):
        raise InvalidValue
    return _checked(web.check, text).rstrip("/")


def _of_text(convert: Callable[[str], str]) -> Callable[[ConfigNode], str]:
    return lambda node: convert(node.text())


_notes: Final = "; ".join(f"{scheme}: {transport.note}" for scheme, transport in TRANSPORTS.items() if transport.note)
SOURCE_URL: Final = f"a URL with {alternatives(f'{scheme}:' for scheme in TRANSPORTS)} ({_notes})"
url: Final = Reader(SOURCE_URL, _of_text(source_url))
pattern: Final = Reader("a pattern for the names of whole files, like '*.csv' (in quotes)", _pattern)
public_url: Final = Reader("an https: URL without a query", _public)


def _postgresql_url(node: ConfigNode) -> str | None:
    text = node.text()
    if text == SQLITE:
        return None
    try:
        url = urllib.parse.urlsplit(text)
        parameters = urllib.parse.parse_qs(url.query, strict_parsing=bool(url.query))
        has_password = url.password is not None or any(name in parameters for name in _SECRETS)
    except ValueError:
        raise InvalidValue from None
    if url.scheme != "postgresql" or not text.startswith("postgresql://") or url.fragment:
        raise InvalidValue
    if has_password:
        raise InvalidValue("a URL without a password: libpq finds it in the file that PGPASSFILE names")
    if len(url.path) < 2:
        raise InvalidValue("a URL that ends with the name of the database: postgresql://USER@HOST/NAME")
    return text


postgresql_url = Reader(f"`{SQLITE}` or postgresql://USER@HOST/NAME", _postgresql_url)
"""Reads the URL of a PostgreSQL database as libpq takes it, without a password; `sqlite` is read as None."""
