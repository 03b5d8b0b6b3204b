"""A simulated server of NCMEC's hash sharing, version 2: `/hashsharing/v2/entries` with `from` and `to`.

Items are in no order of time, deleted items are among them, a page has `page_size` items and links the next one. A link
is valid until the server has answered `link_uses` of them (None: for ever); after that it answers 410.
"""

from __future__ import annotations

import base64
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape

from aiohttp import web

BASE: Final = "/hashsharing"
USER: Final = "blocklistd"
PASSWORD: Final = "0000-reserved"


@dataclass(frozen=True, slots=True)
class SharedItem:
    """An item. `fingerprints`: the texts by their names, None if the item was deleted. `changed`: in Unix seconds."""

    member: int
    id: str
    changed: int
    fingerprints: Mapping[str, str] | None
    kind: str = "image"
    votes: str = ""

    def xml(self) -> str:
        head = (
            f'<member id="{self.member}">Member {self.member}</member><timestamp>{time_text(self.changed)}</timestamp>'
        )
        if self.fingerprints is None:
            name = f"deleted{self.kind.capitalize()}"
            return f"<{name}>{head}<id>{escape(self.id)}</id></{name}>"
        texts = "".join(f"<{name}>{text}</{name}>" for name, text in self.fingerprints.items())
        return (
            f"<{self.kind}>{head}<id>{escape(self.id)}</id><classification>A1</classification>"
            f"<fingerprints>{texts}</fingerprints>{self.votes}</{self.kind}>"
        )


@dataclass
class HashServer:
    """The server. `items`: the last state of each item, by member and id. `queries`: those that were answered with a
    page. `next`: replaces each link, if it is set; `page`: replaces each page after the first one; `once`: only one."""

    items: dict[tuple[int, str], SharedItem] = field(default_factory=dict)
    page_size: int = 3
    link_uses: int | None = None
    next: str | None = None
    page: bytes | None = None
    once: bytes | None = None
    url: str = ""
    queries: list[Mapping[str, str]] = field(default_factory=list)
    refused: int = 0
    tls: ssl.SSLContext | None = None

    def put(self, *items: SharedItem) -> None:
        """Set the state of items."""
        self.items |= {(one.member, one.id): one for one in items}

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[HashServer]:
        server = web.Application()
        server.router.add_get(f"{BASE}/v2/entries", self._answer)
        runner = web.AppRunner(server, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}{BASE}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {pair}":
            return web.Response(status=401)
        asked = request.query
        start = int(asked.get("start", "0"))
        if start:
            if self.link_uses == 0:
                self.refused += 1
                self.link_uses = None
                return web.Response(status=410, text="the link is no longer valid")
            if self.link_uses is not None:
                self.link_uses -= 1
        self.queries.append(dict(asked))
        if start and self.once is not None:
            page, self.once = self.once, None
            return web.Response(body=page, content_type="application/xml")
        if start and self.page is not None:
            return web.Response(body=self.page, content_type="application/xml")
        since, until = (seconds(asked[name]) for name in ("from", "to"))
        found = sorted(one for one in self.items if since <= self.items[one].changed <= until)
        random.Random(f"{since}-{until}").shuffle(found)
        some = [self.items[one] for one in found[start : start + self.page_size]]
        more = start + self.page_size < len(found)
        link = f"/v2/entries?from={asked['from']}&to={asked['to']}&start={start + self.page_size}"
        link = self.next or f"{link}&size={self.page_size}&max={len(found)}" if more else ""
        return web.Response(body=document(some, link), content_type="application/xml")


def document(items: list[SharedItem], link: str) -> bytes:
    """A page."""
    containers = ""
    for kind in ("image", "video"):
        of_kind = [one for one in items if one.kind == kind]
        if of_kind:
            newest = time_text(max(one.changed for one in of_kind))
            texts = "".join(one.xml() for one in of_kind)
            containers += f'<{kind}s count="{len(of_kind)}" maxTimestamp="{newest}">{texts}</{kind}s>'
    paging = f"<paging><next>{escape(link)}</next></paging>" if link else ""
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
        f'<queryResult xmlns="https://hashsharing.example/v2">{containers}{paging}</queryResult>'
    ).encode()


def time_text(time: int) -> str:
    """A time as the protocol writes it."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str) -> int:
    """The time in Unix seconds."""
    return int(datetime.fromisoformat(text).timestamp())
