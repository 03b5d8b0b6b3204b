"""Answers the requests of subscribers over HTTPS. docs/feed.md is the interface that a client may rely on."""

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
from blocklistd.serve.http.listener import while_connected
from blocklistd.serve.http.live_lists import Document, ListView, LiveLists
from blocklistd.serve.http.problems import Problem
from blocklistd.store.diffs import Reach, reach
from blocklistd.store.render import ServedFile
from blocklistd.store.subscribers import Subscriber
from blocklistd.telemetry import ActiveAlarms

log: Final = logging.getLogger(__name__)
RETRY_AFTER: Final = 5  # seconds after which a client repeats a request for a file that is under repair
_DIFF: Final = re.compile(r"(0|[1-9][0-9]{0,17})-(0|[1-9][0-9]{0,17})")
_TARGET: Final = re.compile(r"([0-9a-f]{64})\.(.+)\.ndjson")
_ROLE: Final = re.compile(r"([0-9]{1,18})\.((?:snapshot|targets)\.json)")


class Renderings(Protocol):
    """Opens the files that are sent: verified, and made first if they do not exist yet.

    `coding` is "identity", "zstd" or "gzip". Raises DamagedError if a sealed file is missing or damaged.
    """

    async def open_snapshot(self, digest: Sha256, coding: str, *, wait: bool = False) -> ServedFile:
        """The snapshot in the coding, or uncompressed if zstd is not made yet and `wait` is False."""

    async def open_diff(self, view: ListView, start: Version, end: Version, coding: str) -> ServedFile:
        """The diff from `start` to `end`, of which either may be the newer, in the coding or uncompressed."""


class FeedHandler:
    """Answers requests. Has no state of its own."""

    def __init__(
        self, live_lists: LiveLists, access: Access, renderings: Renderings, alarms: ActiveAlarms | None = None
    ) -> None:
        self._live_lists = live_lists
        self._access = access
        self._renderings = renderings
        self._alarms = alarms or ActiveAlarms()
        self._parts: dict[str, Callable[[web.BaseRequest, ListView, str], Awaitable[web.StreamResponse]]] = {
            "metadata": self._metadata,
            "targets": self._target,
            "diffs": self._diff,
        }

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request. Raises Problem for an error answer, and StoreError."""
        return await self._route(request, self._access.enter(request))

    async def _route(self, request: web.BaseRequest, subscriber: Subscriber) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET or HEAD", {"Allow": "GET, HEAD"})
        match request.path.split("/")[1:]:
            case ["v1", "lists", name]:
                return await self._status(request, subscriber, name)
            case ["v1", "lists", name, part, item] if part in self._parts:
                return await self._parts[part](request, entitled(self._live_lists, subscriber, name), item)
            case ["v1", "lists"]:
                return self._lists(request, subscriber)
            case _:
                raise Problem(HTTPStatus.NOT_FOUND, "no such path")

    def _lists(self, request: web.BaseRequest, subscriber: Subscriber) -> web.StreamResponse:
        views = [view for name in sorted(subscriber.lists) if (view := self._live_lists.get(name))]
        body = b'{"lists":[' + b",".join(view.status.body for view in views) + b"]}"
        return bodies.json_document(request, Document.of(body), bodies.REVALIDATE)

    async def _status(self, request: web.BaseRequest, subscriber: Subscriber, name: str) -> web.StreamResponse:
        view = entitled(self._live_lists, subscriber, name)
        if request.rel_url.query_string:
            seconds = _wait_seconds(request.rel_url.query.get("wait"))
            if seconds and bodies.etag_matches(request, view.status.etag):
                await while_connected(request, self._live_lists.changed(view, seconds))
                # authenticate again: meanwhile the token may have been revoked, or the list taken from the subscriber
                subscriber = self._access.enter(request)
                now = entitled(self._live_lists, subscriber, name)
                if (now.session, now.version) != (view.session, view.version):
                    view = now
                # else 304, for the ETag that the client sent: a new signature alone does not end the wait
        return bodies.json_document(request, view.status, bodies.REVALIDATE)

    async def _metadata(self, request: web.BaseRequest, view: ListView, name: str) -> web.StreamResponse:
        found = view.metadata.get(name)
        if found is None:
            if (parsed := _ROLE.fullmatch(name)) is not None:
                ours = max(int(known.partition(".")[0]) for known in view.metadata if known.endswith(f".{parsed[2]}"))
                self._check_not_ahead(request, view, f"{parsed[2]} of version", int(parsed[1]), ours)
            raise Problem(HTTPStatus.NOT_FOUND, "no such metadata of this list")
        return bodies.json_document(request, found, bodies.REVALIDATE if name == "timestamp.json" else bodies.IMMUTABLE)

    async def _target(self, request: web.BaseRequest, view: ListView, name: str) -> web.StreamResponse:
        parsed = _TARGET.fullmatch(name)
        if parsed is None or parsed[2] != view.id or parsed[1] not in view.targets:
            raise Problem(HTTPStatus.NOT_FOUND, "no such target of this list, or one that is no longer kept")
        digest = Sha256(parsed[1])

        async def open_file(coding: str, wait: bool) -> ServedFile:
            return await self._renderings.open_snapshot(digest, coding, wait=wait)

        return await _file(request, digest, open_file)

    async def _diff(self, request: web.BaseRequest, view: ListView, name: str) -> web.StreamResponse:
        parsed = _DIFF.fullmatch(name)
        if parsed is None:
            raise Problem(HTTPStatus.NOT_FOUND, "expected FROM-TO, two versions of this list")
        start, end = Version(int(parsed[1])), Version(int(parsed[2]))
        match reach(view.version, view.oldest_diff, start, end):
            case Reach.NEVER:
                self._check_not_ahead(request, view, "version", max(start, end), view.version)
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

        return await _file(request, f"{view.session}-{start}-{end}", open_file)

    def _check_not_ahead(self, request: web.BaseRequest, view: ListView, what: str, number: int, ours: int) -> None:
        """Raises an alarm if a subscriber requests a number above ours: our state must be older than its copy."""
        if number > ours:
            who = self._access.admission(request.headers.get("Authorization")).subscriber.id
            knows = f"subscriber {who} asks for {what} {number} of list {view.id}"
            self._alarms.raise_client_ahead(f"list {view.id}", knows, ours)


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
