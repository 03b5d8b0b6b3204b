"""The ops listener: /healthz, /readyz, /metrics. For the host's own monitoring; no entry is ever shown here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from blocklistd.serve.http.problems import Problem

Look = Callable[[], tuple[list[str], list[str]]]
"""Answers two lists of lines for people: what has a version and is not served; and other faults (Readiness)."""


class Health:
    """/readyz is 503 only where something that has a version is not served: a balancer drains no node that serves."""

    def __init__(self, look: Look, metrics: Callable[[], Awaitable[bytes]]) -> None:
        self._look = look
        self._metrics = metrics

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise Problem(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET or HEAD", {"Allow": "GET, HEAD"})
        match request.path:
            case "/healthz":  # that this is answered is the answer: the loop turns
                return web.Response(text="ok\n")
            case "/readyz":
                down, wrong = self._look()
                lines = "".join(f"{line}\n" for line in [*(down or ["ready"]), *wrong])
                return web.Response(status=503 if down else 200, text=lines)
            case "/metrics":
                return web.Response(body=await self._metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})
            case _:
                raise Problem(HTTPStatus.NOT_FOUND, "expected /healthz, /readyz or /metrics")
