"""The ops listener: /healthz, /readyz, /metrics. For the host's own monitoring; no entry is ever shown here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from blocklistd.serve.http.problems import Problem


class Health:
    """`not_ready` names what is missing until the daemon can serve everything that it has."""

    def __init__(self, not_ready: Callable[[], list[str]], metrics: Callable[[], Awaitable[bytes]]) -> None:
        self._not_ready = not_ready
        self._metrics = metrics

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET or HEAD", {"Allow": "GET, HEAD"})
        match request.path:
            case "/healthz":  # that this is answered is the answer: the loop turns
                return web.Response(text="ok\n")
            case "/readyz":
                missing = self._not_ready()
                if missing:
                    return web.Response(status=503, text="".join(f"{line}\n" for line in missing))
                return web.Response(text="ready\n")
            case "/metrics":
                return web.Response(body=await self._metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})
            case _:
                raise Problem(HTTPStatus.NOT_FOUND, "expected /healthz, /readyz or /metrics")
