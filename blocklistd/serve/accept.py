"""Accepts connections, and counts them from accept() on, so that TLS handshakes are bounded too.

asyncio's servers do not suffice: they report a TLS connection only after its handshake, and without a free descriptor
they close themselves or drop every new connection. A connection is in these states:
    refused       at accept(): its holder has no room (that is logged), or no descriptor is free; reset at once
    connecting    counted as idle; the TLS handshake runs, for at most TLS_HANDSHAKE seconds
    established   its protocol has set `transport`; it calls `begin`, `move` and `end` for each request. `admission` and
                  `wake` are those of the request under way, or of the last one
    closed        its protocol has called `closed`, or the handshake failed: no longer counted
An idle connection may be aborted at any time to make room (connections.py).
A shortage of descriptors begins when a connection finds none free. It ends when a connection finds one free more than
SHORTAGE_OVER seconds after the last one that did not.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import resource
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from blocklistd.errors import redacted
from blocklistd.events import Event
from blocklistd.limits import ACCEPT_PAUSE, DRAIN, OPEN_FILES, RESERVED_FILES, SHORTAGE_OVER, TLS_HANDSHAKE
from blocklistd.serve.connections import Connections, Holder, address_holder, plain
from blocklistd.serve.refusals import Refusals
from blocklistd.serve.tls_context import ClientCertificate

log: Final = logging.getLogger(__name__)

BACKLOG: Final = 1024
NO_CONNECTION: Final = "it has no connection left"
"""The reason in the log."""
_MAX_ACCEPTED_AT_ONCE: Final = 16
"""The most connections that are accepted in one turn of the loop."""
_SHORTAGES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LINGER_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with 0 seconds: close() sends RST and leaves no TIME_WAIT


def _ignored() -> None:
    """Nobody waits for the first request."""


class AcceptedConnection:
    """An accepted connection. `address` is the client's, "" on a Unix socket; `uid` is -1 except on a Unix socket."""

    def __init__(self, connections: Connections, address: str, uid: int = -1) -> None:
        self.connections = connections
        self.address = address
        self.uid = uid
        self.transport: asyncio.WriteTransport | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.certificate: ClientCertificate | None = None
        """What the client has shown in a TLS handshake that asks for a certificate."""
        self.admission: object | None = None
        """By what the last request was authenticated; None before that. Set by who authenticates."""
        self.rated = False
        """Whether the request under way was counted for a limit of requests."""
        self.has_request = False
        """Whether a first request has arrived."""
        self.on_first_request: Callable[[], object] = _ignored
        """Called when the first request has arrived, or the connection is closed."""
        self.wake: Callable[[], object] | None = None
        """Ends the wait of the request under way, which then authenticates again. None if it does not wait, or after
        `cut_off`."""

    def abort(self) -> None:
        """Closes the connection at once, or cancels its handshake."""
        if self.transport is not None:
            self.transport.abort()
        elif self.connecting is not None:
            self.connecting.cancel()

    def move(self, holder: Holder, bound: int) -> bool:
        """Counts the connection for another holder; False if that is at its bound. Only between `begin` and `end`."""
        return self.connections.move(self, holder, bound)

    def begin(self) -> None:
        """A request begins: the connection is not idle."""
        self.rated = False
        if not self.has_request:
            self.first_request()
        self.connections.begin(self)

    def first_request(self) -> None:
        """A first request has arrived."""
        self.has_request = True
        self.on_first_request()

    def end(self) -> None:
        """The request is answered: the connection is idle."""
        self.connections.end(self)

    def cut_off(self) -> None:
        """Ends the request under way, because its sender has lost access: a wait is answered at once, any other request
        ends with the connection."""
        wake, self.wake = self.wake, None
        if wake is not None:
            wake()
        else:
            self.closed()
            self.abort()

    def closed(self) -> None:
        """The connection was closed, or never established."""
        self.connections.leave(self)
        self.on_first_request()


