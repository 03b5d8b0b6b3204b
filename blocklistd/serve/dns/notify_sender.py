"""Sends NOTIFY: the sockets and the timer of the state machine in serve/dns/notify.py.

Order of calls: `start`; `announce` for each new serial; `drop_unentitled` after each change of the
subscribers or of the zones; `stop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterable

from blocklistd.limits import MAX_DNS_REQUEST
from blocklistd.serve.dns.key_use import KeyUse
from blocklistd.serve.dns.notify import Notifier, NotifyTarget
from blocklistd.serve.dns.zones import Zones, ZoneView


class NotifySender:
    """Notifies the secondaries of the zones in `zones`. `retry` and `give_up` are those of Notifier, in seconds.
    `clock` returns Unix seconds, for signatures, whose keys `key_use` chooses."""

    def __init__(self, zones: Zones, key_use: KeyUse, retry: float, give_up: float, clock: Callable[[], int]) -> None:
        self._zones = zones
        self._key_use = key_use
        self._clock = clock
        self._notifier = Notifier(retry, give_up)
        self._timer: asyncio.TimerHandle | None = None
        self._senders: dict[int, socket.socket] = {}

    @property
    def counts(self) -> Counter[str]:
        """The number of NOTIFY requests by outcome: "sent", "acknowledged", "given up"."""
        return self._notifier.outcomes

    @property
    def unanswered(self) -> dict[NotifyTarget, int]:
        """The number of requests to each target since it last acknowledged one; targets that did have no key."""
        return dict(self._notifier.unanswered)

    def start(self) -> None:
        """Opens a socket for each address family that the host has."""
        for family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                sender = socket.socket(family, socket.SOCK_DGRAM)
                sender.setblocking(False)
                asyncio.get_running_loop().add_reader(sender, self._on_answer, sender)
                self._senders[family] = sender

    def stop(self) -> None:
        """Sends no more, and closes the sockets."""
        if self._timer is not None:
            self._timer.cancel()
        for sender in self._senders.values():
            asyncio.get_running_loop().remove_reader(sender)
            sender.close()

    def announce(self, view: ZoneView, subscriber: str | None = None) -> None:
        """Sends NOTIFY of the view's serial to all secondaries of the zone, until each acknowledges it. `subscriber`:
        to the secondaries of this one only; of a catalog each subscriber has its own."""
        now = asyncio.get_running_loop().time()
        for target in self._targets(view.name, subscriber):
            self._notifier.change(target, view.serial, view.soa(), now)
        self._send()

    def _targets(self, zone: bytes, subscriber: str | None = None) -> Iterable[NotifyTarget]:
        now = self._clock()
        for peer in self._zones.peers:
            if self._zones.entitles(peer, zone) and subscriber in (None, peer.subscriber):
                for address in peer.notify:
                    yield NotifyTarget(address, zone, self._key_use.key_for(peer, address[0], now), peer.subscriber)

    def drop_unentitled(self) -> None:
        """Ends pending requests to secondaries without the zone, and those of zones that are gone."""
        self._notifier.forget({target for zone in self._zones.names() for target in self._targets(zone)})

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for (host, port), wire in self._notifier.due(loop.time(), self._clock()):
            sender = self._senders.get(socket.AF_INET6 if ":" in host else socket.AF_INET)
            if sender is not None:
                with contextlib.suppress(OSError):
                    sender.sendto(wire, (host, port))
        following = self._notifier.next_time()
        if following is not None:
            self._timer = loop.call_at(following, self._send)

    def _on_answer(self, sender: socket.socket) -> None:
        with contextlib.suppress(OSError):
            wire, source = sender.recvfrom(MAX_DNS_REQUEST)
            self._notifier.receive(wire, (source[0], source[1]))
