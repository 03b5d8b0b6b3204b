"""The HTTP server of one set of sockets: its connections with their bounds, and the answers to errors.

Order of calls: `Listener.start` once, `stop` once. A Connection without request bodies gives aiohttp's parser one head
at a time:
    reading      bytes go to the parser up to the end of the head; `incomplete_head` repeats what the parser has of it
    answering    from the end of the head until `request_done`: bytes that arrive wait in `waiting_bytes`
    closed       after FIRST_REQUEST seconds without a request; KEEPALIVE seconds after an answer; if the client takes
                 nothing of an answer for WRITE_STALL seconds; if a head, or what waits, is larger than `max_bytes`
With `bodies` (the control socket) the parser gets all bytes as they arrive.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import web

from blocklistd.config import Address
from blocklistd.errors import StoreError, redacted
from blocklistd.events import Event
from blocklistd.limits import FIRST_REQUEST, KEEPALIVE, MAX_REQUEST_BODY, MAX_REQUEST_HEAD, SHUTDOWN_GRACE, WRITE_STALL
from blocklistd.serve.accept import AcceptedConnection, Acceptor, HolderOf
from blocklistd.serve.connections import Connections
from blocklistd.serve.http.problems import PROBLEM, Problem

log: Final = logging.getLogger(__name__)
_END_OF_HEAD: Final = b"\r\n\r\n"
_TOO_LARGE: Final = Problem(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"expected a request line and headers of at most {MAX_REQUEST_HEAD} bytes",
)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Observer = Callable[[web.BaseRequest, web.StreamResponse, float], None]
"""Called after each answer with the request, the answer, and the seconds from one to the other."""


def _unobserved(request: web.BaseRequest, answer: web.StreamResponse, seconds: float) -> None:
    """The observer of a listener whose requests are not counted."""


class Connection(web.RequestHandler):
    """A connection with the bounds that aiohttp lacks.

    These are the number of connections of each holder, the time to the first request, the bytes of a request, and the
    time that a client may take to read. It also ends a long poll whose client leaves, and answers a malformed request
    without quoting it. Bytes that follow a refused request are never parsed.
    """

    def __init__(self, server: web.Server, accepted: AcceptedConnection, bodies: bool = False, **settings: Any) -> None:
        super().__init__(server, **settings)
        self.accepted = accepted
        self.bodies = bodies
        self.max_bytes = MAX_REQUEST_HEAD + MAX_REQUEST_BODY if bodies else MAX_REQUEST_HEAD
        """The most bytes of one request, together with those that wait behind it."""
        self.incomplete_head = b""
        """The bytes of an incomplete head that the parser has; with `bodies`, all bytes of the request that it has."""
        self.waiting_bytes = b""
        """Bytes that wait until the present request is answered."""
        self.answering = False
        """Whether a request is under way. Always False with `bodies`."""
        self.uploading = False
        """Whether the body of the request under way may have any size: its handler reads it as it arrives."""
        self.has_request = False
        """Whether a first request has arrived."""
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

    def allow_upload(self) -> None:
        """Gives all bytes of the request under way to the parser; the handler bounds them."""
        self.uploading = True

    def data_received(self, data: bytes) -> None:
        if self.uploading:
            super().data_received(data)
        elif len(self.incomplete_head) + len(self.waiting_bytes) + len(data) > self.max_bytes:
            self.refuse_size()
        elif self.bodies or not data:
            self.incomplete_head += data
            super().data_received(data)
        else:
            self.waiting_bytes += data
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
        self.incomplete_head, self.answering = (b"", True) if end else (head, False)
        super().data_received((head + end)[known_to_parser:])

    def request_done(self) -> None:
        """The request is answered. The next one begins in another turn of the loop."""
        self.answering = self.uploading = False
        if self.bodies:
            self.incomplete_head = b""
        elif self.waiting_bytes:
            asyncio.get_running_loop().call_soon(self.parse_head)

    def abort_if_silent(self) -> None:
        """Aborts the connection if no request has arrived."""
        if not self.has_request:
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
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        response = Problem(HTTPStatus.BAD_REQUEST, "expected a request of HTTP/1.1, within its bounds").response()
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
    """Awaits `wait`, and cancels it when the client closes the connection: it is not counted any more then. Raises
    ConnectionResetError. AcceptedConnection.cut_off ends `wait` too: authenticate again after it."""
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


def answering(handler: Handler, observe: Observer) -> Handler:
    """Wraps the handler: counts the request, answers every error, and calls `observe`.

    Answers and log contain only texts of the program's own errors, and nothing from a request.
    """

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        began = loop.time()
        connection = connection_of(request)
        connection.has_request = True
        accepted = connection.accepted
        accepted.begin()
        try:
            response = await handler(request)
        except Problem as problem:
            response = problem.response()
        except (TimeoutError, ConnectionError):
            # the client is too slow or has left: no answer can be sent
            if request.transport is not None:
                request.transport.abort()
            response = web.Response(status=499)  # for `observe` only: nginx's code for a client that has left
        except StoreError as error:
            Event.REQUEST_FAILED.log(log, reason=error)
            response = _failure(request, HTTPStatus.SERVICE_UNAVAILABLE, "the store has a problem: try again later")
        except Exception as error:
            Event.REQUEST_FAILED.log(log, reason=type(error).__name__, exc_info=redacted(error))
            detail = "an internal error: try again later; if it persists, tell the publisher"
            response = _failure(request, HTTPStatus.INTERNAL_SERVER_ERROR, detail)
        finally:
            accepted.end()
            connection.request_done()
        observe(request, response, loop.time() - began)
        return response

    return answer


def _failure(request: web.BaseRequest, status: HTTPStatus, detail: str) -> web.Response:
    """The answer to a failed request. Aborts the connection if another answer has begun, so that it is incomplete."""
    if request.transport is not None and request.writer.output_size:
        request.transport.abort()
    return Problem(status, detail).response()


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    """Makes a request whose answer has no Server header: it would name the software and its version."""
    writer.write_headers = functools.partial(_without_server, writer.write_headers)
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())


def _without_server(
    write: Callable[[str, MutableMapping[str, str]], Awaitable[None]], status: str, headers: MutableMapping[str, str]
) -> Awaitable[None]:
    headers.pop("Server", None)
    return write(status, headers)


class Listener:
    """One HTTP service on its sockets.

    `name` is for the log. `bodies`: requests may have a body. `connections`, `holder_of`, `reserved`: as in Acceptor.
    """

    def __init__(
        self,
        name: str,
        handler: Handler,
        observe: Observer = _unobserved,
        *,
        connections: Connections | None = None,
        holder_of: HolderOf | None = None,
        reserved: bool = False,
        bodies: bool = False,
    ) -> None:
        self._name = name
        self._server = web.Server(answering(handler, observe), request_factory=_request)
        # aiohttp waits twice for this time: before and after it cancels the requests
        self._runner = web.ServerRunner(self._server, shutdown_timeout=SHUTDOWN_GRACE / 2)
        self._connections = connections if connections is not None else Connections()
        self._holder_of = holder_of
        self._reserved = reserved
        self._bodies = bodies
        self._acceptor: Acceptor | None = None
        self.addresses: list[Address] = []
        """The addresses of the TCP sockets, set by `start`."""

    @property
    def connections(self) -> int:
        """The number of connections, those in a TLS handshake included."""
        return len(self._connections)

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        """Listens on these bound sockets, with TLS if there is a context."""
        settings: dict[str, Any] = {"loop": asyncio.get_running_loop(), "access_log": None}
        settings |= {"keepalive_timeout": KEEPALIVE, "tcp_keepalive": False}  # the Acceptor sets SO_KEEPALIVE
        settings |= {"max_line_size": 8190, "max_field_size": 8190, "lingering_time": 0}
        connection = functools.partial(Connection, self._server, bodies=self._bodies, **settings)
        await self._runner.setup()
        self._acceptor = Acceptor(
            self._name, self._connections, connection, holder_of=self._holder_of, tls=tls, reserved=self._reserved
        )
        self._acceptor.start(sockets)
        for bound in sockets:
            if bound.family != socket.AF_UNIX:
                self.addresses.append(Address(*bound.getsockname()[:2]))

    async def stop(self) -> None:
        """Accepts no more connections, and waits for requests under way, at most SHUTDOWN_GRACE seconds."""
        if self._acceptor is not None:
            self._acceptor.stop()
        await self._runner.cleanup()


def bind(address: Address, key: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A bound TCP (or UDP) socket. `[::]` means IPv4 and IPv6, or IPv4 alone on a host without IPv6.

    Raises StoreError. `key` is the key of the configuration that has the address, for the message.
    """
    both = address.host == "::"
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=kind, flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            if kind == socket.SOCK_STREAM:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
            bound.bind(where)
        except BaseException:
            bound.close()
            raise
        bound.setblocking(False)
        return bound
    except OSError as error:
        if both and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return bind(Address("0.0.0.0", address.port), key, kind)
        in_use = "name another address, or stop the program that uses it (`ss -tulpn` shows it)"
        remedy = in_use if error.errno == errno.EADDRINUSE else "name an address and a port that this user may bind"
        raise StoreError(f"{key}: {address} can't be listened on: {error.strerror}: {remedy}") from error