HolderOf = Callable[[AcceptedConnection], tuple[Holder, int]]
"""Returns the holder of a new connection, and the most connections that the holder may have."""


Wrap = Callable[[AcceptedConnection, Callable[[], asyncio.Protocol]], asyncio.BaseProtocol | None]
"""Makes the protocol of a TLS connection that does not use the context of its Acceptor, around that of the connection;
None for one that does."""


class Acceptor:
    """Accepts on the sockets of one listener.

    `name` is for the log. `protocol` makes the protocol of each connection. `holder_of` defaults to the address or the
    uid. `tls`: the context, None without TLS. `reserved`: these connections may use the descriptors that are reserved
    for operators. `refusals` logs the refused connections; None: one of its own does.
    """

    def __init__(
        self,
        name: str,
        connections: Connections,
        protocol: Callable[[AcceptedConnection], asyncio.BaseProtocol],
        *,
        holder_of: HolderOf | None = None,
        tls: ssl.SSLContext | None = None,
        wrap: Wrap = lambda accepted, make: None,
        reserved: bool = False,
        refusals: Refusals | None = None,
    ) -> None:
        self._name = name
        self._refusals = refusals if refusals is not None else Refusals(name)
        self._connections = connections
        self._protocol = protocol
        self._holder_of = holder_of or self._by_origin
        self._tls = tls
        self._wrap = wrap
        self._reserve_start = None if reserved else file_ceiling()
        self._sockets: list[socket.socket] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._in_reserve: list[AcceptedConnection] = []
        """Connections whose descriptor is in the reserve; some may have ended since the last one was accepted."""
        self._short_since: float | None = None
        """When a connection last found no free descriptor (the loop's time); None without a shortage."""

    def _by_origin(self, accepted: AcceptedConnection) -> tuple[Holder, int]:
        holder = address_holder(accepted.address) if accepted.address else Holder("uid", str(accepted.uid))
        return holder, self._connections.bounds.per_address

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Listens on these bound sockets."""
        for bound in sockets:
            if bound.family != socket.AF_UNIX:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # the accepted ones inherit it
            bound.setblocking(False)
            bound.listen(BACKLOG)
            self._sockets.append(bound)
            self._resume(bound)

    async def drain(self) -> None:
        """Accepts no more connections, and waits until each accepted one has sent its first request or is closed, at
        most DRAIN seconds. A client whose connection was accepted would otherwise get no answer."""
        self._close_sockets()
        arrived = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN):
                while silent := self._silent():
                    for one in silent:
                        one.on_first_request = arrived.set
                    arrived.clear()
                    await arrived.wait()

    def _silent(self) -> list[AcceptedConnection]:
        """The connections without a request."""
        return [one for one in self._connections if isinstance(one, AcceptedConnection) and not one.has_request]

    def stop(self) -> None:
        """Accepts no more connections and cancels handshakes; established connections go on."""
        self._close_sockets()
        for connecting in self._connecting:
            connecting.cancel()

    def _close_sockets(self) -> None:
        while self._sockets:
            bound = self._sockets.pop()
            asyncio.get_running_loop().remove_reader(bound)
            bound.close()

    def _resume(self, bound: socket.socket) -> None:
        if bound.fileno() >= 0:
            asyncio.get_running_loop().add_reader(bound, self._accept, bound)

    def _accept(self, bound: socket.socket) -> None:
        for _ in range(_MAX_ACCEPTED_AT_ONCE):
            try:
                connection, peer = bound.accept()
            except BlockingIOError:
                return
            except OSError as error:  # accept(2): the client has left already, or the network has a problem
                if error.errno in _SHORTAGES:
                    self._pause(bound)
                    return
                continue
            if bound.family == socket.AF_UNIX:
                self._admit(connection, AcceptedConnection(self._connections, "", _uid(connection)))
            else:
                self._admit(connection, AcceptedConnection(self._connections, plain(str(peer[0]))))

    def _admit(self, connection: socket.socket, accepted: AcceptedConnection) -> None:
        if not self._has_descriptor(connection, accepted) or not self._enter(accepted):
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            connection.close()
            return
        connection.setblocking(False)
        connecting = accepted.connecting = asyncio.ensure_future(self._connect(accepted, connection))
        self._connecting.add(connecting)
        connecting.add_done_callback(functools.partial(self._on_connected, accepted, connection))

    def _enter(self, accepted: AcceptedConnection) -> bool:
        if self._connections.enter(accepted, *self._holder_of(accepted)):
            return True
        self._refusals.log(accepted.address or f"user {accepted.uid}", "", NO_CONNECTION)
        return False

    def _has_descriptor(self, connection: socket.socket, accepted: AcceptedConnection) -> bool:
        """Whether a new connection may stay.

        While any connection has a descriptor of the reserve, an idle connection is closed for each new one, so that
        descriptors below the reserve become free.
        """
        self._in_reserve = [one for one in self._in_reserve if one in self._connections]
        if self._reserve_start is not None and connection.fileno() >= self._reserve_start:
            self._in_reserve.append(accepted)
        if self._in_reserve:
            self._begin_shortage()
            return self._connections.make_room()
        self._end_shortage()
        return True

    async def _connect(self, accepted: AcceptedConnection, connection: socket.socket) -> None:
        protocol: Callable[[], Any] = functools.partial(self._protocol, accepted)
        wrapped = self._wrap(accepted, protocol)
        tls = self._tls if wrapped is None else None
        limits: dict[str, Any] = {} if tls is None else {"ssl_handshake_timeout": TLS_HANDSHAKE}
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                (lambda: wrapped) if wrapped else protocol, connection, ssl=tls, **limits
            )
        except OSError:  # the client speaks no TLS, is too slow, or has left; ssl.SSLError is an OSError
            accepted.closed()
        except asyncio.CancelledError:
            accepted.closed()
            raise
        except Exception as error:
            accepted.closed()
            Event.CONNECTION_FAILED.log(log, protocol=self._name, error=type(error).__name__, exc_info=redacted(error))

    def _on_connected(
        self, accepted: AcceptedConnection, connection: socket.socket, connecting: asyncio.Task[None]
    ) -> None:
        self._connecting.discard(connecting)
        accepted.connecting = None
        if connecting.cancelled():
            accepted.closed()
            with contextlib.suppress(OSError):  # a task that is cancelled before its first step closes nothing
                connection.close()

    # -- no descriptors left ---------------------------------------------------------------------------------------

    def _pause(self, bound: socket.socket) -> None:
        """Stops accepting for ACCEPT_PAUSE seconds, because the system has no descriptor.

        Without the pause the listening socket, which stays readable, would occupy every turn of the loop.
        """
        self._begin_shortage()
        self._connections.make_room()
        loop = asyncio.get_running_loop()
        loop.remove_reader(bound)
        loop.call_later(ACCEPT_PAUSE, self._resume, bound)

    def _begin_shortage(self) -> None:
        if self._short_since is None:
            Event.DESCRIPTORS_EXHAUSTED.log(log, protocol=self._name)
        self._short_since = asyncio.get_running_loop().time()

    def _end_shortage(self) -> None:
        if self._short_since is not None and asyncio.get_running_loop().time() - self._short_since > SHORTAGE_OVER:
            self._short_since = None
            Event.DESCRIPTORS_AVAILABLE.log(log, protocol=self._name)


def _uid(connection: socket.socket) -> int:
    """The uid of the process at the other end of a Unix socket (SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def allow_connections() -> None:
    """Raises the soft limit of open files to OPEN_FILES, or to the hard limit if that is lower. A shell sets 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    required = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < required:
        resource.setrlimit(resource.RLIMIT_NOFILE, (required, hard))


def file_ceiling() -> int:
    """The lowest descriptor of the reserve for operators, pulls and files.

    The kernel returns the lowest free descriptor, so a connection gets this one only if all below are in use.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if soft == resource.RLIM_INFINITY else soft
    return limit - min(RESERVED_FILES, limit // 4)
