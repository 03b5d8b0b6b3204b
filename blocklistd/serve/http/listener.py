"""The shell of HTTP: sockets, TLS, the bounds of connections, and what becomes of an error."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from blocklistd.config import Address
from blocklistd.errors import StoreError, without_text
from blocklistd.limits import DRAIN, FIRST_REQUEST, KEEPALIVE, MAX_CONNECTIONS, OPEN_FILES, WRITE_STALL
from blocklistd.serve.http.problems import Problem

log: Final = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Observer = Callable[[web.BaseRequest, web.StreamResponse, float], None]
"""Told of each answer: the request, the answer, the seconds that it took."""


def _unobserved(request: web.BaseRequest, answer: web.StreamResponse, seconds: float) -> None:
    """The operators' own requests are not counted with the subscribers'."""


class Connection(web.RequestHandler):
    """A connection with the bounds that aiohttp lacks: how many there are, the time to the first request, the time that
    a slow reader may take. Ends a long poll when its client leaves; answers a malformed request without quoting it.
    """

    def __init__(self, server: web.Server, **settings: Any) -> None:
        super().__init__(server, **settings)
        self.server = server
        self.asked = False
        """Whether a first request has come."""
        self.waiting: asyncio.Future[None] | None = None
        """What ends with the connection."""
        self.stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.server.connections) > MAX_CONNECTIONS:
            self.abort()
        else:
            asyncio.get_running_loop().call_later(FIRST_REQUEST, self.abort_if_silent)

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
        if isinstance(request.protocol, Connection):
            request.protocol.asked = True
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
            log.error("a request failed: %s", error)
            response = _broken(request, HTTPStatus.SERVICE_UNAVAILABLE, "the store has a problem: try again later")
        except Exception as error:
            log.error("a request failed: %s", type(error).__name__, exc_info=without_text(error))
            response = _broken(request, HTTPStatus.INTERNAL_SERVER_ERROR, "an error of the server's own")
        observe(request, response, loop.time() - began)
        return response

    return answer


def _broken(request: web.BaseRequest, status: HTTPStatus, detail: str) -> web.Response:
    """After the first byte of an answer there is no other way to say that it failed than to cut it short."""
    if request.transport is not None and request.writer.output_size:
        request.transport.abort()
    return Problem(status, detail).response()


class Listener:
    """One HTTP service on its sockets."""

    def __init__(self, handler: Handler, observe: Observer = _unobserved) -> None:
        self._server = web.Server(answering(handler, observe))
        # aiohttp waits for so long twice: before it cancels, and after
        self._runner = web.ServerRunner(self._server, shutdown_timeout=DRAIN / 2)
        self._sockets: list[asyncio.Server] = []
        self.addresses: list[Address] = []

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._server.connections)

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        settings: dict[str, Any] = {"access_log": None, "keepalive_timeout": KEEPALIVE}
        settings |= {"max_line_size": 8190, "max_field_size": 8190}
        connection = functools.partial(Connection, self._server, loop=loop, **settings)
        await self._runner.setup()
        for bound in sockets:
            self._sockets.append(await loop.create_server(connection, sock=bound, ssl=tls, backlog=1024))
            if bound.family != socket.AF_UNIX:
                host, port = bound.getsockname()[:2]
                self.addresses.append(Address(host, port))

    async def stop(self) -> None:
        """Takes no more connections, and lets those under way end (DRAIN seconds)."""
        for listening in self._sockets:
            listening.close()
        await self._runner.cleanup()


def allow_connections() -> None:
    """As many open files as the bounds of connections take, if the system lets us: where there are none left, not even
    the operator gets through, and 1024 is what a shell gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
