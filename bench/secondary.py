"""A secondary that follows a primary on loopback by NOTIFY and IXFR, and keeps nothing but the serial."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

import dns.message
import dns.name
import dns.query
import dns.rrset

from tests.system.daemon import free_port

PATIENCE = 120.0  # seconds


class Secondary:
    """Listens for NOTIFY on `port`. `zone`: the zone's name."""

    def __init__(self, zone: str) -> None:
        self.port = free_port()
        self._zone = dns.name.from_text(zone)
        self._notified = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._notified.bind(("127.0.0.1", self.port))
        self._wake = threading.Event()
        self._connected = socket.create_server(("127.0.0.1", self.port))
        for work in (self._acknowledge_datagrams, self._acknowledge_streams):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        self._notified.close()
        self._connected.close()

    def _acknowledge_datagrams(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                wire, source = self._notified.recvfrom(4096)
                self._notified.sendto(self._answer(wire), source)

    def _acknowledge_streams(self) -> None:
        """knotd sends NOTIFY over TCP."""
        with contextlib.suppress(OSError):
            while True:
                stream, _ = self._connected.accept()
                with stream, contextlib.suppress(OSError):
                    stream.settimeout(PATIENCE)
                    wire = stream.recv(4096)
                    stream.sendall(wire[:2] + self._answer(wire[2:]))

    def _answer(self, wire: bytes) -> bytes:
        self._wake.set()
        return wire[:2] + bytes([wire[2] | 0x84]) + wire[3:]  # QR, AA

    def follow(self, primary: int, change: Callable[[], object]) -> float:
        """Seconds from the beginning of `change` until this secondary holds the next serial of the primary on that
        port."""
        soa = dns.query.tcp(dns.message.make_query(self._zone, "SOA"), "127.0.0.1", PATIENCE, primary).answer[0]
        self._wake.clear()
        began = time.perf_counter()
        change()
        while True:
            if not self._wake.wait(PATIENCE):
                raise TimeoutError(f"no NOTIFY of a new serial within {PATIENCE} s")
            self._wake.clear()
            if self._transfer(primary, soa):
                return time.perf_counter() - began

    def _transfer(self, primary: int, soa: dns.rrset.RRset) -> bool:
        """Takes the difference, or the complete zone, to the next serial. False if there is none yet."""
        query = dns.message.make_query(self._zone, "IXFR")
        query.authority.append(soa)
        wire = query.to_wire()
        held, following = (_end_of(soa, more) for more in (0, 1))
        seen = 0
        is_difference = False
        with socket.create_connection(("127.0.0.1", primary), PATIENCE) as stream, stream.makefile("rb") as answers:
            stream.sendall(struct.pack("!H", len(wire)) + wire)
            while True:
                message = answers.read(*struct.unpack("!H", answers.read(2)))
                seen += message.count(following)
                is_difference = is_difference or held in message
                if not seen:
                    return False
                # SOA new, records, SOA new; with a difference: SOA new, old, removed records, new, added ones, new
                if seen >= (3 if is_difference else 2):
                    return True


def _end_of(soa: dns.rrset.RRset, more: int) -> bytes:
    """The end of the zone's SOA record: serial, raised by `more`, and times."""
    times = soa[0].refresh, soa[0].retry, soa[0].expire, soa[0].minimum
    return struct.pack("!IIIII", soa[0].serial + more, *times)
