"""The shell of DNS: sockets of both transports, their bounds, and NOTIFY's timer. Decisions: serve/dns/query.py."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Final

from blocklistd.errors import BlocklistError, StoreError, without_text
from blocklistd.events import Event
from blocklistd.limits import DNS_IDLE, DRAIN, WRITE_STALL
from blocklistd.rpz.wire import Apex
from blocklistd.serve.accept import Accepted, Acceptor
from blocklistd.serve.connections import Connections, Holder, plain
from blocklistd.serve.dns import message as dm
from blocklistd.serve.dns.datagrams import asked_address, keep_address
from blocklistd.serve.dns.notify import Notifier, Target
from blocklistd.serve.dns.query import Reply, Seen, Transfer, respond, sign, time_for
from blocklistd.serve.dns.transfer import Sequence as Parts
from blocklistd.serve.dns.transfer import Stream, axfr, ixfr
from blocklistd.serve.dns.tsig import Signer
from blocklistd.serve.dns.zones import Peer, Zones, ZoneView
from blocklistd.serve.refusals import Refusals
from blocklistd.telemetry import NO_TELEMETRY, Telemetry

log: Final = logging.getLogger(__name__)

Difference = Callable[[ZoneView, int], Awaitable[tuple[Apex, bytes, bytes] | None]]
"""From a serial to the view's: what the apex was, what goes and what comes, compiled; None where the whole zone is less
or no deltas lead there."""

Usable = Callable[[ZoneView], Awaitable[ZoneView | None]]
"""The view to send, its file verified: the newest if that one is damaged. None while the zone's files are damaged."""

_DATAGRAM: Final = 4096


