"""A connection of an HTTP listener with its bounds, and the functions by which a handler uses it.

A Connection without `bodies` gives aiohttp's parser one head at a time:
    reading      bytes go to the parser up to the end of the head; `incomplete_head` repeats what the parser has of it
    answering    from the end of the head until `request_done`: bytes that arrive wait in `waiting_bytes`
    body         within answering, after `take_body`: so many bytes go to the parser, the others wait
    closed       after FIRST_REQUEST seconds without a request; KEEPALIVE seconds after an answer; if the client takes
                 nothing of an answer for WRITE_STALL seconds; if a head, or what waits, is larger than `max_bytes`;
                 after the answer to a request whose body was not read
With `bodies` (the control socket) the parser gets all bytes as they arrive. A head that `repeat` answers (repeats.py)
does not go to the parser.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import web

from blocklistd.errors import redacted
from blocklistd.events import Event
from blocklistd.limits import (
    FIRST_REQUEST,
    MAX_REPEATED_HEAD,
    MAX_REQUEST_BODY,
    MAX_REQUEST_HEAD,
    WRITE_STALL,
)
from blocklistd.serve.accept import AcceptedConnection
from blocklistd.serve.http.problems import PROBLEM, Problem, internal_error
from blocklistd.serve.http.repeats import Repeat

log: Final = logging.getLogger(__name__)
_END_OF_HEAD: Final = b"\r\n\r\n"
_TOO_LARGE: Final = Problem(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"expected a request line and headers of at most {MAX_REQUEST_HEAD} bytes",
)


class Connection(web.RequestHandler):
    """A connection with the bounds that aiohttp lacks.

    These are the number of connections of each holder, the time to the first request, the bytes of a request, and the
    time that a client may take to read. It also ends a long poll whose client leaves, and answers a malformed request
    without quoting it. Bytes that follow a refused request are never parsed.
    """

    def __init__(
        self,
        server: web.Server,
        accepted: AcceptedConnection,
        bodies: bool = False,
        largest_body: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(server, **settings)
        self.accepted = accepted
        self.bodies = bodies
        self.max_bytes = MAX_REQUEST_HEAD + (MAX_REQUEST_BODY if bodies else largest_body)
        """The most bytes of one request, together with those that wait behind it."""
        self.missing_body = 0
        """Bytes of the body of the request under way that have not arrived yet."""
        self.ends = False
        """Whether the body of a request was not read: nothing more is, and aiohttp closes the connection."""
        self.incomplete_head = b""
        """The bytes of an incomplete head that the parser has; with `bodies`, all bytes of the request that it has."""
        self.waiting_bytes = b""
        """Bytes that wait until the present request is answered."""
        self.head = b""
        """The head of the last request, unless it is large."""
        self.repeat: Repeat | None = None
        """What answers the last head again, if anything may."""
        self.answering = False
        """Whether a request is under way. Always False with `bodies`."""
        self.uploading = False
        """Whether the body of the request under way may have any size: its handler reads it as it arrives."""
        self.long_poll: asyncio.Future[None] | None = None
        """The long poll, which is cancelled when the connection is lost."""
        self.stall_timer: asyncio.TimerHandle | None = None
        """The timer that aborts the connection; it runs while the client takes nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.accepted.transport = cast(asyncio.WriteTransport, transport)
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(FIRST_REQUEST, self.abort_if_silent)

    async def start(self) -> None:
        if self.transport is not None:  # None: the connection was lost before this task's first step
            await super().start()

    def wait_for_each_write(self) -> None:
        """From now on `drain` waits until the kernel has taken all bytes, and the stall timer runs until then."""
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).set_write_buffer_limits(high=0)

    def allow_upload(self) -> None:
        """Gives all bytes of the request under way to the parser; the handler bounds them."""
        self.uploading = True

    def data_received(self, data: bytes) -> None:
        if self.uploading:
            super().data_received(data)
        elif self.ends:
            pass
        elif len(self.incomplete_head) + len(self.waiting_bytes) + len(data) > self.max_bytes:
            self.refuse_size()
        elif self.bodies or not data:
            self.incomplete_head += data
            super().data_received(data)
        else:
            self.waiting_bytes += data
            self.parse_body()
            self.parse_head()

    def refuse_size(self) -> None:
        """Answers 431 and closes the connection; only closes it if another answer may be under way."""
        if self.transport is not None and not (self.answering or self.bodies):
            head = f"HTTP/1.1 {_TOO_LARGE.status} {_TOO_LARGE.status.phrase}\r\nConnection: close\r\n"
            body = _TOO_LARGE.body()
            self.transport.write(
                f"{head}Content-Type: {PROBLEM}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )
            self.transport.close()
        else:
            self.abort()

    def parse_head(self) -> None:
        """Gives the parser the bytes of the next head that have arrived, unless a request is under way."""
        if self.answering or not self.waiting_bytes:
            return
        known_to_parser = len(self.incomplete_head)
        head, end, self.waiting_bytes = (self.incomplete_head + self.waiting_bytes).partition(_END_OF_HEAD)
        if end and not known_to_parser and self.answers_again(head):
            self.request_done()
            return
        self.incomplete_head, self.answering = (b"", True) if end else (head, False)
        self.head = head if end and len(head) <= MAX_REPEATED_HEAD else b""
        super().data_received((head + end)[known_to_parser:])

    def answers_again(self, head: bytes) -> bool:
        """Answers a head that is the same as the last one, if `repeat` does and the client takes what is sent.

        A head is parsed again after REPEATS_FOR seconds: aiohttp's keep-alive time begins with an answer of its own.
        """
        repeat, began = self.repeat, asyncio.get_running_loop().time()
        if repeat is None or head != repeat.head or began > repeat.until or self.ends or self.stall_timer is not None:
            return False
        self.accepted.begin()
        try:
            answer = repeat.answer()
        finally:
            self.accepted.end()
        if answer is None or self.transport is None:
            self.repeat = None
            return False
        cast(asyncio.WriteTransport, self.transport).write(answer)
        repeat.observe(asyncio.get_running_loop().time() - began)
        return True

    def take_body(self, length: int) -> None:
        """Gives the parser the body of the request under way, of `length` bytes, as it arrives."""
        self.missing_body = length
        self.parse_body()

    def parse_body(self) -> None:
        """Gives the parser the bytes of the body that have arrived."""
        body, self.waiting_bytes = self.waiting_bytes[: self.missing_body], self.waiting_bytes[self.missing_body :]
        if body:
            self.missing_body -= len(body)
            super().data_received(body)

    def request_done(self, *, read: bool = True) -> None:
        """The request is answered. The next one begins in another turn of the loop. `read`: its body was read, or it
        had none."""
        self.answering = self.uploading = False
        if not (read or self.bodies):
            self.ends, self.waiting_bytes = True, b""
        if self.bodies:
            self.incomplete_head = b""
        elif self.waiting_bytes:
            asyncio.get_running_loop().call_soon(self.parse_head)

    def abort_if_silent(self) -> None:
        """Aborts the connection if no request has arrived."""
        if not self.accepted.has_request:
            self.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.peername:  # "" on the control socket: an operator may read the output in a pager
            self.stall_timer = asyncio.get_running_loop().call_later(WRITE_STALL, self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.stop_stall_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.stop_stall_timer()
        self.accepted.closed()
        if self.long_poll is not None:
            self.long_poll.cancel()
        super().connection_lost(exc)

    def stop_stall_timer(self) -> None:
        """Stops the timer of a client that takes nothing."""
        if self.stall_timer is not None:
            self.stall_timer.cancel()
            self.stall_timer = None

    def abort(self) -> None:
        """Closes the connection at once; what is not sent yet is lost."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that aiohttp can't parse, or whose handler failed outside of `answering`. aiohttp's
        own one is no problem (RFC 9457), and its log record may quote the request."""
        if status == HTTPStatus.BAD_REQUEST:
            problem = Problem(HTTPStatus.BAD_REQUEST, "expected a request of HTTP/1.1, within its bounds")
        else:
            error = exc or RuntimeError()
            Event.REQUEST_FAILED.log(log, reason=type(error).__name__, exc_info=redacted(error))
            problem = internal_error()
        if request.writer.output_size:  # another answer has begun: it must not look complete
            self.abort()
        response = problem.response()
        response.force_close()
        return response


def connection_of(request: web.BaseRequest) -> Connection:
    """The connection of a request."""
    connection = request.protocol
    assert isinstance(connection, Connection)
    return connection


def accepted_of(request: web.BaseRequest) -> AcceptedConnection:
    """The accepted connection of a request."""
    return connection_of(request).accepted


async def while_connected(request: web.BaseRequest, wait: Coroutine[Any, Any, None]) -> None:
    """Awaits `wait`, and cancels it when the client closes the connection. Raises ConnectionResetError then.

    Without this the connection of a client that has left would be counted until the wait ends. If the client loses
    access (AcceptedConnection.cut_off), `wait` is cancelled too, and this returns: authenticate again after it.
    """
    connection = connection_of(request)
    connection.long_poll = asyncio.ensure_future(wait)
    connection.accepted.wake = connection.long_poll.cancel
    try:
        await connection.long_poll
    except asyncio.CancelledError:
        if request.transport is None:
            raise ConnectionResetError("the client closed the connection") from None
        if connection.accepted.wake is not None:
            raise
    finally:
        connection.long_poll = connection.accepted.wake = None


async def read_body(request: web.BaseRequest, most: int) -> bytes:
    """Reads the body of a request, of at most `most` bytes. Raises Problem 400, 408, 411, 413 or 415.

    Its length must be known before (Content-Length), so that no byte of the next request is read as a part of it.
    """
    headers, length = request.headers, request.content_length or 0
    if "Transfer-Encoding" in headers:
        raise Problem(HTTPStatus.LENGTH_REQUIRED, "expected a body with Content-Length")
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        detail = "expected a body without a content coding"
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, {"Accept-Encoding": "identity"})
    if length > most:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a body of at most {most} bytes")
    if headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun
    connection_of(request).take_body(length)
    try:
        async with asyncio.timeout(FIRST_REQUEST):
            return await request.content.read()
    except TimeoutError:
        detail = f"the body did not arrive within {FIRST_REQUEST:g} seconds"
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, detail) from None
    except web.RequestPayloadError:
        raise Problem(HTTPStatus.BAD_REQUEST, "the body can't be read") from None
