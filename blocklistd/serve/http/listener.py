"""The HTTP server of one set of sockets: its connections with their bounds, and the answers to errors.

Order of calls: `Listener.start` once, `stop` once.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from blocklistd.config import Address
from blocklistd.errors import StoreError, redacted
from blocklistd.events import Event
from blocklistd.limits import KEEPALIVE, SHUTDOWN_GRACE
from blocklistd.serve.accept import Acceptor, HolderOf, Wrap
from blocklistd.serve.connections import Connections
from blocklistd.serve.http.connection import Connection, connection_of
from blocklistd.serve.http.problems import Problem, internal_error
from blocklistd.serve.http.repeats import remember

log: Final = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Observer = Callable[[web.BaseRequest, web.StreamResponse, float], None]
"""Called after each answer with the request, the answer, and the seconds from one to the other."""


def _unobserved(request: web.BaseRequest, answer: web.StreamResponse, seconds: float) -> None:
    """The observer of a listener whose requests are not counted."""


def answering(handler: Handler, observe: Observer) -> Handler:
    """Wraps the handler: counts the request, answers every error, and calls `observe`.

    Answers and log contain only texts of the program's own errors, and nothing from a request.
    """

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        began = loop.time()
        connection = connection_of(request)
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
            detail = "the store has a problem: try again later"
            response = _failure(request, Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail))
        except Exception as error:
            Event.REQUEST_FAILED.log(log, reason=type(error).__name__, exc_info=redacted(error))
            response = _failure(request, internal_error())
        finally:
            accepted.end()
            read = request.content.is_eof()
            connection.request_done(read=read)
        if not (read or connection.bodies or response.prepared):
            response.force_close()
        observe(request, response, loop.time() - began)
        connection.repeat = remember(request, response, connection.head, functools.partial(observe, request, response))
        return response

    return answer


def _failure(request: web.BaseRequest, problem: Problem) -> web.Response:
    """The answer to a failed request. Aborts the connection if another answer has begun, so that it is incomplete."""
    if request.transport is not None and request.writer.output_size:
        request.transport.abort()
    return problem.response()


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

    `name` is for the log. `bodies`: every request may have a body. `largest_body`: bytes of the largest one that a
    handler reads by `read_body`. `connections`, `holder_of`, `reserved`: as in Acceptor.
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
        largest_body: int = 0,
    ) -> None:
        self._name = name
        self._server = web.Server(answering(handler, observe), request_factory=_request)
        # aiohttp waits twice for this time: before and after it cancels the requests
        self._runner = web.ServerRunner(self._server, shutdown_timeout=SHUTDOWN_GRACE / 2)
        self._connections = connections if connections is not None else Connections()
        self._holder_of = holder_of
        self._reserved = reserved
        self._bodies: dict[str, Any] = {"bodies": bodies, "largest_body": largest_body}
        self._acceptor: Acceptor | None = None
        self.addresses: list[Address] = []
        """The addresses of the TCP sockets, set by `start`."""

    @property
    def connections(self) -> int:
        """The number of connections, those in a TLS handshake included."""
        return len(self._connections)

    async def start(
        self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None, wrap: Wrap = lambda accepted, make: None
    ) -> None:
        """Listens on these bound sockets, with TLS if there is a context. `wrap`: as in Acceptor."""
        settings: dict[str, Any] = {"loop": asyncio.get_running_loop(), "access_log": None}
        settings |= {"keepalive_timeout": KEEPALIVE, "tcp_keepalive": False}  # the Acceptor sets SO_KEEPALIVE
        settings |= {"max_line_size": 8190, "max_field_size": 8190, "lingering_time": 0}
        connection = functools.partial(Connection, self._server, **self._bodies, **settings)
        await self._runner.setup()
        self._acceptor = Acceptor(
            *(self._name, self._connections, connection),
            holder_of=self._holder_of,
            tls=tls,
            wrap=wrap,
            reserved=self._reserved,
        )
        self._acceptor.start(sockets)
        for bound in sockets:
            if bound.family != socket.AF_UNIX:
                host, port = bound.getsockname()[:2]
                self.addresses.append(Address(host, port))

    async def stop(self) -> None:
        """Accepts no more connections. Waits for first requests, at most DRAIN seconds, then for requests under way, at
        most SHUTDOWN_GRACE seconds."""
        if self._acceptor is not None:
            await self._acceptor.drain()
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
