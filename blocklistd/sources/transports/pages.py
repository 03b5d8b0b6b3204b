"""Follows the links of XML pages, of which a list consists (formats/pages.py), from the first page to the last one.

A pull asks for all items of a window: `from` and `to` in the query of the first page. Items are in no order of time, so
only a complete window counts.

- The first pull begins at 1970. Its position is `to`, which is stored when the list has taken all pages. The next
  window begins PAGES_OVERLAP before the position; items that come twice change nothing. Without items in the window,
  the position stays.
- A link to a further page is valid for some hours only. If such a page does not arrive, the walk begins again with the
  first page of the same window, at most MAX_WALKS times. What arrived before stays in the body: the same items come
  again after it.
- Pages are hostile, and are parsed here for their links. So this runs in a process of its own, which resolves all names
  before it enters the sandbox.
- A link leads to the origin of the URL, or to a host in `redirects`, which gets no credentials. A path of a link that
  is the end of the URL's path means the same resource: NCMEC writes `/v2/entries` for `/hashsharing/v2/entries`.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

from yarl import URL

from blocklistd.errors import FetchError, ParseError
from blocklistd.limits import MAX_PAGE, MAX_PAGES, MAX_WALKS, PAGES_DELAY, PAGES_OVERLAP
from blocklistd.model import NotModified, Validators
from blocklistd.sources.formats.pages import PageReader
from blocklistd.sources.formats.xml_pages import END
from blocklistd.sources.transports.http import HttpRequests, content_coding, expect_ok, is_framed, open_session
from blocklistd.sources.transports.own_network import KnownHosts, with_tls
from blocklistd.sources.transports.sink import Sink
from blocklistd.sources.transports.transport import Arrived, Download, redacted_url

_LINK: Final = re.compile(r"[\x21-\x7e]{1,4096}")


def now() -> int:
    """The time in Unix seconds."""
    return int(time.time())


class _LinkFails(Exception):
    """A page that is not the first one of its walk does not arrive."""


class PageDownload(Download):
    """Fetches all pages of a window, each with END after it."""

    async def __aenter__(self) -> PageDownload:
        self._url = URL(self.request.url)
        self._where = redacted_url(self.request.url)
        hosts, request = KnownHosts(), with_tls(self.request, self.request.url)
        try:
            await hosts.learn(request.url, request.redirects)
        except OSError:
            raise FetchError(
                f"{self._where}: its name does not resolve: check `url`, and the resolver of this machine"
            ) from None
        self._session = await open_session(hosts).__aenter__()
        self._requests = HttpRequests(self._session, request)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def body(self, sink: Sink) -> Arrived | NotModified:
        position = self.request.validators.position
        known = int(position) if position is not None and re.fullmatch("[0-9]{1,11}", position) else None
        start, end = max(0, (known or 0) - PAGES_OVERLAP), now() - PAGES_DELAY
        first = self._url.update_query({"from": _time_text(start), "to": _time_text(end)})
        for _ in range(MAX_WALKS):
            try:
                items = await self._walk(first, sink)
            except _LinkFails:
                continue
            if known is not None and not items:
                return NotModified()
            return Arrived(
                self.request.url,
                validators=Validators(position=str(end)),
                continues=known is not None,
                peer=self._requests.peer,
            )
        raise FetchError(
            f"{self._where}: a further page did not arrive, {MAX_WALKS} times: expected all pages;"
            " the next pull tries again"
        )

    async def _walk(self, first: URL, sink: Sink) -> int:
        """Write all pages of a window. Returns the number of their items. Raises _LinkFails."""
        url, seen, items = first, set[URL](), 0
        while True:
            if url in seen:
                raise FetchError(
                    f"{self._where}: links of pages lead in a circle: expected a last page; ask the hotline"
                )
            if len(seen) == MAX_PAGES:
                raise FetchError(f"{self._where}: more than {MAX_PAGES} pages: expected fewer; ask the hotline")
            seen.add(url)
            try:
                page, reader = await self._page(url)
            except (FetchError, ParseError) as error:
                if len(seen) > 1:
                    raise _LinkFails from None
                raise FetchError(str(error)) from None
            await sink.write(page + END)
            items += reader.items
            if not reader.next:
                return items
            url = self._target(reader.next)

    async def _page(self, url: URL) -> tuple[bytes, PageReader]:
        """A page. Raises FetchError, ParseError."""
        reader, page = PageReader(), bytearray()
        async with self._requests.answer(str(url), {"Accept-Encoding": "identity"}, self._where) as (
            response,
            where,
            _,
        ):
            expect_ok(response, where, "url")
            if content_coding(response) != "identity":
                raise FetchError(f"{where}: a content coding that was not requested: expected none")
            if not is_framed(response):
                raise FetchError(
                    f"{where}: no length and not chunked: expected Content-Length or chunks; ask the hotline"
                )
            async for data in response.content.iter_any():
                page += data
                if len(page) > MAX_PAGE:
                    raise FetchError(f"{where}: a page of more than {MAX_PAGE} bytes: expected smaller ones")
                if END in data:
                    raise FetchError(f"{where}: a page that contains zeros: expected UTF-8; ask the hotline")
                reader.feed(data)
                reader.take()
        reader.close()
        return bytes(page), reader

    def _target(self, text: str) -> URL:
        """The URL of a link. Raises FetchError if it must not be followed."""
        try:
            link = URL(text) if _LINK.fullmatch(text) else None
            is_own = link is not None and not link.absolute and link.raw_path and self._is_end_of_path(link.raw_path)
            target = self._url.with_query(link.query) if link and is_own else self._url.join(link) if link else None
        except ValueError:
            target = None
        if target is None:
            raise FetchError(f"{self._where}: a link to a text that is no URL: expected a URL; ask the hotline")
        is_known = target.origin() == self._url.origin() if target.absolute and target.host else False
        if not is_known and not (target.scheme == self._url.scheme and target.raw_host in self.request.redirects):
            raise FetchError(
                f"{self._where}: a link to another origin: expected that of `url`, or a host that `redirects` names"
            )
        return target.with_fragment(None)

    def _is_end_of_path(self, path: str) -> bool:
        return path.startswith("/") and self._url.raw_path.endswith(path)


def _time_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
