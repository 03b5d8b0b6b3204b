"""The subscriber's end of HTTP: one pool, bounded in time and bytes, for TUF's metadata and for everything else."""

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

HINTS: Final = {
    301: "it has moved: give the new address",
    401: "the token is wrong or was revoked: ask the publisher",
    403: "not an answer of blocklistd: a proxy in between refused the request, or this is another server",
    404: "there is no such list for this token",
    410: "it is no longer kept",
    429: "too many requests of this subscriber are under way",
    502: "the proxy before the feed does not reach it: try again later",
    503: "the publisher is starting or repairing its state: try again later",
    504: "the proxy before the feed does not reach it: try again later",
}
_ZSTD_STEP: Final = 4096  # bytes decompressed at once: what one step can grow to stays small
_ZSTD_WINDOW: Final = 1 << 27  # bytes, as much as the zstd tool takes without being asked


@contextmanager
def _in_time(connection: HTTPConnection) -> Iterator[None]:
    """An answer has to begin, headers and all, within the connection's timeout, however busily it drips."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):  # not TLS's own shutdown, which takes the socket's state away under its reader
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    timer = threading.Timer(connection.timeout or CLIENT_TIMEOUT, cut)
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
        with _in_time(self):
            return super().getresponse()


class _HTTPS(HTTPSConnection):
    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        with _in_time(self):
            return super().getresponse()


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPS


class Feed:
    """One list of a feed; raises SyncError where nothing can be had, with what to do, and once `stop` is set."""

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
        self.received = 0  # bytes of bodies, as they came over the network
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
        self._pool.clear()

    def open(self, path: str, headers: dict[str, str] | None = None, wait: float = 0) -> urllib3.BaseHTTPResponse:
        """An answer whose body is still to be read; `wait` is how many seconds the server may think about it."""
        sent = {**self._pool.headers, **(headers or {})}
        timeout = urllib3.Timeout(connect=10.0, read=CLIENT_TIMEOUT + wait)
        try:
            return self._pool.request(
                "GET", f"{self.base}{path}", headers=sent, preload_content=False, redirect=False, timeout=timeout
            )
        except urllib3.exceptions.HTTPError as error:
            raise SyncError(f"{self.base}: {_reason(error)}") from None

    def pieces(self, response: urllib3.BaseHTTPResponse, within: float | None = None) -> Iterator[bytes]:
        """The body as it came, undecoded; in so many seconds at most, CLIENT_BODY if it is not said."""
        within = CLIENT_BODY if within is None else within
        end = time.monotonic() + within
        try:
            # read() waits until a chunk is full, however slowly it fills: no look at the clock in between
            while piece := response.read1(CHUNK, decode_content=False):
                if self._stop.is_set():
                    raise SyncError(f"{self.base}: stopped while the answer arrived")
                if time.monotonic() > end:
                    raise SyncError(f"{self.base}: the answer did not end within {within:g} s")
                self.received += len(piece)
                yield piece
        except urllib3.exceptions.HTTPError as error:
            raise SyncError(f"{self.base}: the answer was cut short ({_reason(error)})") from None
        finally:
            response.close()  # what was read whole went back to the pool already; the rest must not

    def refusal(self, status: int) -> SyncError:
        """What a status other than the one that was wanted means."""
        hint = HINTS.get(status, "try again later")
        if status == 401 and "Authorization" not in self._pool.headers:
            hint = "no token was sent: name the file that holds it with --token-file"
        return SyncError(f"{self.base}: the feed answered {status}: {hint}")


def _check_address(url: str) -> None:
    """Raises SyncError for what is no feed's address; a token goes over https, and over http to this machine only."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not url.startswith(("https://", "http://")) or (url.startswith("http://") and not local):
        raise SyncError(f"{url}: expected the https: address of a feed (http: to this machine only)")


def _check_authority(ca: Path) -> None:
    try:
        ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        reason = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise SyncError(f"--ca {ca}: {reason}: expected the publisher's authority, in PEM") from None


