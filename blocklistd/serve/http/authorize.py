"""Decides requests that a trusted proxy answers from its cache: `auth_request` of nginx, config/nginx/.

The proxy sends the client's credentials, and the path in X-Original-URI. nginx passes 401 and 403 on, and takes every
other error for a fault of its own, so a list that is not the subscriber's is 403 here; the proxy makes 404 of it.
A path in another spelling than the feed's is 403, too: the proxy may answer it as if it were another path.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from aiohttp import web

from blocklistd.model import ListId
from blocklistd.serve.connections import is_in
from blocklistd.serve.http.access import Access
from blocklistd.serve.http.connection import accepted_of
from blocklistd.serve.http.live_lists import LiveLists
from blocklistd.serve.http.problems import Problem
from blocklistd.serve.http.routes import Answer, Cache, Parameter, Route, RouteCall

_PATH: Final = re.compile(
    r"/v1/(?:lists/(?P<list>[a-z0-9-]+)(?:/(?!\.{1,2}(?:[/?]|\Z))[A-Za-z0-9._-]+)*|[a-z]+(?:\.json)?)(?:\?.*)?",
    re.ASCII,
)
"""The feed's own spelling of a path: of a list, or of what is no list's. Without dot segments (RFC 3986 3.3)."""
_URI: Final = Parameter("X-Original-URI", "the path that the client requests", {"type": "string"}, "header")


class AuthorizeHandler:
    """Answers whether the subscriber of a request may have a path. Has no state of its own."""

    def __init__(self, live_lists: LiveLists, access: Access) -> None:
        self._live_lists = live_lists
        self._access = access

    def routes(self) -> tuple[Route, ...]:
        """The one route."""
        return (
            Route(
                name="authorize",
                method="GET",
                pattern="/v1/authorize",
                handler=self._authorize,
                summary="Whether the subscriber may have a path. For trusted proxies alone.",
                answers={HTTPStatus.NO_CONTENT: Answer("it may")},
                cache=Cache.NEVER,
                parameters=(_URI,),
                problems={
                    HTTPStatus.FORBIDDEN: "no such list for this subscriber, or not a path as the feed spells it",
                    HTTPStatus.NOT_FOUND: "the request comes from no trusted proxy",
                },
            ),
        )

    async def _authorize(self, call: RouteCall) -> web.StreamResponse:
        if not is_in(accepted_of(call.request).address, self._access.trusted_proxies):
            raise Problem(HTTPStatus.NOT_FOUND, "no such path: /v1/openapi.json describes them all")
        paths = call.request.headers.getall("X-Original-URI", ())
        found = _PATH.fullmatch(paths[0]) if len(paths) == 1 else None  # of two, one is the client's
        if found is None or (found["list"] is not None and not self._may_have(call, found["list"])):
            raise Problem(HTTPStatus.FORBIDDEN, "no such list for this subscriber")
        return web.Response(status=HTTPStatus.NO_CONTENT, headers={"Cache-Control": Cache.NEVER.value})

    def _may_have(self, call: RouteCall, name: str) -> bool:
        """As `entitled`, but a list that can't be served now is the subscriber's: the proxy may have its files."""
        return ListId(name) in call.subscriber.lists and (
            self._live_lists.get(name) is not None or self._live_lists.is_missing(name)
        )
