"""Server-Sent Events (WHATWG HTML 9.2): an event `version` with the STATUS of each list that changes.

An event's id names the process, the subscriber's lists, and the number of the change (live_lists.py). A client that
connects again with the last id gets the lists that changed since. If the id is of another process, or of other lists,
the client gets the state of all lists, as it does without an id.
A stream ends, and the client connects again, if the subscriber loses its access or gets other lists, and if the daemon
stops. At most EVENTS_AT_ONCE events are in memory for a client that does not read; WRITE_STALL then closes it.
"""

from __future__ import annotations

import hashlib
import random
import re
import secrets
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from blocklistd.limits import EVENTS_AT_ONCE, HEARTBEAT, RECONNECT
from blocklistd.model import ListId
from blocklistd.serve.http import schemas
from blocklistd.serve.http.access import Access
from blocklistd.serve.http.connection import connection_of, while_connected
from blocklistd.serve.http.live_lists import LiveLists, Watch
from blocklistd.serve.http.problems import Problem
from blocklistd.serve.http.routes import Answer, Cache, Route, RouteCall

EVENT_STREAM: Final = "text/event-stream"
_HEADERS: Final = {
    "Content-Type": EVENT_STREAM,
    "Cache-Control": Cache.NEVER.value,
    "X-Accel-Buffering": "no",  # nginx would keep events back until its buffer is full
}
_ID: Final = re.compile(r"([0-9a-f]{16}-[0-9a-f]{16})-([0-9]{1,15})", re.ASCII)
_COMMENT: Final = b":\n\n"


class EventStreams:
    """Answers requests for events. Has no state but the name of the process."""

    def __init__(self, live_lists: LiveLists, access: Access) -> None:
        self._live_lists = live_lists
        self._access = access
        self._process = secrets.token_hex(8)

    def routes(self) -> tuple[Route, ...]:
        """The route of the events."""
        return (
            Route(
                name="events",
                method="GET",
                pattern="/v1/events",
                handler=self._events,
                summary="Server-Sent Events: the state of each list that the subscriber may see, whenever it changes.",
                answers={HTTPStatus.OK: Answer("events `version`, with a state as data", EVENT_STREAM)},
                cache=Cache.NEVER,
                parameters=(schemas.LAST_EVENT_ID,),
            ),
        )

    async def _events(self, call: RouteCall) -> web.StreamResponse:
        request, lists = call.request, call.subscriber.lists
        response = web.StreamResponse(headers=_HEADERS)
        response.force_close()
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        connection_of(request).wait_for_each_write()
        prefix = f"{self._process}-{_digest(lists)}"
        watch = self._live_lists.watch(lists, self._known(prefix, request.headers.get("Last-Event-ID", "")))
        try:
            await response.write(b"retry: %d\n\n" % random.uniform(RECONNECT, 2 * RECONNECT))
            await self._follow(request, response, watch, prefix)
        finally:
            self._live_lists.unwatch(watch)
        await response.write_eof()
        return response

    async def _follow(self, request: web.BaseRequest, response: web.StreamResponse, watch: Watch, prefix: str) -> None:
        """Sends events until the stream ends."""
        waited = False
        while not self._live_lists.closed:
            if events := watch.take(EVENTS_AT_ONCE):
                await response.write(b"".join(_event(prefix, number, view.status.body) for number, view in events))
            elif waited:
                await response.write(_COMMENT)
            await request.writer.drain()
            if waited := len(events) < EVENTS_AT_ONCE:
                await while_connected(request, watch.wait(HEARTBEAT))
            try:
                subscriber = self._access.enter(request)
            except Problem:
                return
            if subscriber.lists != watch.lists:
                return

    def _known(self, prefix: str, last_event_id: str) -> int:
        """The number of the last change that a client knows; 0 if its id does not say."""
        found = _ID.fullmatch(last_event_id)
        if found is None or found[1] != prefix or int(found[2]) > self._live_lists.changes:
            return 0
        return int(found[2])


def _digest(lists: Iterable[ListId]) -> str:
    return hashlib.blake2b("\n".join(sorted(lists)).encode(), digest_size=8).hexdigest()


def _event(prefix: str, number: int, status: bytes) -> bytes:
    return b"event: version\nid: %b-%d\ndata: %b\n\n" % (prefix.encode(), number, status)
