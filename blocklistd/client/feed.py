"""The subscriber's HTTP client: one connection pool for TUF metadata and all other requests, bounded in time.

Order of calls: `FeedClient.open`, then `chunks` until its end, or `discard`; `close` at the end. Callers bound the
bytes of a body with `bounded`; for metadata python-tuf does so.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import urllib3
import zstandard
from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface
from urllib3.connection import HTTPConnection, HTTPSConnection

from blocklistd import __version__
from blocklistd.errors import SyncError
from blocklistd.limits import CHUNK, CLIENT_BODY, CLIENT_METADATA, CLIENT_TIMEOUT

STATUS_HINTS: Final = {
    301: "the feed has moved: give the new address",
    401: "the token is wrong or was revoked: ask the publisher",
    403: "not an answer of blocklistd: a proxy refused the request, or this is another server: check the address",
    404: "there is no such list for this token: check its name, or ask the publisher",
    410: "the file is no longer kept: try again",
    429: "too many requests of this subscriber are under way: stop other syncs, or try again later",
    502: "the proxy before the feed does not reach it: try again later",
    503: "the publisher is starting or repairing its state: try again later",
    504: "the proxy before the feed does not reach it: try again later",
}
_ZSTD_STEP: Final = 4096  # compressed bytes that are decompressed at once: bounds the memory that one step needs
_ZSTD_WINDOW: Final = 1 << 27  # bytes: the largest window that the zstd tool accepts by default


@contextmanager
def _head_within_timeout(connection: HTTPConnection) -> Iterator[None]:
    """Shuts the connection down unless the head of the answer is complete within the connection's timeout.

    The socket's own timeout does not suffice: it begins again with each byte. Raises TimeoutError.
    """
    late = threading.Event()

    def shut_down() -> None:
        late.set()
        with suppress(OSError):  # not SSLSocket.shutdown: it drops the TLS state while another thread reads
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    timer = threading.Timer(connection.timeout or CLIENT_TIMEOUT, shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        if late.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()


class _HTTP(HTTPConnection):
    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        with _head_within_timeout(self):
            return super().getresponse()


class _HTTPS(HTTPSConnection):
    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        with _head_within_timeout(self):
            return super().getresponse()


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPS


class FeedClient:
    """Requests for one list. Raises SyncError, whose text ends with what to do, if a request fails or `stop` is set.

    `url` is the feed's address without `/v1`. `ca` is a PEM file of the publisher's authority, None for the system's.
    The token goes to https: addresses only, and to this host.
    """

    def __init__(
        self, url: str, list_name: str, token: str | None, ca: Path | None, stop: threading.Event | None = None
    ) -> None:
        _check_address(url)
        if ca is not None:
            _check_authority(ca)
        headers = {"User-Agent": f"blocklistd-sync/{__version__}"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self.base = f"{url.rstrip('/')}/v1/lists/{list_name}"
        self.received = 0  # bytes of all bodies, before decompression
        self._stop = stop or threading.Event()
        self._pool = urllib3.PoolManager(
            headers=headers,
            ca_certs=str(ca) if ca else None,
            cert_reqs="CERT_REQUIRED",
            timeout=urllib3.Timeout(connect=10.0, read=CLIENT_TIMEOUT),
            retries=False,
        )
        self._pool.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def close(self) -> None:
        """Closes all connections."""
        self._pool.clear()

    def open(self, path: str, headers: dict[str, str] | None = None, wait: float = 0) -> urllib3.BaseHTTPResponse:
        """Sends a GET request, and returns the answer with its body unread. Redirects are not followed.

        `path` is relative to the list. `wait` is the seconds of a long poll, in addition to CLIENT_TIMEOUT.
        """
        sent = {**self._pool.headers, **(headers or {})}
        timeout = urllib3.Timeout(connect=10.0, read=CLIENT_TIMEOUT + wait)
        try:
            return self._pool.request(
                "GET", f"{self.base}{path}", headers=sent, preload_content=False, redirect=False, timeout=timeout
            )
        except urllib3.exceptions.HTTPError as error:
            raise SyncError(f"{self.base}: {_cause_and_remedy(error)}") from None

    def chunks(self, response: urllib3.BaseHTTPResponse, within: float | None = None) -> Iterator[bytes]:
        """The body in chunks, not decompressed, within so many seconds (default: CLIENT_BODY)."""
        within = CLIENT_BODY if within is None else within
        end = time.monotonic() + within
        try:
            # not read(): it returns when a chunk is full, however slowly it fills, so `end` could pass unnoticed
            while chunk := response.read1(CHUNK, decode_content=False):
                if self._stop.is_set():
                    raise SyncError(f"{self.base}: stopped while the answer arrived: run it again")
                if time.monotonic() > end:
                    raise SyncError(
                        f"{self.base}: the answer did not end within {within:g} s: check the network, or try later"
                    )
                self.received += len(chunk)
                yield chunk
        except urllib3.exceptions.HTTPError as error:
            raise SyncError(f"{self.base}: the answer was cut short ({_cause_and_remedy(error)}): try again") from None
        finally:
            response.close()  # a connection whose answer was read completely is back in the pool already

    def status_error(self, status: int) -> SyncError:
        """The error to raise for a status that is not the expected one."""
        next_step = STATUS_HINTS.get(status, "try again later")
        if status == 401 and "Authorization" not in self._pool.headers:
            next_step = "no token was sent: name the file that holds it with --token-file"
        return SyncError(f"{self.base}: the feed answered {status}: {next_step}")


def _check_address(url: str) -> None:
    """Raises SyncError unless the address is https:, or http: to this host: a token must not be sent in the clear."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not url.startswith(("https://", "http://")) or (url.startswith("http://") and not local):
        raise SyncError(f"{url}: expected the https: address of a feed (http: to this machine only)")


