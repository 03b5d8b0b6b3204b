"""The table of routes: what a listener answers at which method and path.

Dispatch, `Allow`, OPTIONS, the label of the metrics and the OpenAPI document follow from the table. A new resource is
one Route in it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from aiohttp import web

from blocklistd.serve.http.connection import read_body
from blocklistd.serve.http.problems import Problem
from blocklistd.store.subscribers import Subscriber

_VARIABLE: Final = re.compile(r"\{([a-z0-9_]+)\}")


class Cache(Enum):
    """How long an answer may be kept: the value of Cache-Control."""

    IMMUTABLE = "private, max-age=31536000, immutable"
    REVALIDATE = "no-cache"
    NEVER = "no-store"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a request. `where`: "path", "query" or "header". `schema`: JSON Schema; its `pattern` decides
    which paths a route has."""

    name: str
    summary: str
    schema: Mapping[str, Any]
    where: str = "path"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of a route that is no error: its meaning, and its media type with the schema of its body, if any."""

    summary: str
    media: str | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RequestBody:
    """The body of a request: its largest length in bytes, its media type, its schema."""

    most: int
    media: str
    schema: Mapping[str, Any]


class RouteCall(NamedTuple):
    """A request to a route: who sent it, the values of the path's parameters, and its body."""

    request: web.BaseRequest
    subscriber: Subscriber
    route: Route
    values: Mapping[str, str]
    body: bytes


Handler = Callable[[RouteCall], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method of a path. A route of GET answers HEAD too.

    `name`: of the operation. `pattern`: the path, with `{NAME}` for a parameter. `answers`: by status, without errors.
    `problems`: what the route's own errors mean, by status. `allow`: called before the body is read; it raises a
    Problem if the subscriber may not send one here. `resource`: the label in the metrics, if it is not the name.
    """

    name: str
    method: str
    pattern: str
    handler: Handler
    summary: str
    answers: Mapping[HTTPStatus, Answer]
    cache: Cache
    parameters: tuple[Parameter, ...] = ()
    problems: Mapping[HTTPStatus, str] = field(default_factory=dict)
    body: RequestBody | None = None
    allow: Callable[[Subscriber, Mapping[str, str]], object] | None = None
    resource: str = ""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that the route answers."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)

    def path(self) -> re.Pattern[str]:
        """The paths of the route, with a group for each parameter."""
        patterns = {one.name: one.schema.get("pattern", "[^/]+").strip("^$") for one in self.parameters}
        pieces = _VARIABLE.split(self.pattern)
        made = [
            f"(?P<{text}>{patterns[text]})" if number % 2 else re.escape(text) for number, text in enumerate(pieces)
        ]
        return re.compile("".join(made), re.ASCII)


ROUTE: Final = web.RequestKey("route", Route)
"""Where a request keeps its route, for the metrics."""


class Routes:
    """Answers the requests of a listener by their routes. `enter` returns the subscriber of a request, or raises.

    `largest_body`: the bytes of a request's body that the listener must let through.
    """

    def __init__(self, enter: Callable[[web.BaseRequest], Subscriber], routes: Iterable[Route]) -> None:
        self._enter = enter
        self.table = tuple(routes)
        self.largest_body = max((route.body.most for route in self.table if route.body), default=0)
        self._by_depth: dict[int, list[tuple[re.Pattern[str], Route]]] = {}
        """By the number of slashes, so that few patterns are compared with a path."""
        for route in self.table:
            self._by_depth.setdefault(route.pattern.count("/"), []).append((route.path(), route))

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request. Raises Problem 404 or 405, those of `read_body`, and what `enter` and the route
        raise."""
        method, path, allowed = request.method, request.path, dict[str, None]()
        for pattern, route in self._by_depth.get(path.count("/"), ()):
            found = pattern.fullmatch(path)
            if found is not None:
                request[ROUTE] = route
                if method in route.methods:
                    return await self._answer(request, route, found.groupdict())
                allowed |= dict.fromkeys(route.methods)
        self._enter(request)
        return self._other(method, path, allowed)

    async def _answer(self, request: web.BaseRequest, route: Route, values: Mapping[str, str]) -> web.StreamResponse:
        subscriber, body = self._enter(request), b""
        if route.body is not None:
            if route.allow is not None:
                route.allow(subscriber, values)
            body = await read_body(request, route.body.most)
        return await route.handler(RouteCall(request, subscriber, route, values, body))

    def _other(self, method: str, path: str, allowed: dict[str, None]) -> web.StreamResponse:
        """The answer to OPTIONS (RFC 9110 9.3.7)."""
        if path == "*":
            allowed = dict.fromkeys(one for route in self.table for one in route.methods)
        if not allowed:
            raise Problem(HTTPStatus.NOT_FOUND, "no such path: /v1/openapi.json describes them all")
        allow = {"Allow": ", ".join([*allowed, "OPTIONS"])}
        if method == "OPTIONS":
            return web.Response(status=HTTPStatus.NO_CONTENT, headers=allow)
        raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, f"expected {', '.join(allowed)} or OPTIONS", allow)
