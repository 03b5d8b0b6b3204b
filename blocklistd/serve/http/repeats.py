"""Answers 304 again to a poll that is the same, byte for byte, as the last one of its connection.

Most requests of a feed are such polls. To parse one, and to write its answer header by header, costs some five times
what the answer itself needs: who sends it, whether it may, and whether the document has changed. These are found out
each time. Anything else, and a poll for which one of them has changed, goes the usual way.

Order of calls: a handler calls `may_repeat` for an answer 304; `remember` after it, once the request is answered; then
`Repeat.answer` for each head that equals `Repeat.head`, only between `begin` and `end` of the accepted connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from blocklistd.limits import REPEATS_FOR
from blocklistd.serve.http.problems import Problem


@dataclass(frozen=True, slots=True)
class _Condition:
    holds: Callable[[], bool]


_CONDITION: Final = web.RequestKey("condition", _Condition)


def may_repeat(request: web.BaseRequest, unchanged: Callable[[], bool]) -> None:
    """Says that the request will have the same answer for as long as `unchanged` returns True. It authenticates the
    sender again, and may raise Problem."""
    request[_CONDITION] = _Condition(unchanged)


@dataclass(slots=True)
class Repeat:
    """A poll that was answered 304. `head`: its bytes. `until`: when (the loop's time) it is parsed again in any case.
    `observe`: called after each answer, with the seconds that it took."""

    head: bytes
    until: float
    _unchanged: Callable[[], bool]
    _response: web.StreamResponse
    observe: Callable[[float], None]
    _written: bytes = b""

    def answer(self) -> bytes | None:
        """The bytes of the answer; None if the request must be parsed to know it."""
        try:
            if not self._unchanged():
                return None
        except Problem:
            return None
        if not self._written:
            headers = (f"{name}: {value}\r\n" for name, value in self._response.headers.items() if name != hdrs.DATE)
            status = HTTPStatus.NOT_MODIFIED
            self._written = f"HTTP/1.1 {status} {status.phrase}\r\n{''.join(headers)}".encode()
        return b"%bDate: %b\r\n\r\n" % (self._written, _date(int(time.time())))


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    """The HTTP date (RFC 9110 5.6.7) of a Unix time."""
    return formatdate(second, usegmt=True).encode()


def remember(
    request: web.BaseRequest, response: web.StreamResponse, head: bytes, observe: Callable[[float], None]
) -> Repeat | None:
    """What may answer the same head again; None if nothing may."""
    condition = request.get(_CONDITION)
    stays_open = request.version == HttpVersion11 and request.keep_alive
    if condition is None or response.status != HTTPStatus.NOT_MODIFIED or not (head and stays_open):
        return None
    until = asyncio.get_running_loop().time() + REPEATS_FOR
    return Repeat(head, until, condition.holds, response, observe)
