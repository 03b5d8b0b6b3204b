"""The records of a zone transfer, message by message: complete (RFC 5936) or as differences (RFC 1995). Pure.

States of a ZoneTransfer: begins (no SOA yet) → undecided (the SOA has arrived) → complete or differences → done. It is
done after the first SOA already if the zone has not changed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from blocklistd.sources.transports.axfr import AFTER_END, NO_SOA, OTHER_SOA
from blocklistd.sources.transports.zone_wire import WireRecord

AXFR: Final = 252
IXFR: Final = 251


class TransferError(Exception):
    """The records are no zone transfer, or no more than the beginning of one. The text is one of the messages in
    axfr.py."""


class Content(enum.Enum):
    """The content of a transfer."""

    SAME = enum.auto()
    """The zone has not changed."""
    COMPLETE = enum.auto()
    """All records of the zone."""
    DIFFERENCES = enum.auto()
    """The removed and added records since the known serial."""


class ZoneTransfer:
    """Writes the records of a transfer as text: a master file, or the differences as formats/rpz_zone.py reads them.

    `known`: the serial from which differences were requested; None for a complete zone. `zone`: its name, with the
    final dot. `content`: None while it is undecided. `serial`: of the zone, after the first record.
    """

    def __init__(self, zone: bytes, known: int | None = None) -> None:
        self.content: Content | None = None
        self.done = False
        self.serial = 0
        self._zone = zone
        self._known = known
        self._soa: WireRecord | None = None
        self._removes = False
        self._reached = 0  # the serial after the last of the differences

    def read(self, records: Iterable[WireRecord]) -> bytes:
        """The text of the next records. Raises TransferError."""
        return b"".join(text for record in records if (text := self._read(record)))

    def _read(self, record: WireRecord) -> bytes:
        if self.done:
            raise TransferError(AFTER_END)
        if self._soa is None:
            if not record.is_apex_soa:
                raise TransferError(NO_SOA)
            self._soa, self.serial = record, record.serial
            if self._known == record.serial:
                self.content, self.done = Content.SAME, True
            return b""
        if self.content is Content.DIFFERENCES:
            return self._difference(record)
        if self.content is Content.COMPLETE:
            return self._record(record)
        head = b"$ORIGIN %b\n" % self._zone
        if record.is_apex_soa and self._known == record.serial:
            self.content, self._removes = Content.DIFFERENCES, True
            return head + b"-" + record.line()
        text = self._record(record)
        self.content = Content.COMPLETE
        return head + self._soa.line() + text

    def _record(self, record: WireRecord) -> bytes:
        assert self._soa is not None
        if not record.is_apex_soa:
            return record.line()
        if record.data != self._soa.data:
            raise TransferError(OTHER_SOA)
        self.done = True
        return b""

    def _difference(self, record: WireRecord) -> bytes:
        assert self._soa is not None
        if record.is_apex_soa:
            if self._removes:
                self._removes, self._reached = False, record.serial
            elif record.data == self._soa.data:
                if self._reached != record.serial:
                    raise TransferError(OTHER_SOA)
                self.done = True
                return b""
            elif record.serial == self._reached:
                self._removes = True
            else:
                raise TransferError(OTHER_SOA)
        return (b"-" if self._removes else b"+") + record.line()
