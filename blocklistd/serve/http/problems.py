"""Refusals as `application/problem+json` (RFC 9457). A detail says what to do, and never repeats the request."""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar, Final

import orjson
from aiohttp import web

PROBLEM: Final = "application/problem+json"


class Problem(Exception):
    """Raised anywhere below a request's handler; becomes its answer."""

    ends_connection: ClassVar = False

    def __init__(self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}

    def body(self) -> bytes:
        return orjson.dumps(
            {
                "type": "about:blank",
                "title": self.status.phrase,
                "status": self.status.value,
                "detail": self.detail,
            }
        )

    def response(self) -> web.Response:
        response = web.Response(status=self.status.value, body=self.body(), content_type=PROBLEM, headers=self.headers)
        if self.ends_connection:
            response.force_close()
        return response
