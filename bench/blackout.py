"""How long a resolver leaves clients without answers while a version of a zone of 1,000,000 records arrives.

A real Unbound and a real BIND run with the configuration that `subscriber add` prints, and forward names that are not
listed to a stub on loopback. A query for such a name, always another one, is sent every PERIOD, whether earlier ones
are answered or not. The window is from the command that makes the daemon read the new list until the resolver blocks
its new names. The daemon and its jobs run on one core; the resolver and the client may use both.

- *Gap*: the longest time in which a query was sent or waited and no answer came.
- *p99*: the 99th percentile of the time from a query to its answer.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import dns.message

from bench import bodies
from bench.compare import HEAD, Row, Sample
from bench.zones import SERVER, ZONE, Ours, churned
from tests.interop.programs import Peers, Resolver
from tests.interop.release import BOOKWORM
from tests.interop.stub import Stub
from tests.system.daemon import free_port

DOMAINS: Final = 500_000  # two records each
SHARDS: Final = (1, 16)
CHANGES: Final = 3  # by IXFR
PERIOD: Final = 0.005  # seconds
SETTLED: Final = 1.0  # seconds after the window in which late answers still count
RESOLVERS: Final = ("unbound", "bind")


class Blackout(NamedTuple):
    """Of one version: the longest gap and the 99th percentile, both in milliseconds."""

    gap: float
    p99: float


class Asking:
    """Asks a resolver for names that are not listed, from construction until `end`."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._socket.settimeout(0.1)
        self._wire = dns.message.make_query("q0000000.unlisted.example", "A").to_wire()
        self._sent: list[float] = []
        self._answered: dict[int, float] = {}
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        began = time.perf_counter()
        while not self._ended.is_set():
            number = len(self._sent)
            late = began + number * PERIOD - time.perf_counter()
            if late > 0:
                time.sleep(late)
            name = b"\x08q%07d" % number
            self._sent.append(time.perf_counter())
            self._socket.send(struct.pack("!H", number % 2**16) + self._wire[2:12] + name + self._wire[21:])

    def _receive(self) -> None:
        while not self._ended.is_set() or len(self._answered) < len(self._sent):
            try:
                wire = self._socket.recv(4096)
            except TimeoutError:
                if self._ended.is_set():
                    return
                continue
            assert wire[3] & 15 == 0, f"response code {wire[3] & 15}"
            self._answered.setdefault(int(wire[14:21]), time.perf_counter())

    def end(self) -> Blackout:
        """What the clients saw. A query without an answer counts as if it had been answered now."""
        time.sleep(SETTLED)
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()
        now = time.perf_counter()
        waits = sorted(self._answered.get(number, now) - sent for number, sent in enumerate(self._sent))
        answers = sorted(self._answered.values())
        gaps = [later - earlier for earlier, later in pairwise(answers)]
        return Blackout(max(gaps) * 1000, waits[int(0.99 * len(waits))] * 1000)


def measure(software: str, shards: int, domains: int) -> Iterator[tuple[str, list[Blackout]]]:
    """("AXFR" or "IXFR", the blackouts) of one resolver."""
    with tempfile.TemporaryDirectory(prefix="bench-blackout-") as name, contextlib.ExitStack() as stack:
        folder, stub = Path(name), Stub()
        stack.callback(stub.close)
        zones = {ZONE: {"list": "national", "shards": shards}}
        ours, port = Ours(folder, zones=zones), free_port()
        ours.daemon.prefix = ["taskset", "-c", str(SERVER)]
        names = bodies.domains(domains)
        ours.write(names)
        ours.daemon.start()
        stack.callback(ours.daemon.stop)
        ours.daemon.wait_for(lambda: ours.records == 2 * domains, 300)
        address = {"address": ["127.0.0.1"]} if software == "unbound" else {}
        notify = [f"127.0.0.1:{port}"]
        made = ours.daemon.ask("subscriber add", id="isp", zones=[ZONE], notify=notify, **address).json
        resolver = stack.enter_context(Peers(BOOKWORM).start(software, folder, stub, port, made["config"][software]))
        _wait(resolver, names[::1000])
        # every name is another one: the difference is larger than the zone, so the answer is an AXFR
        names = bodies.domains(domains, seed=10)
        yield "AXFR", [_arrival(ours, resolver, names, names[:: max(1, domains // 500)])]
        found = []
        for number in range(CHANGES):
            before = set(names)
            names = churned(names, number)
            found.append(_arrival(ours, resolver, names, [one for one in names if one not in before]))
        yield "IXFR", found


def _arrival(ours: Ours, resolver: Resolver, names: list[bytes], new: list[bytes]) -> Blackout:
    ours.write(names)
    asking = Asking(resolver.port)
    try:
        assert ours.daemon.pull("hotline")["outcome"] == "published"
        _wait(resolver, new)
    finally:
        found = asking.end()
    return found


def _wait(resolver: Resolver, names: list[bytes]) -> None:
    """Waits until the resolver blocks all these names."""
    for name in names:
        resolver.wait(functools.partial(resolver.blocked, name.decode()))


def rows() -> Iterator[Row]:
    """The rows of the table."""
    yield from _rows(DOMAINS)


def _rows(domains: int) -> Iterator[Row]:
    for software in RESOLVERS:
        for shards in SHARDS:
            spread = f" in {shards} shards" if shards > 1 else ""
            for way, found in measure(software, shards, domains):
                title = f"{software}: {2 * domains:,} records{spread}, a version arrives by {way}"
                for what in Blackout._fields:
                    shown = {"gap": "longest gap between answers", "p99": "p99 of answers"}[what]
                    sample = Sample(tuple(getattr(one, what) for one in found))
                    yield Row(f"{title}: {shown}", sample, None, "", "ms")


def main() -> None:
    """Prints the rows of one size: `python -m bench.blackout --domains 50000`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--domains", type=int, default=50_000)
    print(HEAD)
    for row in _rows(parser.parse_args().domains):
        print(row.markdown(), flush=True)


if __name__ == "__main__":
    main()
