"""Connections to a feed: TLS, client certificates, proxies, and a bound on the time of each read."""

from __future__ import annotations

import ipaddress
import math
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from blocklistd.errors import SyncError
from blocklistd.limits import CLIENT_CONNECT, CLIENT_TIMEOUT

_PROXY_EXPECTED: Final = "expected http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ if it asks for them"
PROXY_SECRET: Final = (
    "expected an address without user and password, which every user of this machine could see: write it into a file, "
    "and name that with --proxy-file"
)


@dataclass(frozen=True, slots=True)
class FeedAccess:
    """How a feed is reached.

    `token`: of the subscriber. `ca`: a PEM file of the publisher's authority, None for the system's. `cert`, `key`: PEM
    files of a client certificate. `proxy`: its address; None for the one that HTTPS_PROXY and NO_PROXY name, if any.
    """

    token: str | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    proxy: str | None = None


def connection_pool(url: str, access: FeedAccess, headers: dict[str, str]) -> urllib3.PoolManager:
    """A pool of connections to the feed at `url`, which does not follow redirects. Raises SyncError for an address, a
    file or a proxy that can't be used."""
    _check_address(url)
    if access.ca is not None:
        _check_authority(access.ca)
    _check_certificate(access)
    settings: dict[str, Any] = {
        "headers": headers,
        "ca_certs": str(access.ca) if access.ca else None,
        "cert_file": str(access.cert) if access.cert else None,
        "key_file": str(access.key) if access.key else None,
        "cert_reqs": "CERT_REQUIRED",
        "timeout": urllib3.Timeout(connect=CLIENT_CONNECT, read=CLIENT_TIMEOUT),
        "retries": False,
    }
    proxy = _proxy(url, access.proxy)
    pool = urllib3.PoolManager(**settings) if proxy is None else _proxied(proxy, settings)
    pool.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return pool


def _proxied(proxy: str, settings: dict[str, Any]) -> urllib3.ProxyManager:
    """A pool that reaches the feed through the proxy, by CONNECT: the proxy sees the feed's name, and no token."""
    parts = urlsplit(proxy)
    named = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    credentials = urllib3.make_headers(proxy_basic_auth=named) if named else None
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return urllib3.ProxyManager(address, proxy_headers=credentials, **settings)


def _proxy(url: str, given: str | None) -> str | None:
    """The address of the proxy for this feed, None to connect directly. Raises SyncError.

    Never one for an http: address: that is on this host, and the proxy would read the token.
    """
    if not url.startswith("https:"):
        return None
    host = urlsplit(url).hostname or ""
    found = given or urllib.request.getproxies_environment().get("https")
    if not found or (not given and urllib.request.proxy_bypass_environment(host)):  # type: ignore[attr-defined]
        return None
    found = found if "://" in found else f"http://{found}"
    try:
        parts = urlsplit(found)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        named = "--proxy, --proxy-file" if given else "the variable HTTPS_PROXY"
        raise SyncError(f"{named}: this is no address of a proxy: {_PROXY_EXPECTED}")
    return found


def _check_address(url: str) -> None:
    """Raises SyncError unless the address is https:, or http: to this host: a token must not be sent in the clear. It
    must have no credentials, which `ps` and logs would show, and no path of a list."""
    path = ""
    try:
        parts = urlsplit(url)
        host, path = parts.hostname or "", parts.path.rstrip("/")
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if "@" in url.partition("://")[2].partition("/")[0]:
        shown = f"{url.partition('://')[0]}://…@{url.rpartition('@')[2]}"
        raise SyncError(f"{shown}: expected an address without user and password: name a file with --token-file")
    if path.endswith("/v1") or "/v1/lists" in path:
        feed = url[: url.rindex("/v1")] if path.endswith("/v1") else url[: url.index("/v1/lists")]
        raise SyncError(f"{url}: expected the address of the feed alone, {feed}: the list's name comes after it")
    if not url.startswith(("https://", "http://")) or (url.startswith("http://") and not local):
        raise SyncError(f"{url}: expected the https: address of a feed (http: to this machine only)")


def _check_authority(ca: Path) -> None:
    """Raises SyncError unless the file has certificates in PEM."""
    try:
        ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        reason = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise SyncError(f"--ca {ca}: {reason}: expected the publisher's authority, in PEM") from None


def _check_certificate(access: FeedAccess) -> None:
    """Raises SyncError unless the certificate and its key can be used, if they are given."""
    if access.cert is None and access.key is None:
        return
    if access.cert is None or access.key is None:
        raise SyncError("a client certificate needs both --cert and --key: name both files")
    try:
        ssl.create_default_context().load_cert_chain(access.cert, access.key, password=lambda: b"")
    except OSError as error:
        both = f"--cert {access.cert}, --key {access.key}"
        reason = "not a certificate and its key" if isinstance(error, ssl.SSLError) else error.strerror
        raise SyncError(f"{both}: {reason}: expected both in PEM, and a key without a passphrase") from None


# -- the time of a read ------------------------------------------------------------------------------------------------


class ReadBound:
    """Bounds the time of each read from a socket: shuts the socket down if one read takes much longer than `seconds`.

    The socket's own timeout does not suffice: it begins again with each byte, and some reads go on until a certain
    byte: those of a head, of a chunk's size, of trailers. Use it as a context, and each read within `read()`.
    """

    def __init__(self, connected: socket.socket | None, seconds: float) -> None:
        self._socket = connected
        self._seconds = seconds
        self._began = math.inf
        self._over = threading.Event()
        self._late = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ReadBound:
        self._watching.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._watching.join()

    @contextmanager
    def read(self) -> Iterator[None]:
        """A context for one read. Raises TimeoutError if the socket was shut down."""
        self._began = time.monotonic()
        try:
            yield
        except Exception:
            if not self._late.is_set():
                raise
        finally:
            self._began = math.inf
        if self._late.is_set():  # also without an exception: a reader may take the end for that of the body
            raise TimeoutError from None

    def _watch(self) -> None:
        while not self._over.wait(self._seconds / 4):
            if time.monotonic() >= self._began + self._seconds and self._socket is not None:
                self._late.set()
                with suppress(OSError):  # not SSLSocket.shutdown: it drops the TLS state while another thread reads
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                return


def socket_of(response: urllib3.BaseHTTPResponse) -> socket.socket | None:
    """The socket from which the body of an answer is read; None once it is read."""
    connection = response.connection
    return connection.answering if isinstance(connection, _HTTP | _HTTPS) else None


class _HTTP(HTTPConnection):
    answering: socket.socket | None = None
    """The socket of the last answer. http.client drops its own reference if the answer ends the connection."""

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        self.answering = self.sock
        with ReadBound(self.sock, self.timeout or CLIENT_TIMEOUT) as bound, bound.read():
            return super().getresponse()


class _HTTPS(HTTPSConnection):
    answering: socket.socket | None = None

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        self.answering = self.sock
        with ReadBound(self.sock, self.timeout or CLIENT_TIMEOUT) as bound, bound.read():
            return super().getresponse()


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPS
