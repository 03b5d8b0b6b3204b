"""Refusals as `application/problem+json` (RFC 9457). A detail says what to do, and never repeats the request."""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar

import orjson
from aiohttp import web


class Problem(Exception):
    """Raised anywhere below a request's handler; becomes its answer."""

    ends_connection: ClassVar = False

    def __init__(self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}

    def response(self) -> web.Response:
        body = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
        }
        response = web.Response(
            status=self.status.value,
            body=orjson.dumps(body),
            content_type="application/problem+json",
            headers=self.headers,
        )
        if self.ends_connection:
            response.force_close()
        return response
