"""The shell of HTTP: sockets, TLS, the bounds of connections, and what becomes of an error."""

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
from blocklistd.errors import StoreError, without_text
from blocklistd.events import Event
from blocklistd.limits import DRAIN, FIRST_REQUEST, KEEPALIVE, MAX_HEAD, MAX_REQUEST_BODY, WRITE_STALL
from blocklistd.serve.accept import Accepted, Acceptor, Whose
from blocklistd.serve.connections import Connections
from blocklistd.serve.http.problems import PROBLEM, Problem

log: Final = logging.getLogger(__name__)
_END_OF_HEAD: Final = b"\r\n\r\n"
_TOO_LARGE: Final = Problem(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"expected a request line and headers of at most {MAX_HEAD} bytes"
)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Observer = Callable[[web.BaseRequest, web.StreamResponse, float], None]
"""Told of each answer: the request, the answer, the seconds that it took."""


def _unobserved(request: web.BaseRequest, answer: web.StreamResponse, seconds: float) -> None:
    """The operators' own requests are not counted with the subscribers'."""


class Connection(web.RequestHandler):
    """A connection with the bounds that aiohttp lacks: of connections by holder, of the time to the first request, of
    the bytes of a request, of the time that a slow reader may take. Ends a long poll when its client leaves; answers a
    malformed request without quoting it.

    The parser gets one head at a time: bytes that follow a refused request are never parsed. With `bodies` it gets
    everything as it arrives.
    """

    def __init__(self, server: web.Server, accepted: Accepted, bodies: bool = False, **settings: Any) -> None:
        super().__init__(server, **settings)
        self.accepted = accepted
        self.bodies = bodies
        self.most = MAX_HEAD + MAX_REQUEST_BODY if bodies else MAX_HEAD
        self.parsed = b""
        """What the parser has of an incomplete head; with `bodies`, all that it has of a request."""
        self.held = b""
        """Bytes that arrived after a head which is not answered yet."""
        self.answering = False
        self.asked = False
        """Whether a first request has come."""
        self.waiting: asyncio.Future[None] | None = None
        """What ends with the connection."""
        self.stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.accepted.transport = cast(asyncio.WriteTransport, transport)
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(FIRST_REQUEST, self.abort_if_silent)

    async def start(self) -> None:
        if self.transport is not None:  # None: the connection was lost before this task's first step
            await super().start()

    def data_received(self, data: bytes) -> None:
        if len(self.parsed) + len(self.held) + len(data) > self.most:
            self.refuse_size()
        elif self.bodies or not data:
            self.parsed += data
            super().data_received(data)
        else:
            self.held += data
            self.parse_head()

    def refuse_size(self) -> None:
        """Says so, unless that would stand in the middle of another answer."""
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
        """Gives the parser what has arrived of the next head."""
        if self.answering or not self.held:
            return
        known = len(self.parsed)
        head, end, self.held = (self.parsed + self.held).partition(_END_OF_HEAD)
        self.parsed, self.answering = (b"", True) if end else (head, False)
        super().data_received((head + end)[known:])

    def answered(self) -> None:
        """The request is over. The next one begins in another turn of the loop."""
        self.answering = False
        if self.bodies:
            self.parsed = b""
        elif self.held:
            asyncio.get_running_loop().call_soon(self.parse_head)

    def abort_if_silent(self) -> None:
        if not self.asked:
            self.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.peername:  # none on the control socket: an operator may page through it
            self.stalled = asyncio.get_running_loop().call_later(WRITE_STALL, self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.moving()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.moving()
        self.accepted.ended()
        if self.waiting is not None:
            self.waiting.cancel()
        super().connection_lost(exc)

    def moving(self) -> None:
        """What was written leaves, or nobody waits for that any more."""
        if self.stalled is not None:
            self.stalled.cancel()
            self.stalled = None

    def abort(self) -> None:
        """Drops the connection with all that was not sent yet."""
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


def accepted_of(request: web.BaseRequest) -> Accepted:
    """The connection on which a request arrived."""
    connection = request.protocol
    assert isinstance(connection, Connection)
    return connection.accepted


async def while_connected(request: web.BaseRequest, wait: Coroutine[Any, Any, None]) -> None:
    """Waits as long as the client does: one that went away would keep its place until the wait is over.

    Raises ConnectionResetError then.
    """
    connection = request.protocol
    assert isinstance(connection, Connection)
    connection.waiting = asyncio.ensure_future(wait)
    try:
        await connection.waiting
    except asyncio.CancelledError:
        if request.transport is not None:
            raise
        raise ConnectionResetError("the client went away") from None
    finally:
        connection.waiting = None


def answering(handler: Handler, observe: Observer) -> Handler:
    """The handler with every error made into an answer; only the product's own texts go out or into the log."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        began = loop.time()
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.asked = True
        accepted = connection.accepted
        accepted.begin()
        try:
            response = await handler(request)
        except Problem as problem:
            response = problem.response()
        except (TimeoutError, ConnectionError):
            # a slow reader, or one that went away: nothing more can be said on this connection
            if request.transport is not None:
                request.transport.abort()
            response = web.Response(status=499)
        except StoreError as error:
            Event.REQUEST_FAILED.log(log, reason=error)
            response = _broken(request, HTTPStatus.SERVICE_UNAVAILABLE, "the store has a problem: try again later")
        except Exception as error:
            Event.REQUEST_FAILED.log(log, reason=type(error).__name__, exc_info=without_text(error))
            response = _broken(request, HTTPStatus.INTERNAL_SERVER_ERROR, "an error of the server's own")
        finally:
            accepted.end()
            connection.answered()
        observe(request, response, loop.time() - began)
        return response

    return answer


def _broken(request: web.BaseRequest, status: HTTPStatus, detail: str) -> web.Response:
    """After the first byte of an answer there is no other way to say that it failed than to cut it short."""
    if request.transport is not None and request.writer.output_size:
        request.transport.abort()
    return Problem(status, detail).response()


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    """A request whose answer does not name the software and its version."""
    writer.write_headers = functools.partial(_without_server, writer.write_headers)
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())


def _without_server(
    write: Callable[[str, MutableMapping[str, str]], Awaitable[None]], status: str, headers: MutableMapping[str, str]
) -> Awaitable[None]:
    headers.pop("Server", None)
    return write(status, headers)


class Listener:
    """One HTTP service on its sockets. `name` is for the log, `bodies` says whether requests have any; `whose` and
    `reserved` are the Acceptor's."""

    def __init__(
        self,
        name: str,
        handler: Handler,
        observe: Observer = _unobserved,
        *,
        connections: Connections | None = None,
        whose: Whose | None = None,
        reserved: bool = False,
        bodies: bool = False,
    ) -> None:
        self._name = name
        self._server = web.Server(answering(handler, observe), request_factory=_request)
        # aiohttp waits for so long twice: before it cancels, and after
        self._runner = web.ServerRunner(self._server, shutdown_timeout=DRAIN / 2)
        self._connections = connections if connections is not None else Connections()
        self._whose = whose
        self._reserved = reserved
        self._bodies = bodies
        self._acceptor: Acceptor | None = None
        self.addresses: list[Address] = []

    @property
    def connections(self) -> int:
        """Open ones, and those that are being made."""
        return len(self._connections)

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        settings: dict[str, Any] = {"loop": asyncio.get_running_loop(), "access_log": None}
        settings |= {"keepalive_timeout": KEEPALIVE, "tcp_keepalive": False}  # the Acceptor sets that
        settings |= {"max_line_size": 8190, "max_field_size": 8190, "lingering_time": 0}
        connection = functools.partial(Connection, self._server, bodies=self._bodies, **settings)
        await self._runner.setup()
        self._acceptor = Acceptor(
            self._name, self._connections, connection, whose=self._whose, tls=tls, reserved=self._reserved
        )
        self._acceptor.start(sockets)
        for bound in sockets:
            if bound.family != socket.AF_UNIX:
                host, port = bound.getsockname()[:2]
                self.addresses.append(Address(host, port))

    async def stop(self) -> None:
        """Takes no more connections, and lets those under way end (DRAIN seconds)."""
        if self._acceptor is not None:
            self._acceptor.stop()
        await self._runner.cleanup()


def bind(address: Address, key: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A bound TCP (or UDP) socket; `[::]` means both families, and IPv4 alone on a host without IPv6.

    Raises StoreError with the configuration key that it came from.
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
        raise StoreError(f"{key}: {address} can't be listened on: {error.strerror}") from error
