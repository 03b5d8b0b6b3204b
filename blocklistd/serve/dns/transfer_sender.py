"""Sends zone transfers: chooses between a difference and the complete zone, bounds them, and writes the messages.

The records are those of serve/dns/transfer.py. While a difference is sent to several secondaries, they share one copy
of it in memory; a complete zone is mapped from its file.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final
from weakref import WeakValueDictionary

from blocklistd.errors import BlocklistError, StoreError
from blocklistd.events import Event
from blocklistd.limits import REFUSALS_PERIOD
from blocklistd.rpz.wire import Apex
from blocklistd.serve.dns import message as dm
from blocklistd.serve.dns.full_transfers import TOO_OFTEN, FullTransfers, share_of_zone
from blocklistd.serve.dns.query import Transfer, sign, time_for
from blocklistd.serve.dns.streams import flush, send, send_message
from blocklistd.serve.dns.transfer import Stream, TransferRecords, axfr, ixfr
from blocklistd.serve.dns.tsig import Signer
from blocklistd.serve.dns.zones import ZoneView
from blocklistd.serve.refusals import Refusals
from blocklistd.telemetry import Telemetry

log: Final = logging.getLogger(__name__)

Difference = Callable[[ZoneView, int], Awaitable[tuple[Apex, bytes, bytes] | None]]
"""Returns the difference from a serial to the view: the old apex, and the removed and the added records, compiled. None
if the complete zone is smaller, or if deltas are missing."""

Usable = Callable[[ZoneView, bool], Awaitable[ZoneView | None]]
"""Returns the view itself if its file is intact, else the newest view; None while the zone's files are damaged. The
bool: whether the complete zone is to be sent. Then it waits until the messages of the view are compiled."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """A transfer that was refused. `rcode`: the response code of the answer, SERVFAIL or REFUSED."""

    rcode: int


class TransferSender:
    """Sends transfers and counts them. `clocks`: as for DnsServer. `refusals`: logs the transfers that are refused."""

    def __init__(
        self,
        difference: Difference,
        usable: Usable,
        refusals: Refusals,
        clocks: Callable[[], tuple[int, ...]],
        telemetry: Telemetry,
    ) -> None:
        self._difference = difference
        self._usable = usable
        self._refusals = refusals
        self._clocks = clocks
        self._telemetry = telemetry
        self._full_transfers = FullTransfers()
        self._differences: WeakValueDictionary[tuple[bytes, int, int], TransferRecords] = WeakValueDictionary()
        """The differences that are being sent, by zone, serial of the client, and serial of the view."""
        self._not_made: dict[str, float] = {}
        """When the log last had the reason why no difference of a zone could be made, in monotonic seconds."""
        self.complete: Counter[str] = Counter()
        """The number of complete transfers by the type of the answer, "AXFR" or "IXFR"."""
        self.sent_bytes = 0
        """Octets of all transfers, complete or not."""
        self.under_way: Counter[str] = Counter()
        """The number of transfers under way by the type of the query, "AXFR" or "IXFR"."""

    async def send(self, transfer: Transfer, writer: asyncio.StreamWriter, address: str) -> int | NotSent:
        """Sends the zone or a difference to a client at `address`. Returns the serial.

        NotSent: the files are damaged, or the subscriber takes the complete zone too often; the answer says so. Raises
        StoreError if the zone's file is found damaged while it is sent, and what `streams.send` raises.
        """
        query = transfer.query
        began = time.perf_counter()
        self.under_way[transfer.query_type] += 1
        try:
            prepared = await self._prepare(transfer, address)
            if isinstance(prepared, NotSent):
                answer = dm.answer(query, prepared.rcode)
                await send_message(writer, sign(query, transfer.key, answer, time_for(query, self._clocks())))
                return prepared
            transfer, records = prepared
            await self._send_all(transfer, records, writer)
            await flush(writer)
        finally:
            self.under_way[transfer.query_type] -= 1
        self.complete[records.kind] += 1
        self._telemetry.record_transfer(records.kind, time.perf_counter() - began)
        return transfer.view.serial

    async def _prepare(self, transfer: Transfer, address: str) -> tuple[Transfer, TransferRecords] | NotSent:
        """The transfer with a view whose files are intact, and its records. NotSent: why it is not sent."""
        records = None
        view = await self._usable(transfer.view, transfer.since is None)
        if view is not None and transfer.since is not None:
            records = await self._difference_records(view, transfer.since)
            view = view if records is not None else await self._usable(view, True)
        if view is None:
            return NotSent(dm.SERVFAIL)
        if records is None:
            assert view.compiled is not None
            records = axfr(view.soa(), view.plan.apex.except_soa(view.serial), view.compiled)
        # a serial that is not compiled yet differs little from the one before
        share = share_of_zone(records, len(view.compiled)) if view.compiled is not None else 0.0
        if not self._full_transfers.take(transfer.subscriber, view.plan.name, time.monotonic(), share):
            self._refusals.log(address, transfer.subscriber, TOO_OFTEN)
            return NotSent(dm.REFUSED)
        return replace(transfer, view=view), records

    async def _difference_records(self, view: ZoneView, since: int) -> TransferRecords | None:
        """The difference from serial `since`; None if the complete zone is to be sent."""
        key = view.name, since, view.serial
        if (shared := self._differences.get(key)) is not None:
            return shared
        try:
            difference = await self._difference(view, since)
        except BlocklistError as error:  # the disk is full, or a delta was pruned meanwhile
            self._log_not_made(view.plan.name, error)
            difference = None
        if difference is None:
            return None
        (old, removed, added), new = difference, view.plan.apex
        apexes = old.except_soa(since, but=new.ns), new.except_soa(view.serial, but=old.ns)
        return self._differences.setdefault(key, ixfr(view.soa(), old.soa(since), removed, added, *apexes))

    def _log_not_made(self, zone: str, error: BlocklistError) -> None:
        now, last = time.monotonic(), self._not_made.get(zone)
        if last is None or now - last >= REFUSALS_PERIOD:
            self._not_made[zone] = now
            Event.IXFR_NOT_MADE.log(log, zone=zone, reason=error)

    async def _send_all(self, transfer: Transfer, records: TransferRecords, writer: asyncio.StreamWriter) -> None:
        view, query = transfer.view, transfer.query
        signer = None
        if transfer.key is not None and query.tsig is not None:
            signer = Signer(transfer.key, query.tsig.mac)
        stream = Stream(query, records, signer)
        while True:
            is_sent = not writer.transport.get_write_buffer_size()
            try:
                chunk = stream.take(time_for(query, self._clocks()), reuse=is_sent)
            except StoreError:
                await self._verify(view, records.kind)
                raise
            if not chunk:
                break
            await self._verify(view, records.kind)  # after the read: what was read from an unchanged file is right
            await send(writer, chunk)
            self.sent_bytes += len(chunk)
        Event.ZONE_SENT.log(log, zone=view.plan.name, serial=view.serial)

    async def _verify(self, view: ZoneView, kind: str) -> None:
        """Raises StoreError if the file of a complete zone is damaged. Reads the file only if its status (fstat) has
        changed."""
        if kind == "IXFR" or view.file is None or view.file.is_unchanged():
            return
        if await self._usable(view, True) is not view:
            raise StoreError(f"zone {view.plan.name}: its file was damaged during a transfer: check the disk")
