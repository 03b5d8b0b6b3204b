"""The subscriber's HTTP client: one connection pool for TUF metadata and all other requests, bounded in time.

Order of calls: `FeedClient.open`, then `chunks` until its end, or `discard`; `close` at the end. Callers bound the
bytes of a body with `coding.bounded`; for metadata python-tuf does so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import orjson
import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from blocklistd import __version__
from blocklistd.client.connections import FeedAccess, connection_pool
from blocklistd.client.failures import STATUS_HINTS, RefusedRequest, cause_and_remedy, certificate_remedy
from blocklistd.errors import SyncError
from blocklistd.limits import (
    CHUNK,
    CLIENT_BODY,
    CLIENT_CONNECT,
    CLIENT_METADATA,
    CLIENT_MIN_RATE,
    CLIENT_RECEIPT,
    CLIENT_RETRY_AFTER,
    CLIENT_TIMEOUT,
)


class FeedClient:
    """Requests for one list. Raises SyncError, whose text ends with what to do, if a request fails or `stop` is set.

    `url` is the feed's address without `/v1`. The token goes to https: addresses only, and to this host.
    """

    def __init__(self, url: str, list_name: str, access: FeedAccess, stop: threading.Event | None = None) -> None:
        self._headers = {"User-Agent": f"blocklistd-sync/{__version__}"}
        if access.token:
            self._headers["Authorization"] = f"Bearer {access.token}"
        self._pool = connection_pool(url, access, self._headers)
        self._certificate = access.cert
        self.base = f"{url.rstrip('/')}/v1/lists/{list_name}"
        self.received = 0  # bytes of all bodies, before decompression
        self._stop = stop or threading.Event()
        self._retry_after = 0.0
        self._last: urllib3.BaseHTTPResponse | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` is set: then no other feed is asked."""
        return self._stop.is_set()

    def close(self) -> None:
        """Closes all connections. python-tuf leaves an answer open if it has too many bytes."""
        if self._last is not None:
            self._last.close()
        self._pool.clear()

    def open(self, path: str, headers: dict[str, str] | None = None, wait: float = 0) -> urllib3.BaseHTTPResponse:
        """Sends a GET request, and returns the answer with its body unread. Redirects are not followed.

        `path` is relative to the list. `wait` is the seconds of a long poll, in addition to CLIENT_TIMEOUT.
        """
        timeout = urllib3.Timeout(connect=CLIENT_CONNECT, read=CLIENT_TIMEOUT + wait)
        try:
            response = self._pool.request(
                "GET",
                f"{self.base}{path}",
                headers={**self._headers, **(headers or {})},
                preload_content=False,
                redirect=False,
                timeout=timeout,
            )
        except urllib3.exceptions.HTTPError as error:
            raise SyncError(f"{self.base}: {cause_and_remedy(error)}") from None
        self._last = response
        self._retry_after = _seconds(response.headers.get("Retry-After"))
        return response

    def post(self, path: str, document: dict[str, object]) -> int:
        """Sends a document as JSON, and returns the status of the answer, whose body is not read."""
        try:
            response = self._pool.request(
                "POST",
                f"{self.base}{path}",
                body=orjson.dumps(document),
                headers={**self._headers, "Content-Type": "application/json"},
                preload_content=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=CLIENT_CONNECT, read=CLIENT_RECEIPT),
            )
        except urllib3.exceptions.HTTPError as error:
            raise SyncError(f"{self.base}: {cause_and_remedy(error)}") from None
        discard(response)
        return response.status

    def chunks(self, response: urllib3.BaseHTTPResponse, within: float | None = None) -> Iterator[bytes]:
        """The body in chunks, not decompressed, within so many seconds (default: CLIENT_BODY).

        After CLIENT_TIMEOUT seconds, it must have arrived with CLIENT_MIN_RATE bytes a second on average: else a server
        that sends single bytes would keep the client from asking another one.
        """
        within = CLIENT_BODY if within is None else within
        began = time.monotonic()
        size = 0
        try:
            # not read(): it returns when a chunk is full, however slowly it fills, so the end could pass unnoticed
            while chunk := response.read1(CHUNK, decode_content=False):
                if self._stop.is_set():
                    raise SyncError(f"{self.base}: stopped while the answer arrived: run it again")
                size += len(chunk)
                spent = time.monotonic() - began
                if spent > within:
                    raise SyncError(
                        f"{self.base}: the answer did not end within {within:g} s: check the network, or try later"
                    )
                if spent > CLIENT_TIMEOUT and size < spent * CLIENT_MIN_RATE:
                    raise SyncError(
                        f"{self.base}: the answer arrives with less than {CLIENT_MIN_RATE} bytes a second: check the "
                        f"network, or try later"
                    )
                self.received += len(chunk)
                yield chunk
        except urllib3.exceptions.HTTPError as error:
            raise SyncError(f"{self.base}: the answer was cut short ({cause_and_remedy(error)}): try again") from None
        finally:
            response.close()  # a connection whose answer was read completely is back in the pool already

    def status_error(self, status: int) -> RefusedRequest:
        """The error to raise for a status that is not the expected one."""
        next_step = STATUS_HINTS.get(status, "try again later")
        if status == 401 and "Authorization" not in self._headers:
            next_step = "no token was sent: name the file that holds it with --token-file"
            if self._certificate:
                next_step = certificate_remedy(self._certificate, datetime.now(UTC))
        return RefusedRequest(f"{self.base}: the feed answered {status}: {next_step}", status, self._retry_after)


def _seconds(retry_after: str | None) -> float:
    """The seconds of a Retry-After header, at most CLIENT_RETRY_AFTER; 0 for a date or none."""
    return (
        min(float(retry_after), CLIENT_RETRY_AFTER)
        if retry_after and retry_after.isascii() and retry_after.isdigit()
        else 0.0
    )


def discard(response: urllib3.BaseHTTPResponse) -> None:
    """Ends an answer whose body is not needed. A short body is read, so that its connection can be used again."""
    try:
        response.read1(CHUNK, decode_content=False)
    except urllib3.exceptions.HTTPError:
        pass  # the body is not needed
    finally:
        response.close()


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
