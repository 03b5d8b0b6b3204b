"""The shell of DNS: sockets of both transports, their bounds, and NOTIFY's timer. Decisions: serve/dns/query.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from blocklistd.errors import BlocklistError, StoreError, without_text
from blocklistd.limits import DNS_CONNECTIONS, DNS_IDLE, DRAIN, WRITE_STALL
from blocklistd.rpz.wire import Apex
from blocklistd.serve.dns import message as dm
from blocklistd.serve.dns.notify import Notifier, Target
from blocklistd.serve.dns.query import Reply, Seen, Transfer, respond, sign
from blocklistd.serve.dns.transfer import Sequence as Parts
from blocklistd.serve.dns.transfer import Stream, axfr, ixfr
from blocklistd.serve.dns.tsig import Signer
from blocklistd.serve.dns.zones import Zones, ZoneView
from blocklistd.telemetry import UNHEARD, Stations

log: Final = logging.getLogger(__name__)

Difference = Callable[[ZoneView, int], Awaitable[tuple[Apex, bytes, bytes] | None]]
"""From a serial to the view's: what the apex was, what goes and what comes, compiled; None where the whole zone is less
or no deltas lead there."""

Usable = Callable[[ZoneView], Awaitable[ZoneView | None]]
"""The view to send, its file verified: the newest if that one is damaged. None while the zone's files are damaged."""

_DATAGRAM: Final = 4096
_PKTINFO: Final = socket.IPV6_PKTINFO
_PKTINFO4: Final = 8  # IP_PKTINFO of Linux; the socket module names it from Python 3.12 on


