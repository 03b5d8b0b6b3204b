"""Downloads over https, and over http from loopback. Decides which redirects are followed, and who gets credentials.

A body is neither decoded, verified nor parsed here. No error message contains a hotline's text: reason phrases, header
values, targets of redirects.
"""

from __future__ import annotations

import errno
import os
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from yarl import URL

from blocklistd.errors import FetchError
from blocklistd.limits import CHUNK, MAX_INTERIM_RESPONSES, MAX_REDIRECTS, MAX_SIGNATURE_BYTES
from blocklistd.model import NotModified, TlsPeer, Validators
from blocklistd.sources.transports.peer import load, peer_of
from blocklistd.sources.transports.sink import Sink
from blocklistd.sources.transports.transport import (
    ETAG,
    LAST_MODIFIED,
    Arrived,
    Download,
    Request,
    redacted_url,
    scheme_of,
)
from blocklistd.sources.transports.web import is_loopback

if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage

CODINGS: Final = {"": "identity", "identity": "identity", "gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}
"""The codings that are accepted, by the value of Content-Encoding in lower case."""
NEXT_STEPS: Final = {401: "check `auth`", 403: "check `auth`", 404: "check `{}`", 410: "check `{}`"}
"""The next step for a status; `{}` is the configuration key of the URL."""
REDIRECTS: Final = (301, 302, 303, 307, 308)
EXPECTED: Final = "expected https:, or http: to loopback"


class _TooManyInterim(aiohttp.ClientError):
    """The server sent more than MAX_INTERIM_RESPONSES interim responses."""


class _BoundedResponse(aiohttp.ClientResponse):
    """A response after at most MAX_INTERIM_RESPONSES interim ones (RFC 9110 section 15.2). aiohttp itself reads any
    number of them without yielding to other tasks."""

    peer: TlsPeer | None = None
    """The server, None without TLS."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        self.peer = peer_of(connection.transport)  # now: aiohttp gives the connection back once the body has arrived
        protocol = connection.protocol
        assert protocol is not None
        read, left = protocol.read, MAX_INTERIM_RESPONSES + 1

        async def bounded() -> tuple[RawResponseMessage, aiohttp.StreamReader]:
            nonlocal left
            left -= 1
            if left < 0:
                raise _TooManyInterim
            return await read()

        protocol.read = bounded  # type: ignore[method-assign]
        try:
            return await super().start(connection)
        finally:
            del protocol.read


class HttpAnswer(NamedTuple):
    """The response to a request after redirects. `where`: the URL for error messages. `redirected`: whether there was
    any redirect."""

    response: aiohttp.ClientResponse
    where: str
    redirected: bool


class HttpDownload(Download):
    """Fetches body and signature with one session."""

    async def __aenter__(self) -> HttpDownload:
        self._session = await open_session().__aenter__()
        try:
            request = self.request
            self._requests = HttpRequests(self._session, request)
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def body(self, sink: Sink) -> Arrived | NotModified:
        request, known = self.request, self.request.validators
        headers = {"Accept-Encoding": "gzip, zstd"}
        if known.etag:
            headers["If-None-Match"] = known.etag
        if known.last_modified:
            headers["If-Modified-Since"] = known.last_modified
        async with self._requests.answer(request.url, headers) as (response, where, redirected):
            if response.status == 304:
                if known.etag or (known.last_modified and not redirected):
                    return NotModified()
                raise FetchError(
                    f"{where}: status 304, not modified, to an unconditional request: expected 200 and a body"
                )
            expect_ok(response, where, "url")
            encoding = content_coding(response)
            if encoding is None:
                raise FetchError(f"{where}: a content coding that was not requested: expected identity, gzip or zstd")
            # RFC 9112 section 6.3, rule 8: such a body ends with the connection; only a signature shows a truncation
            if not is_framed(response) and request.signature is None:
                raise FetchError(
                    f"{where}: no length and not chunked, so that a truncated body looks complete:"
                    " expected Content-Length or chunks; ask the hotline"
                )
            sink.expect(response.content_length or 0)
            async for data in response.content.iter_any():
                await sink.write(data)
            validators = _validators(response, redirected)
            return Arrived(request.url, encoding, validators, peer=self._requests.peer)

    async def signature(self, url: str) -> bytes:
        signature = b""
        async with self._requests.answer(url, {"Accept-Encoding": "identity"}) as (response, where, _):
            expect_ok(response, where, "signature")
            if content_coding(response) != "identity":
                raise FetchError(f"{where}: a signature with a content coding: expected none; ask the hotline")
            async for data in response.content.iter_chunked(MAX_SIGNATURE_BYTES):
                signature += data
                if len(signature) > MAX_SIGNATURE_BYTES:
                    break
        return signature


class HttpRequests:
    """Makes the HTTP requests of one pull, and follows their redirects.

    Credentials are only sent to the origin of `Request.url`. That origin is verified by `Request.ssl`, other https
    origins by `Request.redirect_ssl`. Without `ssl`, the system's authorities verify all origins. With `ssl` and
    without `redirect_ssl`, other https origins are refused. `peer`: the TLS server of the last response.
    """

    peer: TlsPeer | None = None

    def __init__(self, session: aiohttp.ClientSession, request: Request) -> None:
        if scheme_of(request.url) == "https":
            load()  # here, since a process of its own enters the sandbox before the first response
        self._session = session
        self._request = request
        self._home = parse_url(request.url).origin() if scheme_of(request.url) in ("https", "http") else None

    @asynccontextmanager
    async def answer(
        self, start: str, headers: Mapping[str, str], where: str | None = None
    ) -> AsyncIterator[HttpAnswer]:
        """A context with the response to a GET of `start`, after at most MAX_REDIRECTS redirects. `where`: the URL for
        error messages, if `start` is a text of the hotline.

        Raises FetchError, also for an error of the connection inside the context.
        """
        where = where or redacted_url(start)
        url, first = parse_url(start), where
        seen, hosts = [url], {_host(url), *self._request.redirects}
        sent = dict(headers)
        try:
            while True:
                async with self._get(url, sent, where) as response:
                    if response.status not in REDIRECTS:
                        self.peer = response.peer if isinstance(response, _BoundedResponse) else None
                        yield HttpAnswer(response, where, len(seen) > 1)
                        return
                    url = _redirected(url, response.headers.get("Location"), seen, where)
                    if _host(url) not in hosts:
                        raise FetchError(
                            f"{where}: redirects to another host: expected the same one, or one that `redirects` names"
                        )
                seen.append(url)
                where = f"{first} (redirected)"
                sent.pop("If-Modified-Since", None)  # the date belongs to another file
        except (aiohttp.ClientError, OSError) as error:
            raise FetchError(f"{where}: {reason_of(error)}") from None

    @asynccontextmanager
    async def _get(self, url: URL, headers: Mapping[str, str], where: str) -> AsyncIterator[aiohttp.ClientResponse]:
        own, trust = self._request.headers, self._request.ssl
        if url.origin() != self._home:
            own, trust = {}, self._request.redirect_ssl
            if url.scheme == "https" and self._request.ssl is not None and trust is None:
                raise FetchError(
                    f"{where}: another origin, for which the `ca` of this source does not count: expected that of `url`"
                )
        async with self._session.get(
            url, headers={**own, **headers}, allow_redirects=False, ssl=True if trust is None else trust
        ) as response:
            yield response


def parse_url(text: str) -> URL:
    """The URL. Raises FetchError if it must not be fetched."""
    try:
        url = URL(text).with_fragment(None)
    except ValueError:
        raise FetchError(f"{redacted_url(text)}: not a URL: {EXPECTED}") from None
    return _allowed(url, redacted_url(text))


def _allowed(url: URL, where: str) -> URL:
    """The URL itself. Raises FetchError if it must not be fetched."""
    if url.scheme not in ("https", "http") or not url.host:
        raise FetchError(f"{where}: not a URL that can be fetched: {EXPECTED}")
    if url.scheme == "http" and not is_loopback(url.host):
        raise FetchError(f"{where}: http: to another machine: {EXPECTED}")
    if url.user is not None or url.password is not None:
        raise FetchError(f"{where}: a user or password in the URL: expected them in `auth`")
    return url


def _redirected(url: URL, location: str | None, seen: list[URL], where: str) -> URL:
    """The target of a redirect from `url` (RFC 9110 section 15.4). Raises FetchError if it must not be followed.

    `seen`: the URLs that were requested before.
    """
    if not location:
        raise FetchError(f"{where}: redirects without a Location: expected the list, check `url`")
    try:
        target = url.join(URL(location)).with_fragment(None)
    except ValueError:
        raise FetchError(f"{where}: redirects to a text that is no URL: {EXPECTED}") from None
    if target in seen:
        raise FetchError(f"{where}: redirects in a circle: expected the list, check `url`")
    if len(seen) > MAX_REDIRECTS:
        raise FetchError(f"{where}: redirects more than {MAX_REDIRECTS} times: expected the list, check `url`")
    _allowed(target, f"{where}, its redirect")
    if target.scheme != url.scheme:
        raise FetchError(f"{where}: redirects from {url.scheme} to another scheme: expected {url.scheme}:, check `url`")
    return target


def _host(url: URL) -> str:
    return (url.raw_host or "").removesuffix(".")


def reason_of(error: Exception) -> str:
    """A description of the error that contains no internals of a library and no bytes of the server."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name does not resolve: check `url`, and the resolver of this machine"
    cause: Exception = error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
    elif isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        found = cause.verify_message.partition(",")[0]
        return (
            f"its certificate is not trusted: {found}: expected one for this host by `ca` or the system's authorities"
        )
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {(cause.reason or 'no reason given').replace('_', ' ').lower()}: expected TLS 1.2 or newer"
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno in errno.errorcode:
        return f"{os.strerror(cause.errno)}: expected a response, check `url` and the network"
    if isinstance(error, _TooManyInterim):
        return f"more than {MAX_INTERIM_RESPONSES} interim responses (1xx): expected a final response, check `url`"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer: expected HTTP, check `url`"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the body was cut short: expected as many bytes as announced; the next pull tries again"
    if isinstance(error, aiohttp.ClientResponseError):
        return "not an HTTP answer: expected HTTP/1.1 with headers of at most 8 KiB, check `url`"
    return "the connection broke: expected a complete answer; the next pull tries again"


def open_session(resolver: aiohttp.ThreadedResolver | None = None) -> aiohttp.ClientSession:
    """A session that decodes no content coding, and has no cookies, no proxies or passwords from the environment, and
    no timeouts: `fetch` has the only one. `resolver` looks hosts up; None for the system's.

    Each request has its own connection: bytes that a hotline sends on an idle one would be read without bound.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, resolver=resolver),
        response_class=_BoundedResponse,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "blocklistd"},
        read_bufsize=CHUNK,
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
        trust_env=False,
    )


def expect_ok(response: aiohttp.ClientResponse, where: str, key: str, expected: tuple[int, ...] = (200,)) -> None:
    """Raises FetchError for a status that is not expected, and for an unknown transfer coding. `key`: the configuration
    key with the URL of this response."""
    if response.status not in expected:
        next_step = NEXT_STEPS.get(response.status, "the next pull tries again").format(key)
        raise FetchError(f"{where}: status {response.status}: expected 200, {next_step}")
    expect_transfer_coding(response, where)


def expect_transfer_coding(response: aiohttp.ClientResponse, where: str) -> None:
    """Raises FetchError for a transfer coding that was not requested."""
    if _transfer_codings(response) not in ([], ["identity"], ["chunked"]):
        raise FetchError(f"{where}: a transfer coding that was not requested: expected none, or chunked")


def _transfer_codings(response: aiohttp.ClientResponse) -> list[str]:
    """The transfer codings in the order in which they were applied (RFC 9112 section 6.1)."""
    value = ",".join(response.headers.getall("Transfer-Encoding", []))
    return [coding.strip(" \t").lower() for coding in value.split(",")] if value else []


def is_framed(response: aiohttp.ClientResponse) -> bool:
    """Whether a truncated body is recognised. HTTP/1.0 has no chunks (RFC 9112 section 6.1)."""
    codings = _transfer_codings(response)
    if not codings:
        return "Content-Length" in response.headers
    return codings == ["chunked"] and response.version is not None and response.version >= aiohttp.HttpVersion11


def content_coding(response: aiohttp.ClientResponse) -> str | None:
    """The content coding, one of ENCODINGS; None for a coding that was not requested, or several codings."""
    return CODINGS.get(",".join(response.headers.getall("Content-Encoding", [])).strip().lower())


def _validators(response: aiohttp.ClientResponse, redirected: bool) -> Validators:
    """The validators of the response; those with unexpected characters are dropped, since they are sent back.

    After a redirect there is no date: the next redirect may lead to another file, which can be new to us and have an
    older date.
    """

    def header(name: str, pattern: re.Pattern[str]) -> str | None:
        value = response.headers.get(name, "")
        return value if pattern.fullmatch(value) else None

    return Validators(header("ETag", ETAG), None if redirected else header("Last-Modified", LAST_MODIFIED))
