"""Sends NOTIFY requests (RFC 1996): a state machine from the time and datagrams to datagrams. Pure.

The state is one pending NOTIFY for each target and zone:
    change()             replaces it: new id, newest serial, due at once
    due()                returns its datagram if it is due, and doubles the pause to the next attempt (at most MAX_PAUSE
                         seconds); removes it `give_up` seconds after the change
    receive()            removes it if the datagram acknowledges it
    forget()             removes it if the target is not notified any more
After change() and due() the caller asks next_time() for the time of the next call of due().
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from blocklistd.serve.dns.message import AA, IN, NOTIFY, QR, SOA
from blocklistd.serve.dns.tsig import Key, Signer

BACKOFF: Final = 2.0
MAX_PAUSE: Final = 60.0  # seconds between two attempts

Endpoint = tuple[str, int]
"""Address and UDP port."""


@dataclass(frozen=True, slots=True)
class NotifyTarget:
    """A secondary that is notified of one zone (`zone` in wire format). `key` signs the requests; None: unsigned. It
    does not tell targets apart: it changes when the subscriber has a new one."""

    address: Endpoint
    zone: bytes
    key: Key | None = field(default=None, compare=False)
    subscriber: str = ""


@dataclass(slots=True)
class _Pending:
    """A NOTIFY that is not acknowledged yet. Times are monotonic seconds; `pause` follows the next attempt."""

    ident: int
    serial: int
    soa: bytes
    begun: float
    due: float
    pause: float


class Notifier:
    """The pending NOTIFY requests.

    `now` is seconds of one monotonic clock, `wall` Unix seconds for signatures. `retry`: seconds to the second attempt.
    `give_up`: seconds after which no more attempt is made, so that the secondary learns of the serial by its refresh.
    """

    def __init__(self, retry: float, give_up: float, next_id: int = 1) -> None:
        self._retry = retry
        self._give_up = give_up
        self._next = next_id
        self._pending: dict[NotifyTarget, _Pending] = {}
        self.unanswered: Counter[NotifyTarget] = Counter()
        """The number of requests to each target since it last acknowledged one."""
        self.outcomes: Counter[str] = Counter()
        """The number of requests by outcome: "sent", "acknowledged", "given up"."""

    def change(self, target: NotifyTarget, serial: int, soa: bytes, now: float) -> None:
        """Makes a NOTIFY of the new serial pending, in place of an older one. `soa` is the new SOA record."""
        self._next = self._next % 0xFFFF + 1
        self._pending.pop(target, None)  # an equal target may have another key
        self._pending[target] = _Pending(self._next, serial, soa, now, now, self._retry)

    def forget(self, remaining: set[NotifyTarget]) -> None:
        """Removes the pending requests to all targets that are not in `remaining`."""
        for target in self._pending.keys() - remaining:
            del self._pending[target]
        for target in self.unanswered.keys() - remaining:
            del self.unanswered[target]

    def due(self, now: float, wall: int) -> list[tuple[Endpoint, bytes]]:
        """The datagrams to send now, with their destinations."""
        datagrams = []
        for target, pending in list(self._pending.items()):
            if now < pending.due:
                continue
            if now - pending.begun > self._give_up:
                del self._pending[target]
                self.outcomes["given up"] += 1
                continue
            self.outcomes["sent"] += 1
            self.unanswered[target] += 1
            datagrams.append((target.address, _message(target, pending, wall)))
            pending.due = now + pending.pause
            pending.pause = min(pending.pause * BACKOFF, MAX_PAUSE)
        return datagrams

    def next_time(self) -> float | None:
        """The time of the next call of `due`; None if nothing is pending."""
        return min((pending.due for pending in self._pending.values()), default=None)

    def receive(self, wire: bytes, source: Endpoint) -> bool:
        """Whether the datagram acknowledges a pending NOTIFY, which is then removed.

        It does if it comes from the target, has the id of the request and, if it repeats the question, the zone (RFC
        1996 3.6). An answer with an error acknowledges it too: another attempt would get the same error, and the
        secondary finds the serial by its refresh.
        """
        if len(wire) < 12:
            return False
        ident, flags, questions = struct.unpack_from("!HHH", wire)
        if not flags & QR or flags >> 11 & 15 != NOTIFY:
            return False
        for target, pending in self._pending.items():
            if pending.ident != ident or target.address != source:
                continue
            if not questions or wire[12 : 12 + len(target.zone)].lower() == target.zone:
                del self._pending[target]
                self.unanswered.pop(target, None)
                self.outcomes["acknowledged"] += 1
                return True
        return False


def _message(target: NotifyTarget, pending: _Pending, wall: int) -> bytes:
    """The NOTIFY request. The answer section has the new SOA, which the secondary need not believe (RFC 1996 3.7)."""
    wire = (
        struct.pack("!6H", pending.ident, NOTIFY << 11 | AA, 1, 1, 0, 0)
        + target.zone
        + struct.pack("!HH", SOA, IN)
        + pending.soa
    )
    return wire if target.key is None else Signer(target.key).sign(wire, wall)