class DnsServer:
    """Listens, answers, notifies. `seen` hears of every entitled secondary that asks."""

    def __init__(
        self,
        zones: Zones,
        difference: Difference,
        seen: Callable[[Seen], None],
        *,
        usable: Usable,
        retry: float,
        give_up: float,
        stations: Stations = UNHEARD,
    ) -> None:
        self._zones = zones
        self._difference = difference
        self._usable = usable
        self._seen = seen
        self._stations = stations
        self._servers: list[asyncio.Server] = []
        self._datagrams: list[socket.socket] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._idle: dict[asyncio.StreamWriter, None] = {}
        """Connections that wait for a request, the longest first."""
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
        return bool(self._servers)

    @property
    def told(self) -> Counter[str]:
        """NOTIFYs that were sent, acknowledged, given up."""
        return self._notifier.told

    async def start(self, streams: Sequence[socket.socket], datagrams: Sequence[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for bound in streams:
            self._servers.append(await asyncio.start_server(self._connected, sock=bound, limit=2**16 + 2))
        for bound in datagrams:
            if bound.family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                bound.setsockopt(socket.IPPROTO_IP, _PKTINFO4, 1)
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
        for server in self._servers:
            server.close()
        for writer in self._idle:
            writer.close()
        if self._connections:
            await asyncio.wait(self._connections, timeout=DRAIN)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    # -- UDP -------------------------------------------------------------------------------------------------------

    def _received(self, bound: socket.socket) -> None:
        try:
            wire, ancillary, _, source = bound.recvmsg(_DATAGRAM, 256)
        except OSError:
            return
        answer, seen = respond(wire, self._zones, source[0].partition("%")[0], int(time.time()), tcp=False)
        if isinstance(answer, Reply):
            self.answered["udp", answer.asked, answer.rcode] += 1
            with contextlib.suppress(OSError):  # from the address that was asked: what we were told of it goes back
                bound.sendmsg([answer.wire], [_back(item) for item in ancillary if _is_pktinfo(item)], 0, source)
        self._notice(seen)

    # -- TCP -------------------------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= DNS_CONNECTIONS and not self._end_longest_idle():
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
            writer.close()
            async with asyncio.timeout(WRITE_STALL):  # the last answer may still be on its way
                await writer.wait_closed()
        except (OSError, TimeoutError):
            writer.transport.abort()
        except BlocklistError as error:
            log.error("a transfer failed: %s", error)
            writer.transport.abort()
        except Exception as error:
            log.error("a transfer failed: %s", type(error).__name__, exc_info=without_text(error))
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    def _end_longest_idle(self) -> bool:
        """Makes room for a connection; whether one only waited (RFC 7766 6.2.3: a server may close it at any time)."""
        longest = next(iter(self._idle), None)
        if longest is None:
            return False
        del self._idle[longest]
        longest.transport.abort()
        return True

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        if peer is None:
            return  # gone before it was looked at
        address = str(peer[0]).partition("%")[0]
        while not self._stopping:
            self._idle[writer] = None
            try:
                async with asyncio.timeout(DNS_IDLE):
                    (size,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = await reader.readexactly(size)
            except (asyncio.IncompleteReadError, TimeoutError):
                return
            finally:
                self._idle.pop(writer, None)
            answer, seen = respond(wire, self._zones, address, int(time.time()), tcp=True)
            if answer is None:
                return
            if isinstance(answer, Reply):
                self.answered["tcp", answer.asked, answer.rcode] += 1
                await _send(writer, struct.pack("!H", len(answer.wire)) + answer.wire)
            else:
                await self._transfer(answer, writer)
            self._notice(seen)

    async def _transfer(self, transfer: Transfer, writer: asyncio.StreamWriter) -> None:
        query = transfer.query
        asked = "AXFR" if query.type == dm.AXFR else "IXFR"
        began = time.perf_counter()
        self.under_way[asked] += 1
        try:
            view = await self._usable(transfer.view)
            if view is None:
                failure = sign(query, transfer.key, dm.answer(query, dm.SERVFAIL), int(time.time()))
                self.answered["tcp", asked, dm.SERVFAIL] += 1
                await _send(writer, struct.pack("!H", len(failure)) + failure)
                return
            kind = await self._send_all(replace(transfer, view=view), writer)
        finally:
            self.under_way[asked] -= 1
        self.transfers[kind] += 1
        self._stations.transferred(kind, time.perf_counter() - began)

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
            chunk = stream.take(int(time.time()))
            if not chunk:
                break
            await self._verify(view, kind)
            await _send(writer, chunk)
            self.sent_bytes += len(chunk)
            await asyncio.sleep(0)  # drain() does not yield to a fast client: the others have their turn here
        log.debug("zone %s: serial %d sent", view.plan.name, view.serial)
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
                log.error("zone %s: the whole of it goes out instead of a difference: %s", view.plan.name, error)
                difference = None
            if difference is not None:
                old, goes, comes = difference
                changed = old.servers(but=new.ns), new.servers(but=old.ns)
                return "IXFR", ixfr(view.soa(), old.soa(transfer.since), goes, comes, *changed)
        return "AXFR", axfr(view.soa(), new.servers(), view.compiled)

    def _notice(self, seen: Seen | None) -> None:
        if seen is not None:
            self._seen(seen)

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
        for (host, port), wire in self._notifier.due(loop.time(), int(time.time())):
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


def _is_pktinfo(item: tuple[int, int, bytes]) -> bool:
    return item[:2] in ((socket.IPPROTO_IPV6, _PKTINFO), (socket.IPPROTO_IP, _PKTINFO4))


def _back(item: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    """The address that was asked, as the one to answer from (ip(7): ipi_spec_dst; the interface is left open)."""
    level, kind, data = item
    if level == socket.IPPROTO_IPV6:
        return level, kind, data[:16] + struct.pack("@i", 0)
    return level, kind, struct.pack("@i4s4s", 0, data[8:12], b"\0" * 4)


async def _send(writer: asyncio.StreamWriter, data: bytes | bytearray) -> None:
    writer.write(data)
    async with asyncio.timeout(WRITE_STALL):
        await writer.drain()
