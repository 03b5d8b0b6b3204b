"""Error answers as `application/problem+json` (RFC 9457). The detail says what to do, and never quotes the request."""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar, Final

import orjson
from aiohttp import web

PROBLEM: Final = "application/problem+json"


def internal_error() -> Problem:
    """The answer to a request that failed by an error of the program."""
    detail = "an internal error: try again later; if it persists, tell the publisher"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail)


class Problem(Exception):
    """An error answer. Raised by a request's handler or below; the listener sends it."""

    ends_connection: ClassVar = False
    """Whether the connection is closed after the answer."""

    def __init__(self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}

    def body(self) -> bytes:
        """The problem details object (RFC 9457 3.1)."""
        return orjson.dumps(
            {
                "type": "about:blank",
                "title": self.status.phrase,
                "status": self.status.value,
                "detail": self.detail,
            }
        )

    def response(self) -> web.Response:
        """The answer, with `headers`."""
        response = web.Response(status=self.status.value, body=self.body(), content_type=PROBLEM, headers=self.headers)
        if self.ends_connection:
            response.force_close()
        return response
