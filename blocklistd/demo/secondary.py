"""A DNS secondary on loopback, with dnspython: receives NOTIFY, requests IXFR, and reports each new serial."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.tsig
import dns.xfr
import dns.zone


class DemoSecondary:
    """A secondary of one zone, in its own thread. `arrived` is called in that thread with each new serial.

    Order of calls: `start`, `stop`; `address` is valid before `start`.
    """

    def __init__(self, zone: str, arrived: Callable[[int], None]) -> None:
        self._origin = dns.name.from_text(zone)
        self._zone: Any = dns.zone.Zone(self._origin, relativize=False)
        self._arrived = arrived
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._primary = ("", 0)
        self._key: dns.tsig.Key | None = None

    @property
    def address(self) -> str:
        """The address for NOTIFY."""
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def start(self, port: int, key: dns.tsig.Key) -> None:
        """Transfers the zone from this port on loopback, then follows each NOTIFY."""
        self._primary, self._key = ("127.0.0.1", port), key
        self._thread.start()

    def stop(self) -> None:
        """Closes the socket; the thread then ends."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in recvfrom
        self._socket.close()  # a transfer under way ends by itself

    def _follow(self) -> None:
        with contextlib.suppress(dns.exception.DNSException, OSError, EOFError):
            self._transfer()
        while True:
            try:
                wire, source = self._socket.recvfrom(4096)
                message = dns.message.from_wire(wire, keyring=self._key)
                if message.opcode() == dns.opcode.NOTIFY and message.had_tsig:
                    self._socket.sendto(dns.message.make_response(message).to_wire() or b"", source)
                    self._transfer()
            except (dns.exception.DNSException, EOFError):
                continue
            except OSError:
                return

    def _transfer(self) -> None:
        if self._zone.nodes:
            query, _ = dns.xfr.make_query(self._zone, keyring=self._key)
        else:
            query = dns.message.make_query(self._origin, "AXFR")
            query.use_tsig(self._key)
        before = self._serial()
        dns.query.inbound_xfr(self._primary[0], self._zone, query, port=self._primary[1], lifetime=30)
        if self._serial() != before:
            self._arrived(self._serial())

    def _serial(self) -> int:
        found = self._zone.get_rdataset(self._origin, "SOA")
        return int(found[0].serial) if found else 0
