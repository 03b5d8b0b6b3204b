"""The DNS server's sockets: UDP, TCP and TLS connections and their bounds, and zone transfers.

serve/dns/query.py decides the answers. A TCP connection is idle, or answers a request, until one side closes it. With
TLS that begins after the handshake (serve/tls_transport.py).
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
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from blocklistd.errors import BlocklistError, StoreError, redacted
from blocklistd.events import Event
from blocklistd.limits import DNS_IDLE, SHUTDOWN_GRACE, WRITE_STALL
from blocklistd.rpz.wire import Apex
from blocklistd.serve.accept import AcceptedConnection, Acceptor
from blocklistd.serve.connections import Connections, Holder, plain
from blocklistd.serve.dns import message as dm
from blocklistd.serve.dns.datagrams import answer_source, request_destinations
from blocklistd.serve.dns.full_transfers import TOO_OFTEN, FullTransfers
from blocklistd.serve.dns.key_use import KeyUse
from blocklistd.serve.dns.notify_sender import NotifySender
from blocklistd.serve.dns.query import Reply, SecondaryRequest, Transfer, respond, sign, time_for
from blocklistd.serve.dns.streams import flush, send, send_message
from blocklistd.serve.dns.transfer import Stream, TransferRecords, axfr, ixfr, messages
from blocklistd.serve.dns.tsig import Signer
from blocklistd.serve.dns.xot import XotCertificate, client_of
from blocklistd.serve.dns.zones import Peer, TlsClient, Zones, ZoneView
from blocklistd.serve.refusals import Refusals
from blocklistd.serve.tls_transport import TlsProtocol
from blocklistd.telemetry import NO_TELEMETRY, Telemetry

log: Final = logging.getLogger(__name__)

Difference = Callable[[ZoneView, int], Awaitable[tuple[Apex, bytes, bytes] | None]]
"""Returns the difference from a serial to the view: the old apex, and the removed and the added records, compiled. None
if the complete zone is smaller, or if deltas are missing."""

Usable = Callable[[ZoneView, bool], Awaitable[ZoneView | None]]
"""Returns the view if its file is intact, else the newest; None while its files are damaged. True: it has messages."""

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
        self._difference = difference
        self._usable = usable
        self._seen = seen
        self._sent = sent
        self._telemetry = telemetry
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
        self._full_transfers = FullTransfers()
        self._stopping = False
        self.key_use = KeyUse()
        self.notify = NotifySender(zones, self.key_use, retry, give_up, lambda: clocks()[0])
        self.answered: Counter[tuple[str, str, int]] = Counter()
        """The number of answers by transport ("udp", "tcp", "tls"), by Reply.query_type, and by response code."""
        self.transfers: Counter[str] = Counter()
        """The number of complete transfers by the type of the answer, "AXFR" or "IXFR"."""
        self.sent_bytes = 0
        """Octets of all transfers, complete or not."""
        self.under_way: Counter[str] = Counter()
        """The number of transfers under way by the type of the query, "AXFR" or "IXFR"."""

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
            acceptor = Acceptor("dns", self._connections, protocol)
            acceptor.start(sockets)
            self._acceptors.append(acceptor)
        for bound in datagrams:
            request_destinations(bound)
            loop.add_reader(bound, self._on_request, bound)
            self._datagrams.append(bound)
        self.notify.start()

    async def stop(self) -> None:
        """Accepts no more connections, and waits for transfers under way, at most SHUTDOWN_GRACE seconds."""
        self._stopping = True
        for bound in self._datagrams:
            asyncio.get_running_loop().remove_reader(bound)
        self.notify.stop()
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

        context, closed = self.certificate.context, accepted.closed
        return TlsProtocol(context, made, lambda tls: self._protocol(accepted, client_of(tls)), closed, messages)

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
                serial = await self._transfer(answer, writer, transport, accepted.address)
                if seen is not None and serial is not None:
                    self._sent(seen, serial)

    def _count_for_subscriber(self, accepted: AcceptedConnection, peer: Peer) -> bool:
        """Counts the connection for the subscriber from now on. False if the subscriber is at its bound."""
        accepted.begin()  # a refused client's connection stays idle, so that it can be closed for another
        if accepted.move(Holder("subscriber", peer.subscriber), self._connections.bounds.per_subscriber):
            return True
        self._refusals.log(accepted.address, peer.subscriber, "it has no connection left (dns.connections)")
        return False

    def _count(self, transport: str, address: str, answer: Reply) -> None:
        self.answered[transport, answer.query_type, answer.rcode] += 1
        if answer.refused:
            self._refusals.log(address, answer.client, answer.refused)

    async def _transfer(
        self, transfer: Transfer, writer: asyncio.StreamWriter, transport: str, address: str
    ) -> int | None:
        """Sends the zone or a difference. Returns the serial; None after SERVFAIL, if the files are damaged, and after
        REFUSED, if the subscriber takes the complete zone too often."""
        query = transfer.query
        query_type = "AXFR" if query.type == dm.AXFR else "IXFR"
        began = time.perf_counter()
        self.under_way[query_type] += 1
        try:
            prepared = await self._prepare(transfer, address)
            if isinstance(prepared, int):
                self.answered[transport, query_type, prepared] += 1
                wire = sign(query, transfer.key, dm.answer(query, prepared), time_for(query, self._clocks()))
                await send_message(writer, wire)
                return None
            transfer, records = prepared
            await self._send_all(transfer, records, writer)
            await flush(writer)
        finally:
            self.under_way[query_type] -= 1
        self.transfers[records.kind] += 1
        self._telemetry.record_transfer(records.kind, time.perf_counter() - began)
        return transfer.view.serial

    async def _prepare(self, transfer: Transfer, address: str) -> tuple[Transfer, TransferRecords] | int:
        """The transfer from intact files, and its records. If it can't be sent, the response code of the answer."""
        records = None
        view = await self._usable(transfer.view, transfer.since is None)
        if view is not None and transfer.since is not None:
            records = await self._difference_records(view, transfer.since)
            view = view if records is not None else await self._usable(view, True)
        if view is None:
            return dm.SERVFAIL
        if records is None:
            assert view.compiled is not None
            records = axfr(view.soa(), view.plan.apex.except_soa(view.serial), view.compiled)
        name = transfer.subscriber, view.plan.name
        if records.kind == "AXFR" and not self._full_transfers.take(*name, time.monotonic()):
            self._refusals.log(address, transfer.subscriber, TOO_OFTEN)
            return dm.REFUSED
        return replace(transfer, view=view), records

    async def _send_all(self, transfer: Transfer, records: TransferRecords, writer: asyncio.StreamWriter) -> None:
        """Sends the records of a difference or of the complete zone.

        Raises StoreError, and sends no more, as soon as the zone's file is found damaged.
        """
        view, query = transfer.view, transfer.query
        signer = None
        if transfer.key is not None and query.tsig is not None:
            signer = Signer(transfer.key, query.tsig.mac)
        stream = Stream(query, records, signer)
        while True:
            # before the read: reading a mapped file that was truncated kills (SIGBUS)
            await self._verify(view, records.kind)
            chunk = stream.take(time_for(query, self._clocks()))
            if not chunk:
                break
            await self._verify(view, records.kind)
            await send(writer, chunk)
            self.sent_bytes += len(chunk)
            await asyncio.sleep(0)  # drain() does not yield to the loop while the client is fast
        Event.ZONE_SENT.log(log, zone=view.plan.name, serial=view.serial)

    async def _verify(self, view: ZoneView, kind: str) -> None:
        """Raises StoreError if the file of a complete zone is damaged. Reads the file only if its fstat has changed."""
        if kind == "IXFR" or view.file is None or view.file.is_unchanged():
            return
        if await self._usable(view, True) is not view:
            raise StoreError(f"zone {view.plan.name}: its file was damaged during a transfer: check the disk")

    async def _difference_records(self, view: ZoneView, since: int) -> TransferRecords | None:
        """The difference from serial `since`; None if the complete zone is to be sent."""
        try:
            difference = await self._difference(view, since)
        except BlocklistError as error:  # no room for it, or a delta was pruned meanwhile
            Event.IXFR_NOT_MADE.log(log, zone=view.plan.name, reason=error)
            difference = None
        if difference is None:
            return None
        (old, removed, added), new = difference, view.plan.apex
        apexes = old.except_soa(since, but=new.ns), new.except_soa(view.serial, but=old.ns)
        return ixfr(view.soa(), old.soa(since), removed, added, *apexes)
