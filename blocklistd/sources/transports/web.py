"""One answer over https, or http to loopback: which redirects are followed, and where credentials go.

A hotline's own words (reason phrases, header values, the targets of its redirects) get into no error.
"""

from __future__ import annotations

import errno
import os
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Final

import aiohttp
from yarl import URL

from blocklistd.errors import FetchError
from blocklistd.limits import MAX_REDIRECTS

REDIRECTS: Final = (301, 302, 303, 307, 308)
EXPECTED: Final = "expected https:, file:, or http: to loopback"


def shown(url: str) -> str:
    """A URL as errors name it: without user, query and fragment, where secrets are."""
    return re.sub(r"(?<=//)[^/]*@", "", re.split(r"[?#]", url, maxsplit=1)[0])


class Web:
    """Makes requests with one session. `headers` and `trust` are for the origin of `home` alone.

    `trust` None: the system's authorities, everywhere. Else other https origins are refused without `trust_elsewhere`.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        home: str,
        headers: Mapping[str, str],
        trust: ssl.SSLContext | None,
        trust_elsewhere: ssl.SSLContext | None,
    ) -> None:
        self._session = session
        self._home = None if home.startswith("file:") else _parse(home).origin()
        self._headers = headers
        self._trust = trust
        self._trust_elsewhere = trust_elsewhere

    @asynccontextmanager
    async def answer(
        self, start: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, str, bool]]:
        """The answer after at most MAX_REDIRECTS redirects, how errors name it, and whether there were any.

        Raises FetchError, also for what goes wrong with the connection while the answer is read.
        """
        url, where = _parse(start), shown(start)
        seen = [url]
        sent = dict(headers)
        try:
            while True:
                async with self._get(url, sent, where) as response:
                    if response.status not in REDIRECTS:
                        yield response, where, len(seen) > 1
                        return
                    url = _redirected(url, response.headers.get("Location"), seen, where)
                seen.append(url)
                where = f"{shown(start)} (redirected)"
                sent.pop("If-Modified-Since", None)  # the date of another file says nothing about this one
        except (aiohttp.ClientError, OSError) as error:
            raise FetchError(f"{where}: {_reason(error)}") from None

    @asynccontextmanager
    async def _get(self, url: URL, headers: Mapping[str, str], where: str) -> AsyncIterator[aiohttp.ClientResponse]:
        own, trust = self._headers, self._trust
        if url.origin() != self._home:
            own, trust = {}, self._trust_elsewhere
            if url.scheme == "https" and self._trust is not None and trust is None:
                raise FetchError(f"{where}: another origin, which the `ca` of this source says nothing about: refused")
        async with self._session.get(
            url, headers={**own, **headers}, allow_redirects=False, ssl=True if trust is None else trust
        ) as response:
            yield response


def _parse(text: str) -> URL:
    try:
        url = URL(text).with_fragment(None)
    except ValueError:
        raise FetchError(f"{shown(text)}: not a URL: {EXPECTED}") from None
    return _allowed(url, shown(text))


def _allowed(url: URL, where: str) -> URL:
    if url.scheme not in ("https", "http") or not url.host:
        raise FetchError(f"{where}: not a URL that can be fetched: {EXPECTED}")
    if url.scheme == "http" and not _is_loopback(url.host):
        raise FetchError(f"{where}: http: to another machine: {EXPECTED}")
    if url.user is not None or url.password is not None:
        raise FetchError(f"{where}: a user or password in the URL: expected them in `auth`")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _redirected(url: URL, location: str | None, seen: list[URL], where: str) -> URL:
    """The next stop (RFC 9110 section 15.4), where it may be gone to."""
    if not location:
        raise FetchError(f"{where}: redirects without saying where: expected a Location, or the list")
    try:
        target = url.join(URL(location)).with_fragment(None)
    except ValueError:
        raise FetchError(f"{where}: redirects to what is no URL: {EXPECTED}") from None
    if url.scheme == "https" and target.scheme != "https":
        raise FetchError(f"{where}: redirects from https to something else: expected https:, check `url`")
    if target in seen:
        raise FetchError(f"{where}: redirects in a circle: expected the list, check `url`")
    if len(seen) > MAX_REDIRECTS:
        raise FetchError(f"{where}: redirects more than {MAX_REDIRECTS} times: expected the list, check `url`")
    return _allowed(target, f"{where}, its redirect")


def _reason(error: Exception) -> str:
    """What went wrong, in words that hold neither a library's internals nor the other side's bytes."""
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
        return f"{os.strerror(cause.errno)}: expected an answer, check `url` and the way there"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer: expected HTTP, check `url`"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the body was cut short: expected as much as was announced"
    if isinstance(error, aiohttp.ClientResponseError):
        return "not an HTTP answer: expected HTTP/1.1 with headers of at most 8 KiB, check `url`"
    return "the connection broke: expected a whole answer"
