"""The ops listener's resources: /healthz, /readyz, /metrics, and the dashboard at /. None shows an entry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from blocklistd.dashboard.page import headers
from blocklistd.serve.http.problems import Problem

ReadinessReport = Callable[[], tuple[list[str], list[str]]]
"""Returns two lists of lines: the lists and zones that have a version and are not served, and the other faults."""


class PageRequest(NamedTuple):
    """A request for the dashboard. `language`, `list`: from the query, "" without one. `accepted`: Accept-Language."""

    language: str
    list: str
    accepted: str | None


class OpsHandler:
    """Handler of the ops listener.

    /readyz is 503 only if a list or zone that has a version is not served: a load balancer must not drain a node that
    serves. Other faults are lines of a 200 response.
    """

    def __init__(
        self,
        readiness: ReadinessReport,
        metrics: Callable[[], Awaitable[bytes]],
        page: Callable[[PageRequest], Awaitable[bytes]],
    ) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._page = page

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to a request. Raises Problem (404, 405)."""
        if request.method not in ("GET", "HEAD"):
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET or HEAD", {"Allow": "GET, HEAD"})
        match request.path:
            case "/healthz":  # any response shows that the event loop runs
                return web.Response(text="ok\n")
            case "/readyz":
                down, wrong = self._readiness()
                lines = "".join(f"{line}\n" for line in [*(down or ["ready"]), *wrong])
                return web.Response(status=503 if down else 200, text=lines)
            case "/metrics":
                return web.Response(body=await self._metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})
            case "/":
                asked = request.query
                request_of_page = PageRequest(
                    asked.get("lang", ""), asked.get("list", ""), request.headers.get("Accept-Language")
                )
                body = await self._page(request_of_page)
                return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers())
            case _:
                raise Problem(HTTPStatus.NOT_FOUND, "expected /, /healthz, /readyz or /metrics")