class DnsServer:
    """Listens, answers, notifies. `seen` is called for each request of an entitled secondary, `sent` after each
    complete transfer. `clocks` answers Unix seconds: the believed time, and the system's where that may differ."""

    def __init__(
        self,
        zones: Zones,
        difference: Difference,
        seen: Callable[[Seen], None],
        sent: Callable[[Seen, int], None],
        *,
        usable: Usable,
        connections: Connections | None = None,
        retry: float,
        give_up: float,
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
        self._acceptor: Acceptor | None = None
        self._clocks = clocks
        self._datagrams: list[socket.socket] = []
        self._connections = connections if connections is not None else Connections()
        self._tasks: set[asyncio.Task[None]] = set()
        """The task of each connection."""
        self._idle: set[asyncio.StreamWriter] = set()
        """Connections that wait for a request."""
        self._stopping = False
        self._notifier = Notifier(retry, give_up)
        self._timer: asyncio.TimerHandle | None = None
        self._senders: dict[int, socket.socket] = {}
        self.answered: Counter[tuple[str, str, int]] = Counter()
        """Messages by transport, by what was asked for, and by response code."""
        self.transfers: Counter[str] = Counter()
        """Transfers that were sent to their end, by kind."""
        self.sent_bytes = 0
        """Of transfers."""
        self.under_way: Counter[str] = Counter()
        """Transfers now, by what was asked for."""

    @property
    def listening(self) -> bool:
        """Whether it was started."""
        return self._acceptor is not None

    @property
    def told(self) -> Counter[str]:
        """NOTIFYs that were sent, acknowledged, given up."""
        return self._notifier.told

    async def start(self, streams: Sequence[socket.socket], datagrams: Sequence[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        self._acceptor = Acceptor("dns", self._connections, self._protocol)
        self._acceptor.start(streams)
        for bound in datagrams:
            keep_address(bound)
            loop.add_reader(bound, self._received, bound)
            self._datagrams.append(bound)
        for family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                sender = socket.socket(family, socket.SOCK_DGRAM)
                sender.setblocking(False)
                loop.add_reader(sender, self._acknowledged, sender)
                self._senders[family] = sender

    async def stop(self) -> None:
        """Takes no more connections, and lets transfers under way end (DRAIN seconds)."""
        self._stopping = True
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        for bound in [*self._datagrams, *self._senders.values()]:
            loop.remove_reader(bound)
        for sender in self._senders.values():
            sender.close()
        if self._acceptor is not None:
            self._acceptor.stop()
        for writer in self._idle:
            writer.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- UDP -------------------------------------------------------------------------------------------------------

    def _received(self, bound: socket.socket) -> None:
        try:
            wire, ancillary, _, source = bound.recvmsg(_DATAGRAM, 256)
        except OSError:
            return
        address = plain(source[0])
        answer, seen = respond(wire, self._zones, address, *self._clocks(), tcp=False)
        if isinstance(answer, Reply):
            self._count("udp", address, answer)
            with contextlib.suppress(OSError):  # from the address that was asked: what we were told of it goes back
                bound.sendmsg([answer.wire], asked_address(ancillary), 0, source)
        if seen is not None:
            self._seen(seen)

    # -- TCP -------------------------------------------------------------------------------------------------------

    def _protocol(self, accepted: Accepted) -> asyncio.BaseProtocol:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2**16 + 2, loop=loop)
        return asyncio.StreamReaderProtocol(reader, functools.partial(self._connected, accepted), loop=loop)

    def _connected(
        self, accepted: Accepted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Coroutine[None, None, None]:
        accepted.transport = (
            writer.transport
        )  # here, so that the connection can be aborted before its task's first step
        return self._serve(accepted, reader, writer)

    async def _serve(self, accepted: Accepted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._converse(accepted, reader, writer)
            writer.close()
            async with asyncio.timeout(WRITE_STALL):  # the last answer may still be on its way
                await writer.wait_closed()
        except (OSError, TimeoutError):
            writer.transport.abort()
        except BlocklistError as error:
            Event.TRANSFER_FAILED.log(log, reason=error)
            writer.transport.abort()
        except Exception as error:
            Event.TRANSFER_FAILED.log(log, reason=type(error).__name__, exc_info=without_text(error))
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            accepted.ended()
            writer.close()

    async def _converse(self, accepted: Accepted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self._stopping:
            self._idle.add(writer)
            accepted.end()
            try:
                async with asyncio.timeout(DNS_IDLE):
                    (size,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = await reader.readexactly(size)
            except (asyncio.IncompleteReadError, TimeoutError):
                return
            finally:
                self._idle.discard(writer)
            answer, seen = respond(wire, self._zones, accepted.address, *self._clocks(), tcp=True)
            if answer is None:
                return
            if seen is not None:
                if not self._has_place(accepted, seen.peer):
                    return  # a refused client's connection stays idle, so that it can be closed for another
                self._seen(seen)
            if isinstance(answer, Reply):
                self._count("tcp", accepted.address, answer)
                await _send(writer, struct.pack("!H", len(answer.wire)) + answer.wire)
                await asyncio.sleep(0)  # what was sent ahead is there already: the others have their turn here
            else:
                serial = await self._transfer(answer, writer)
                if seen is not None and serial is not None:
                    self._sent(seen, serial)

    def _has_place(self, accepted: Accepted, peer: Peer) -> bool:
        """Counts the connection for the subscriber from now on. False where the subscriber is at its bound."""
        accepted.begin()
        if accepted.move(Holder("subscriber", peer.subscriber), self._connections.bounds.per_subscriber):
            return True
        self._refusals.tell(accepted.address, peer.subscriber, "it has no connection left (dns.connections)")
        return False

    def _count(self, transport: str, address: str, answer: Reply) -> None:
        self.answered[transport, answer.asked, answer.rcode] += 1
        if answer.refused:
            self._refusals.tell(address, answer.who, answer.refused)

    async def _transfer(self, transfer: Transfer, writer: asyncio.StreamWriter) -> int | None:
        """Sends the zone or a difference. The serial that was sent completely; None where the files are damaged."""
        query = transfer.query
        asked = "AXFR" if query.type == dm.AXFR else "IXFR"
        began = time.perf_counter()
        self.under_way[asked] += 1
        try:
            view = await self._usable(transfer.view)
            if view is None:
                failure = sign(query, transfer.key, dm.answer(query, dm.SERVFAIL), time_for(query, self._clocks()))
                self.answered["tcp", asked, dm.SERVFAIL] += 1
                await _send(writer, struct.pack("!H", len(failure)) + failure)
                return None
            kind = await self._send_all(replace(transfer, view=view), writer)
            await _flushed(writer)
        finally:
            self.under_way[asked] -= 1
        self.transfers[kind] += 1
        self._telemetry.record_transfer(kind, time.perf_counter() - began)
        return view.serial

    async def _send_all(self, transfer: Transfer, writer: asyncio.StreamWriter) -> str:
        """Sends a difference or the whole zone; answers which. Raises StoreError, and sends no more, once the
        zone's file is damaged."""
        view, query = transfer.view, transfer.query
        signer = None
        if transfer.key is not None and query.tsig is not None:
            signer = Signer(transfer.key, query.tsig.mac)
        kind, parts = await self._parts(transfer)
        stream = Stream(query, parts, signer)
        while True:
            await self._verify(view, kind)  # a file that was cut short can't be read at all
            chunk = stream.take(time_for(query, self._clocks()))
            if not chunk:
                break
            await self._verify(view, kind)
            await _send(writer, chunk)
            self.sent_bytes += len(chunk)
            await asyncio.sleep(0)  # drain() does not yield to a fast client: the others have their turn here
        Event.ZONE_SENT.log(log, zone=view.plan.name, serial=view.serial)
        return kind

    async def _verify(self, view: ZoneView, kind: str) -> None:
        """Looks whether the file of a whole zone was touched: one fstat, and only if so it is read."""
        if kind == "IXFR" or view.file is None or view.file.is_unchanged():
            return
        if await self._usable(view) is not view:
            raise StoreError(f"zone {view.plan.name}: its file was damaged while it was sent")

    async def _parts(self, transfer: Transfer) -> tuple[str, Parts]:
        view = transfer.view
        new = view.plan.apex
        if transfer.since is not None:
            try:
                difference = await self._difference(view, transfer.since)
            except BlocklistError as error:  # no room for it, or a delta was pruned meanwhile
                Event.IXFR_NOT_MADE.log(log, zone=view.plan.name, reason=error)
                difference = None
            if difference is not None:
                old, goes, comes = difference
                changed = old.servers(but=new.ns), new.servers(but=old.ns)
                return "IXFR", ixfr(view.soa(), old.soa(transfer.since), goes, comes, *changed)
        return "AXFR", axfr(view.soa(), new.servers(), view.compiled)

    # -- NOTIFY ----------------------------------------------------------------------------------------------------

    def announce(self, view: ZoneView) -> None:
        """Tells everyone who is entitled to the zone and wants to hear of it that it has a new serial."""
        now = asyncio.get_running_loop().time()
        for target in self._targets(view.name):
            self._notifier.change(target, view.serial, view.soa(), now)
        self._tick()

    def _targets(self, zone: bytes) -> Iterable[Target]:
        for peer in self._zones.peers:
            if zone in peer.zones:
                key = peer.keys[0] if peer.keys and not peer.networks else None
                yield from (Target(address, zone, key) for address in peer.notify)

    def entitled(self) -> None:
        """Subscribers have changed: who lost a zone hears no more of it."""
        self._notifier.forget({target for zone in self._zones.views() for target in self._targets(zone)})

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for (host, port), wire in self._notifier.due(loop.time(), self._clocks()[0]):
            sender = self._senders.get(socket.AF_INET6 if ":" in host else socket.AF_INET)
            if sender is not None:
                with contextlib.suppress(OSError):
                    sender.sendto(wire, (host, port))
        following = self._notifier.next_time()
        if following is not None:
            self._timer = loop.call_at(following, self._tick)

    def _acknowledged(self, sender: socket.socket) -> None:
        with contextlib.suppress(OSError):
            wire, source = sender.recvfrom(_DATAGRAM)
            self._notifier.receive(wire, (source[0], source[1]))


async def _send(writer: asyncio.StreamWriter, data: bytes | bytearray) -> None:
    if writer.is_closing():  # uvloop raises RuntimeError for a write to a closing transport
        raise ConnectionResetError("the client went away")
    writer.write(data)
    async with asyncio.timeout(WRITE_STALL):
        await writer.drain()


async def _flushed(writer: asyncio.StreamWriter) -> None:
    """Waits until the kernel has taken all bytes. Raises OSError, TimeoutError."""
    transport = writer.transport
    low, high = transport.get_write_buffer_limits()
    transport.set_write_buffer_limits(0)
    await _send(writer, b"")
    transport.set_write_buffer_limits(high, low)
    if writer.is_closing():
        raise ConnectionResetError("the client went away")
