"""The HTTPS feed: from a request to its answer. docs/feed.md is what a client may rely on."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import web

from blocklistd.errors import DamagedError, JobError, StoreError
from blocklistd.events import Event
from blocklistd.limits import MAX_WAIT
from blocklistd.model import Sha256, Version
from blocklistd.serve.http import bodies
from blocklistd.serve.http.access import Access, entitled
from blocklistd.serve.http.catalogue import Catalogue, Document, ListView
from blocklistd.serve.http.listener import while_connected
from blocklistd.serve.http.problems import Problem
from blocklistd.store.diffs import Reach, reach
from blocklistd.store.render import OpenedFile
from blocklistd.store.subscribers import Subscriber
from blocklistd.telemetry import ActiveAlarms

log: Final = logging.getLogger(__name__)
RETRY_AFTER: Final = 5  # seconds until a client asks again for a file that is being made again
_DIFF: Final = re.compile(r"(0|[1-9][0-9]{0,17})-(0|[1-9][0-9]{0,17})")
_TARGET: Final = re.compile(r"([0-9a-f]{64})\.(.+)\.ndjson")
_ROLE: Final = re.compile(r"([0-9]{1,18})\.((?:snapshot|targets)\.json)")


class Renderings(Protocol):
    """The files that the feed sends: verified, opened, and made first where they are not there yet.

    Raises DamagedError where a sealed file is missing or damaged.
    """

    async def open_snapshot(self, digest: Sha256, coding: str, *, wait: bool = False) -> OpenedFile: ...

    async def open_diff(self, view: ListView, start: Version, end: Version, coding: str) -> OpenedFile: ...


class Feed:
    """The handler of one request; holds no state of its own."""

    def __init__(
        self, catalogue: Catalogue, access: Access, renderings: Renderings, alarms: ActiveAlarms | None = None
    ) -> None:
        self._catalogue = catalogue
        self._access = access
        self._renderings = renderings
        self._alarms = alarms or ActiveAlarms()
        self._parts: dict[str, Callable[[web.BaseRequest, ListView, str], Awaitable[web.StreamResponse]]] = {
            "metadata": self._metadata,
            "targets": self._target,
            "diffs": self._diff,
        }

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Raises Problem for what is refused."""
        return await self._route(request, self._access.enter(request))

    async def _route(self, request: web.BaseRequest, subscriber: Subscriber) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET or HEAD", {"Allow": "GET, HEAD"})
        match request.path.split("/")[1:]:
            case ["v1", "lists", name]:
                return await self._status(request, subscriber, name)
            case ["v1", "lists", name, part, item] if part in self._parts:
                return await self._parts[part](request, entitled(self._catalogue, subscriber, name), item)
            case ["v1", "lists"]:
                return self._lists(request, subscriber)
            case _:
                raise Problem(HTTPStatus.NOT_FOUND, "no such path")

    def _lists(self, request: web.BaseRequest, subscriber: Subscriber) -> web.StreamResponse:
        views = [view for name in sorted(subscriber.lists) if (view := self._catalogue.get(name))]
        body = b'{"lists":[' + b",".join(view.status.body for view in views) + b"]}"
        return bodies.document(request, Document.of(body), bodies.REVALIDATE)

    async def _status(self, request: web.BaseRequest, subscriber: Subscriber, name: str) -> web.StreamResponse:
        view = entitled(self._catalogue, subscriber, name)
        if request.rel_url.query_string:
            seconds = _wait(request.rel_url.query.get("wait"))
            if seconds and bodies.matches(request, view.status.etag):
                await while_connected(request, self._catalogue.changed(view, seconds))
                # asked again as at first: meanwhile the token may have been revoked, the list taken away
                subscriber = self._access.enter(request)
                now = entitled(self._catalogue, subscriber, name)
                if (now.session, now.version) != (view.session, view.version):
                    view = now
                # else 304: what the client named was right when it asked, though it may have been signed again since
        return bodies.document(request, view.status, bodies.REVALIDATE)

    async def _metadata(self, request: web.BaseRequest, view: ListView, name: str) -> web.StreamResponse:
        found = view.metadata.get(name)
        if found is None:
            if (asked := _ROLE.fullmatch(name)) is not None:
                ours = max(int(known.partition(".")[0]) for known in view.metadata if known.endswith(f".{asked[2]}"))
                self._look_ahead(request, view, f"{asked[2]} of version", int(asked[1]), ours)
            raise Problem(HTTPStatus.NOT_FOUND, "no such metadata of this list")
        return bodies.document(request, found, bodies.REVALIDATE if name == "timestamp.json" else bodies.IMMUTABLE)

    async def _target(self, request: web.BaseRequest, view: ListView, name: str) -> web.StreamResponse:
        asked = _TARGET.fullmatch(name)
        if asked is None or asked[2] != view.id or asked[1] not in view.targets:
            raise Problem(HTTPStatus.NOT_FOUND, "no such target of this list, or one that is no longer kept")
        digest = Sha256(asked[1])

        async def open_file(coding: str, wait: bool) -> OpenedFile:
            return await self._renderings.open_snapshot(digest, coding, wait=wait)

        return await _file(request, digest, open_file)

    async def _diff(self, request: web.BaseRequest, view: ListView, name: str) -> web.StreamResponse:
        asked = _DIFF.fullmatch(name)
        if asked is None:
            raise Problem(HTTPStatus.NOT_FOUND, "expected FROM-TO, two versions of this list")
        start, end = Version(int(asked[1])), Version(int(asked[2]))
        match reach(view.version, view.oldest_diff, start, end):
            case Reach.NEVER:
                self._look_ahead(request, view, "version", max(start, end), view.version)
                raise Problem(HTTPStatus.NOT_FOUND, "the list never had one of these versions")
            case Reach.TOO_OLD:
                raise Problem(HTTPStatus.GONE, f"diffs start at version {view.oldest_diff}: take the snapshot")

        async def open_file(coding: str, wait: bool) -> OpenedFile:
            try:
                return await self._renderings.open_diff(view, start, end, coding)
            except DamagedError:
                raise
            except (StoreError, JobError) as error:  # a full disk, or one that can't be written
                Event.DIFF_NOT_MADE.log(log, list=view.id, start=start, end=end, reason=error)
                detail = "this diff can't be made at present: take the snapshot"
                raise Problem(HTTPStatus.GONE, detail, {"Cache-Control": "no-store"}) from error

        return await _file(request, f"{view.session}-{start}-{end}", open_file)

    def _look_ahead(self, request: web.BaseRequest, view: ListView, what: str, number: int, ours: int) -> None:
        """Raises an alarm where a subscriber asks for a number above ours: it must have been given it before."""
        if number > ours:
            who = self._access.subscriber(request.headers.get("Authorization")).id
            knows = f"subscriber {who} asks for {what} {number} of list {view.id}"
            self._alarms.raise_client_ahead(f"list {view.id}", knows, ours)


async def _file(request: web.BaseRequest, name: str, open_file: bodies.Open) -> web.StreamResponse:
    """`bodies.file`; nothing is sent of what was made from a damaged file."""
    try:
        return await bodies.file(request, name, open_file)
    except DamagedError as error:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the file is damaged and is being made again: ask again in a few seconds",
            {"Retry-After": str(RETRY_AFTER)},
        ) from error


def _wait(text: str | None) -> int:
    """Seconds to wait for a change; 0 where none was asked for."""
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 2 or not 1 <= int(text) <= MAX_WAIT:
        raise Problem(HTTPStatus.BAD_REQUEST, f"wait: expected 1 to {MAX_WAIT} seconds")
    return int(text)
