"""The DNS server's sockets: UDP, TCP and TLS connections and their bounds.

serve/dns/query.py decides the answers, serve/dns/transfer_sender.py sends transfers. A TCP connection is idle, or
answers a request, until one side closes it. With TLS that begins after the handshake (serve/tls_transport.py).
    idle        counted for its address, or for the subscriber of its last request; closed after DNS_IDLE seconds, at
                `stop`, or to make room for another connection (serve/connections.py)
    answering   counted for the subscriber if it is entitled; aborted if the client takes nothing for WRITE_STALL
                seconds, or if a file is found damaged; at `stop` it has SHUTDOWN_GRACE seconds to end
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, NamedTuple

from blocklistd.errors import BlocklistError, redacted
from blocklistd.events import Event
from blocklistd.limits import DNS_IDLE, SHUTDOWN_GRACE, WRITE_STALL
from blocklistd.serve.accept import NO_CONNECTION, AcceptedConnection, Acceptor
from blocklistd.serve.connections import Connections, Holder, plain
from blocklistd.serve.dns.datagrams import answer_source, request_destinations
from blocklistd.serve.dns.key_use import KeyUse
from blocklistd.serve.dns.notify_sender import NotifySender
from blocklistd.serve.dns.query import Reply, SecondaryRequest, respond
from blocklistd.serve.dns.streams import send_message
from blocklistd.serve.dns.transfer import messages
from blocklistd.serve.dns.transfer_sender import Difference, NotSent, TransferSender, Usable
from blocklistd.serve.dns.xot import XotCertificate, client_of
from blocklistd.serve.dns.zones import Peer, TlsClient, Zones
from blocklistd.serve.refusals import Refusals
from blocklistd.serve.tls_transport import TlsProtocol
from blocklistd.telemetry import NO_TELEMETRY, Telemetry

log: Final = logging.getLogger(__name__)

_DATAGRAM: Final = 4096  # octets that are read of a datagram


class _Client(NamedTuple):
    accepted: AcceptedConnection
    tls: TlsClient | None


class DnsServer:
    """Answers DNS requests. `notify` sends NOTIFY, `key_use` knows the TSIG keys that secondaries use, `certificate` is
    that of TLS connections.

    `seen` is called for each request of an entitled secondary, `sent` after each complete transfer, with its serial.
    `retry` and `give_up` are those of Notifier, in seconds. `clocks` returns Unix seconds: the time of the checked
    clock, and that of the system's clock if it may differ.
    """

    def __init__(
        self,
        zones: Zones,
        difference: Difference,
        seen: Callable[[SecondaryRequest], None],
        sent: Callable[[SecondaryRequest, int], None],
        *,
        usable: Usable,
        connections: Connections | None = None,
        retry: float,
        give_up: float,
        certificate: XotCertificate | None = None,
        telemetry: Telemetry = NO_TELEMETRY,
        clocks: Callable[[], tuple[int, ...]] = lambda: (int(time.time()),),
    ) -> None:
        self._zones = zones
        self._seen = seen
        self._sent = sent
        self._refusals = Refusals("dns")
        self._acceptors: list[Acceptor] = []
        self.certificate = certificate if certificate is not None else XotCertificate(None)
        self._clocks = clocks
        self._datagrams: list[socket.socket] = []
        self._connections = connections if connections is not None else Connections()
        self._tasks: set[asyncio.Task[None]] = set()
        """The task of each connection."""
        self._idle_writers: set[asyncio.StreamWriter] = set()
        """Connections that wait for a request."""
        self._stopping = False
        self.key_use = KeyUse()
        self.notify = NotifySender(zones, self.key_use, retry, give_up, lambda: clocks()[0])
        self.answered: Counter[tuple[str, str, int]] = Counter()
        """The number of answers by transport ("udp", "tcp", "tls"), by Reply.query_type, and by response code."""
        self.transfers = TransferSender(difference, usable, self._refusals, clocks, telemetry)

    @property
    def listening(self) -> bool:
        """Whether the server was started."""
        return bool(self._acceptors)

    async def start(
        self,
        streams: Sequence[socket.socket],
        datagrams: Sequence[socket.socket],
        tls_streams: Sequence[socket.socket] = (),
    ) -> None:
        """Listens on these bound sockets: TCP, UDP, and TCP for TLS."""
        loop = asyncio.get_running_loop()
        for sockets, protocol in ((streams, self._protocol), (tls_streams, self._tls_protocol)):
            acceptor = Acceptor("dns", self._connections, protocol, refusals=self._refusals)
            acceptor.start(sockets)
            self._acceptors.append(acceptor)
        for bound in datagrams:
            request_destinations(bound)
            loop.add_reader(bound, self._on_request, bound)
            self._datagrams.append(bound)
        self.notify.start()

    async def stop(self) -> None:
        """Accepts no more connections. Waits for first requests, at most DRAIN seconds, then for transfers under way,
        at most SHUTDOWN_GRACE seconds."""
        for bound in self._datagrams:
            asyncio.get_running_loop().remove_reader(bound)
        self.notify.stop()
        await asyncio.gather(*(acceptor.drain() for acceptor in self._acceptors))
        self._stopping = True
        for acceptor in self._acceptors:
            acceptor.stop()
        for writer in self._idle_writers:
            writer.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SHUTDOWN_GRACE)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- UDP -------------------------------------------------------------------------------------------------------

    def _on_request(self, bound: socket.socket) -> None:
        try:
            wire, ancillary, _, source = bound.recvmsg(_DATAGRAM, 256)
        except OSError:
            return
        address = plain(source[0])
        answer, seen = respond(wire, self._zones, address, *self._clocks(), tcp=False)
        if isinstance(answer, Reply):
            self._count("udp", address, answer)
            with contextlib.suppress(OSError):
                bound.sendmsg([answer.wire], answer_source(ancillary), 0, source)
        if seen is not None:
            self._record(seen)

    def _record(self, seen: SecondaryRequest) -> None:
        if seen.key is not None:
            self.key_use.saw(seen.peer, seen.address, seen.key, self._clocks()[0])
        self._seen(seen)

    # -- TCP and TLS -----------------------------------------------------------------------------------------------

    def _protocol(self, accepted: AcceptedConnection, tls: TlsClient | None = None) -> asyncio.StreamReaderProtocol:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2**16 + 2, loop=loop)
        return asyncio.StreamReaderProtocol(
            reader, functools.partial(self._connected, _Client(accepted, tls)), loop=loop
        )

    def _tls_protocol(self, accepted: AcceptedConnection) -> asyncio.BaseProtocol:
        def made(transport: asyncio.WriteTransport) -> None:
            accepted.transport = transport  # the handshake is idle time, and may be ended for another connection

        return TlsProtocol(
            self.certificate.context,
            made,
            lambda tls: self._protocol(accepted, client_of(tls)),
            accepted.closed,
            divide=messages,
            refused=lambda reason: self._refusals.log(accepted.address, "", reason),
        )

    def _connected(
        self, client: _Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Coroutine[None, None, None]:
        client.accepted.transport = writer.transport  # at once: it may be aborted before its task's first step
        return self._handle_connection(client, reader, writer)

    async def _handle_connection(
        self, client: _Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answer_requests(client, reader, writer)
            writer.close()
            async with asyncio.timeout(WRITE_STALL):  # for what the transport still buffers of the last answer
                await writer.wait_closed()
        except (OSError, TimeoutError):
            writer.transport.abort()
        except BlocklistError as error:
            Event.TRANSFER_FAILED.log(log, reason=error)
            writer.transport.abort()
        except Exception as error:
            Event.TRANSFER_FAILED.log(log, reason=type(error).__name__, exc_info=redacted(error))
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            client.accepted.closed()
            writer.close()

    async def _answer_requests(
        self, client: _Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        accepted, tls = client
        transport = "tcp" if tls is None else "tls"
        while not self._stopping:
            self._idle_writers.add(writer)
            accepted.end()
            try:
                async with asyncio.timeout(DNS_IDLE):
                    (size,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = await reader.readexactly(size)
            except (asyncio.IncompleteReadError, TimeoutError):
                return
            finally:
                self._idle_writers.discard(writer)
            if not accepted.has_request:
                accepted.first_request()
            answer, seen = respond(wire, self._zones, accepted.address, *self._clocks(), tcp=True, tls=tls)
            if answer is None:
                return
            if seen is not None:
                if not self._count_for_subscriber(accepted, seen.peer):
                    return
                self._record(seen)
            if isinstance(answer, Reply):
                self._count(transport, accepted.address, answer)
                await send_message(writer, answer.wire)
                await asyncio.sleep(0)  # reading does not yield to the loop while more requests are buffered
            else:
                sent = await self.transfers.send(answer, writer, accepted.address)
                if isinstance(sent, NotSent):
                    self.answered[transport, answer.query_type, sent.rcode] += 1
                elif seen is not None:
                    self._sent(seen, sent)

    def _count_for_subscriber(self, accepted: AcceptedConnection, peer: Peer) -> bool:
        """Counts the connection for the subscriber from now on. False if the subscriber is at its bound."""
        accepted.begin()  # a refused client's connection stays idle, so that it can be closed for another
        if accepted.move(Holder("subscriber", peer.subscriber), self._connections.bounds.per_subscriber):
            return True
        self._refusals.log(accepted.address, peer.subscriber, NO_CONNECTION)
        return False

    def _count(self, transport: str, address: str, answer: Reply) -> None:
        self.answered[transport, answer.query_type, answer.rcode] += 1
        if answer.refused:
            self._refusals.log(address, answer.client, answer.refused)