def discard(response: urllib3.BaseHTTPResponse) -> None:
    """An answer that says all in its status. Its connection serves again if the rest of it is short and here."""
    try:
        response.read1(CHUNK, decode_content=False)
    except urllib3.exceptions.HTTPError:
        pass  # nothing of it was wanted
    finally:
        response.close()


def decoded(pieces: Iterator[bytes], coding: str | None) -> Iterator[bytes]:
    """Raises ValueError for a coding that was not asked for, or data that is none."""
    if coding in (None, "", "identity"):
        yield from pieces
        return
    if coding != "zstd":
        raise ValueError("a content coding that was not asked for")
    frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
    try:
        for piece in pieces:
            for start in range(0, len(piece), _ZSTD_STEP):
                yield frame.decompress(piece[start : start + _ZSTD_STEP])
    except zstandard.ZstdError:
        raise ValueError("not zstd data") from None
    if not frame.eof:
        raise ValueError("zstd data that is cut short")
    if frame.unused_data:
        raise ValueError("more than one frame of zstd data")


def bounded(pieces: Iterator[bytes], bound: int) -> Iterator[bytes]:
    """Raises ValueError for more than `bound` bytes."""
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > bound:
            raise ValueError(f"more than {bound} bytes")
        yield piece


class TufFetcher(FetcherInterface):
    """python-tuf's port. It guards the making of the iterator, not its use: errors are made DownloadErrors here."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def _fetch(self, url: str) -> Iterator[bytes]:
        response = self._feed.open(url.removeprefix(self._feed.base))
        if response.status != 200:
            discard(response)
            raise DownloadHTTPError(str(self._feed.refusal(response.status)), response.status)
        return self._read(response)

    def _read(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        try:
            yield from self._feed.pieces(response, CLIENT_METADATA)
        except SyncError as error:
            raise DownloadError(str(error)) from error


def _reason(error: BaseException) -> str:
    """The likely cause of one of urllib3's nested errors, and what to check, for a person."""
    cause = getattr(error, "reason", None) or error
    match cause:
        case urllib3.exceptions.NameResolutionError():
            return "its name is not found: is it written right, and does this host's DNS work (`getent hosts NAME`)?"
        case urllib3.exceptions.NewConnectionError():
            return _unreached(cause.__cause__)
        case urllib3.exceptions.SSLError():
            return _unproven(cause)
        case urllib3.exceptions.ConnectTimeoutError():
            return "no connection in time: is the address right, and does a firewall allow connections to that port?"
        case urllib3.exceptions.TimeoutError():
            return "no answer in time"
        case urllib3.exceptions.LocationValueError():
            return "this is no address of a feed"
        case urllib3.exceptions.ProtocolError() | urllib3.exceptions.InvalidHeader():
            return "it closed the connection, or speaks no HTTP: is it the feed's port, and https: or http: as it is?"
        case _:
            return type(cause).__name__


def _unreached(cause: BaseException | None) -> str:
    if isinstance(cause, ConnectionRefusedError):
        return "it refuses connections: the host answers, but nothing listens on that port: is the port right?"
    if isinstance(cause, OSError) and cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return "there is no route to it from this host: check this host's network (`ip route`)"
    return "it can't be reached: is the address right, and is the publisher running?"


def _unproven(error: BaseException) -> str:
    """Why the feed's certificate is refused. OpenSSL's codes: x509_vfy.h."""
    refused = error.args[0] if error.args and isinstance(error.args[0], ssl.SSLError) else error.__cause__
    if not isinstance(refused, ssl.SSLCertVerificationError):
        return f"no TLS connection can be made ({refused or error}): is it the feed's port, and does it use https:?"
    match refused.verify_code:
        case 9:
            return f"its certificate is not valid yet, by the clock of this host: {clock()}. Is that right?"
        case 10:
            return (
                f"its certificate has expired, by the clock of this host: {clock()}. If that is right, ask the "
                f"publisher to renew it"
            )
        case 62 | 64:
            return "its certificate is for another name: use the address that the publisher gave you"
        case _:
            return (
                f"its certificate can't be verified ({refused.verify_message}): where the publisher has an authority "
                f"of its own, --ca FILE names it"
            )


def clock() -> str:
    """The time of this host, for a message to a person who can see whether it is wrong."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