def _check_authority(ca: Path) -> None:
    """Raises SyncError unless the file has certificates in PEM."""
    try:
        ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        reason = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise SyncError(f"--ca {ca}: {reason}: expected the publisher's authority, in PEM") from None


def discard(response: urllib3.BaseHTTPResponse) -> None:
    """Ends an answer whose body is not needed. A short body is read, so that its connection can be used again."""
    try:
        response.read1(CHUNK, decode_content=False)
    except urllib3.exceptions.HTTPError:
        pass  # the body is not needed
    finally:
        response.close()


def decoded(chunks: Iterator[bytes], coding: str | None) -> Iterator[bytes]:
    """Decodes a body by its Content-Encoding: none, or one frame of zstd (RFC 8878).

    Raises ValueError for another coding, and for data that is damaged or incomplete.
    """
    if coding in (None, "", "identity"):
        yield from chunks
        return
    if coding != "zstd":
        raise ValueError("a content coding that was not requested")
    frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), _ZSTD_STEP):
                yield frame.decompress(chunk[start : start + _ZSTD_STEP])
    except zstandard.ZstdError:
        raise ValueError("not zstd data") from None
    if not frame.eof:
        raise ValueError("zstd data that is cut short")
    if frame.unused_data:
        raise ValueError("more than one frame of zstd data")


def bounded(chunks: Iterator[bytes], bound: int) -> Iterator[bytes]:
    """The same chunks. Raises ValueError as soon as they have more than `bound` bytes."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > bound:
            raise ValueError(f"more than {bound} bytes")
        yield chunk


class TufFetcher(FetcherInterface):
    """Fetches metadata for python-tuf, and raises DownloadError.

    python-tuf turns other errors into DownloadError only while it calls `_fetch`, not while it reads the iterator.
    """

    def __init__(self, feed: FeedClient) -> None:
        self._feed = feed

    def _fetch(self, url: str) -> Iterator[bytes]:
        response = self._feed.open(url.removeprefix(self._feed.base))
        if response.status != 200:
            discard(response)
            raise DownloadHTTPError(str(self._feed.status_error(response.status)), response.status)
        return self._read(response)

    def _read(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        try:
            yield from self._feed.chunks(response, CLIENT_METADATA)
        except SyncError as error:
            raise DownloadError(str(error)) from error


def _cause_and_remedy(error: BaseException) -> str:
    """The likely cause of an error of urllib3, then the next step."""
    cause = getattr(error, "reason", None) or error
    match cause:
        case urllib3.exceptions.NameResolutionError():
            return "its name is not found: is it spelled right, and does this host's DNS work (`getent hosts NAME`)?"
        case urllib3.exceptions.NewConnectionError():
            return _connect_failure(cause.__cause__)
        case urllib3.exceptions.SSLError():
            return _tls_failure(cause)
        case urllib3.exceptions.ConnectTimeoutError():
            return "no connection in time: is the address right, and does a firewall allow connections to that port?"
        case urllib3.exceptions.TimeoutError():
            return "no answer in time: try again later"
        case urllib3.exceptions.LocationValueError():
            return "this is not the address of a feed: check URL"
        case urllib3.exceptions.ProtocolError() | urllib3.exceptions.InvalidHeader():
            return (
                "it closed the connection, or does not speak HTTP: check the port, and https: or http: in the address"
            )
        case _:
            return type(cause).__name__


def _connect_failure(cause: BaseException | None) -> str:
    """Why no connection can be made, and what to check."""
    if isinstance(cause, ConnectionRefusedError):
        return "it refuses connections: the host answers, but nothing listens on that port: is the port right?"
    if isinstance(cause, OSError) and cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return "there is no route to it from this host: check this host's network (`ip route`)"
    return "it can't be reached: is the address right, and is the publisher running?"


def _tls_failure(error: BaseException) -> str:
    """Why TLS fails, and what to check. The numbers are OpenSSL's X509_V_ERR codes (x509_vfy.h)."""
    refused = error.args[0] if error.args and isinstance(error.args[0], ssl.SSLError) else error.__cause__
    if not isinstance(refused, ssl.SSLCertVerificationError):
        return (
            f"no TLS connection can be made ({refused or error}): is the port the feed's, and does the feed use https:?"
        )
    match refused.verify_code:
        case 9:  # X509_V_ERR_CERT_NOT_YET_VALID
            return f"its certificate is not valid yet, by the clock of this host: {host_time()}. Is that right?"
        case 10:  # X509_V_ERR_CERT_HAS_EXPIRED
            return (
                f"its certificate has expired, by the clock of this host: {host_time()}. If that is right, ask the "
                f"publisher to renew it"
            )
        case 62 | 64:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
            return "its certificate is for another name: use the address that the publisher gave you"
        case _:
            return (
                f"its certificate can't be verified ({refused.verify_message}): if the publisher gave you "
                f"the certificate of its authority (ca.pem), name it with --ca"
            )


def host_time() -> str:
    """The time of this host for an error message, so that the reader sees whether it is wrong."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
