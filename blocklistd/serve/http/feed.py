"""Answers the requests of subscribers over HTTPS. docs/feed.md is the interface that a client may rely on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import web

from blocklistd.errors import DamagedError, JobError, StoreError
from blocklistd.events import Event
from blocklistd.limits import MAX_WAIT
from blocklistd.model import Sha256, Version
from blocklistd.serve.claims import Claims
from blocklistd.serve.http import bodies, schemas
from blocklistd.serve.http.access import Access, entitled
from blocklistd.serve.http.connection import while_connected
from blocklistd.serve.http.live_lists import Document, ListView, LiveLists
from blocklistd.serve.http.problems import Problem
from blocklistd.serve.http.repeats import may_repeat
from blocklistd.serve.http.routes import Answer, Cache, Route, RouteCall
from blocklistd.store.diffs import Reach, reach
from blocklistd.store.render import ServedFile

log: Final = logging.getLogger(__name__)
RETRY_AFTER: Final = 5  # seconds after which a client repeats a request for a file that is under repair
_METADATA: Final = {HTTPStatus.OK: Answer("signed metadata", bodies.JSON), **schemas.UNCHANGED}
_FILE: Final = {
    HTTPStatus.OK: Answer("the file", bodies.NDJSON),
    HTTPStatus.PARTIAL_CONTENT: Answer("a range of it", bodies.NDJSON),
    **schemas.UNCHANGED,
}
_NO_LIST: Final = {HTTPStatus.NOT_FOUND: "no such list for this subscriber"}
_NO_FILE: Final = {HTTPStatus.NOT_FOUND: "no such list for this subscriber, or no such file of the list"}
_NOT_SENT: Final = {
    HTTPStatus.NOT_ACCEPTABLE: "the client accepts no content coding that is served",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "the range is outside the file",
}


class Renderings(Protocol):
    """Opens the files that are sent: verified, and made first if they do not exist yet.

    `coding` is "identity", "zstd" or "gzip". Raises DamagedError if a sealed file is missing or damaged.
    """

    async def open_snapshot(self, digest: Sha256, coding: str, *, wait: bool = False) -> ServedFile:
        """The snapshot in the coding, or uncompressed if zstd is not made yet and `wait` is False."""

    async def open_diff(self, view: ListView, start: Version, end: Version, coding: str) -> ServedFile:
        """The diff from `start` to `end`, of which either may be the newer, in the coding or uncompressed."""


class FeedHandler:
    """Answers requests for lists. Has no state of its own."""

    def __init__(
        self, live_lists: LiveLists, access: Access, renderings: Renderings, claims: Claims | None = None
    ) -> None:
        self._live_lists = live_lists
        self._access = access
        self._renderings = renderings
        self._claims = claims or Claims()

    def routes(self) -> tuple[Route, ...]:
        """The routes of lists and of their files. A handler raises Problem for an error answer, and StoreError."""
        return (
            Route(
                name="lists",
                method="GET",
                pattern="/v1/lists",
                handler=self._lists,
                summary="All lists that the subscriber may see.",
                answers={HTTPStatus.OK: Answer("their states", bodies.JSON, schemas.LISTS), **schemas.UNCHANGED},
                cache=Cache.REVALIDATE,
                parameters=(schemas.IF_NONE_MATCH,),
            ),
            Route(
                name="status",
                method="GET",
                pattern="/v1/lists/{list}",
                handler=self._status,
                summary="The state of a list; with `wait` and If-None-Match, as soon as its version changes.",
                answers={HTTPStatus.OK: Answer("the state", bodies.JSON, schemas.STATUS), **schemas.UNCHANGED},
                cache=Cache.REVALIDATE,
                parameters=(schemas.LIST, schemas.WAIT, schemas.IF_NONE_MATCH),
                problems=_NO_LIST | {HTTPStatus.BAD_REQUEST: "`wait` is no number of seconds, or too large"},
            ),
            Route(
                name="timestamp",
                resource="metadata",
                method="GET",
                pattern="/v1/lists/{list}/metadata/timestamp.json",
                handler=self._timestamp,
                summary="The TUF metadata of a list that names the newest of all others.",
                answers=_METADATA,
                cache=Cache.REVALIDATE,
                parameters=(schemas.LIST, schemas.IF_NONE_MATCH),
                problems=_NO_LIST,
            ),
            Route(
                name="metadata",
                method="GET",
                pattern="/v1/lists/{list}/metadata/{name}",
                handler=self._metadata,
                summary="TUF metadata of a list by its number.",
                answers=_METADATA,
                cache=Cache.IMMUTABLE,
                parameters=(schemas.LIST, schemas.METADATA, schemas.IF_NONE_MATCH),
                problems=_NO_FILE,
            ),
            Route(
                name="targets",
                method="GET",
                pattern="/v1/lists/{list}/targets/{target}",
                handler=self._target,
                summary="The snapshot of a version, which is a TUF target.",
                answers=_FILE,
                cache=Cache.IMMUTABLE,
                parameters=(schemas.LIST, schemas.TARGET, *schemas.OF_FILES),
                problems=_NO_FILE | _NOT_SENT,
            ),
            Route(
                name="diffs",
                method="GET",
                pattern="/v1/lists/{list}/diffs/{from}-{to}",
                handler=self._diff,
                summary="The exact difference of two versions, in either direction.",
                answers=_FILE,
                cache=Cache.IMMUTABLE,
                parameters=(schemas.LIST, schemas.FROM, schemas.TO, *schemas.OF_FILES),
                problems=_NO_FILE
                | _NOT_SENT
                | {HTTPStatus.GONE: "the difference is no longer kept, or can't be made now: take the snapshot"},
            ),
        )

    async def _lists(self, call: RouteCall) -> web.StreamResponse:
        views = [view for name in sorted(call.subscriber.lists) if (view := self._live_lists.get(name))]
        body = b'{"lists":[' + b",".join(view.status.body for view in views) + b"]}"
        return bodies.json_document(call.request, Document.of(body), bodies.REVALIDATE)

    def _view(self, call: RouteCall) -> ListView:
        return entitled(self._live_lists, call.subscriber, call.values["list"])

    async def _status(self, call: RouteCall) -> web.StreamResponse:
        request, view = call.request, self._view(call)
        if request.rel_url.query_string:
            seconds = _wait_seconds(request.rel_url.query.get("wait"))
            if seconds and bodies.etag_matches(request, view.status.etag):
                await while_connected(request, self._live_lists.changed(view, seconds))
                # authenticate again: meanwhile the token may have been revoked, or the list taken from the subscriber
                subscriber = self._access.enter(request)
                now = entitled(self._live_lists, subscriber, view.id)
                if (now.session, now.version) != (view.session, view.version):
                    view = now
                # else 304, for the ETag that the client sent: a new signature alone does not end the wait
            return bodies.json_document(request, view.status, bodies.REVALIDATE)
        return self._polled(call, lambda view: view.status)

    async def _timestamp(self, call: RouteCall) -> web.StreamResponse:
        return self._polled(call, lambda view: view.metadata["timestamp.json"])

    def _polled(self, call: RouteCall, document_of: Callable[[ListView], Document]) -> web.StreamResponse:
        """The answer with a document for which clients poll."""
        document = document_of(self._view(call))

        def unchanged() -> bool:
            view = entitled(self._live_lists, self._access.enter(call.request), call.values["list"])
            return document_of(view).etag == document.etag

        may_repeat(call.request, unchanged)
        return bodies.json_document(call.request, document, bodies.REVALIDATE)

    async def _metadata(self, call: RouteCall) -> web.StreamResponse:
        view, name = self._view(call), call.values["name"]
        found = view.metadata.get(name)
        if found is None:
            raise Problem(HTTPStatus.NOT_FOUND, "no such metadata of this list")
        return bodies.json_document(call.request, found, bodies.IMMUTABLE)

    async def _target(self, call: RouteCall) -> web.StreamResponse:
        view = self._view(call)
        digest, _, name = call.values["target"].partition(".")
        if name != f"{view.id}.ndjson" or digest not in view.targets:
            raise Problem(HTTPStatus.NOT_FOUND, "no such target of this list, or one that is no longer kept")

        async def open_file(coding: str, wait: bool) -> ServedFile:
            return await self._renderings.open_snapshot(Sha256(digest), coding, wait=wait)

        return await _file(call.request, digest, open_file)

    async def _diff(self, call: RouteCall) -> web.StreamResponse:
        view = self._view(call)
        start, end = Version(int(call.values["from"])), Version(int(call.values["to"]))
        match reach(view.version, view.oldest_diff, start, end):
            case Reach.NEVER:
                if start > view.version:
                    who = call.subscriber.id
                    knows = f"subscriber {who} asks for a diff from version {start} of list {view.id}"
                    self._claims.claim(who, f"list {view.id}", knows, view.version)
                raise Problem(HTTPStatus.NOT_FOUND, "the list never had one of these versions")
            case Reach.TOO_OLD:
                raise Problem(HTTPStatus.GONE, f"diffs start at version {view.oldest_diff}: take the snapshot")

        async def open_file(coding: str, wait: bool) -> ServedFile:
            try:
                return await self._renderings.open_diff(view, start, end, coding)
            except DamagedError:
                raise
            except (StoreError, JobError) as error:  # a full disk, or one that can't be written
                Event.DIFF_NOT_MADE.log(log, list=view.id, start=start, end=end, reason=error)
                detail = "this diff can't be made now: take the snapshot"
                raise Problem(HTTPStatus.GONE, detail, {"Cache-Control": "no-store"}) from error

        return await _file(call.request, f"{view.session}-{start}-{end}", open_file)


async def _file(request: web.BaseRequest, name: str, open_file: bodies.Open) -> web.StreamResponse:
    """Calls bodies.send_file. Raises Problem 503 if the file, or one from which it is made, is damaged."""
    try:
        return await bodies.send_file(request, name, open_file)
    except DamagedError as error:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the file is damaged and under repair: repeat the request in a few seconds",
            {"Retry-After": str(RETRY_AFTER)},
        ) from error


def _wait_seconds(text: str | None) -> int:
    """Parses `?wait=`: seconds to wait for a change, 0 without it. Raises Problem 400."""
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 2 or not 1 <= int(text) <= MAX_WAIT:
        raise Problem(HTTPStatus.BAD_REQUEST, f"wait: expected 1 to {MAX_WAIT} seconds")
    return int(text)
