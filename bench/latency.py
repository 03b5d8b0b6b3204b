"""How long others wait: polls and SOA queries while a large list is taken in, and while four transfers run.

Questions are asked at planned times, and each wait counts from its planned time: a stall is felt by all whom it meets.
"""

from __future__ import annotations

import math
import multiprocessing
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from multiprocessing.synchronize import Event
from pathlib import Path

import dns.message

from bench import bodies
from bench.compare import Row, Sample
from bench.zones import ZONE, Client, Ours

RATE = 200  # questions a second, of each kind
TRANSFERS = 4
SECONDS = 8.0  # of transfers


def _poll(port: int, path: str, headers: dict[str, str]) -> Callable[[], None]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)

    def ask() -> None:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 304, answer.status

    return ask


def _soa(port: int) -> Callable[[], None]:
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asking.settimeout(30)
    asking.connect(("127.0.0.1", port))
    wire = dns.message.make_query(ZONE, "SOA").to_wire() or b""

    def ask() -> None:
        asking.send(wire)
        answer = asking.recv(4096)
        assert answer[7] == 1, "no SOA in the answer"

    return ask


def _probe(
    kind: str,
    port: int,
    path: str,
    headers: dict[str, str],
    ended: Event,
    found: multiprocessing.SimpleQueue[list[float]],
) -> None:
    """Asks until `ended`, in a process of its own."""
    ask = _poll(port, path, headers) if kind == "polls" else _soa(port)
    waits: list[float] = []
    planned = time.perf_counter()
    while not ended.is_set():
        planned += 1 / RATE
        time.sleep(max(0.0, planned - time.perf_counter()))
        ask()
        waits.append(time.perf_counter() - planned)
    found.put(waits)


class Probes:
    """The two askers, for the time of a block; `waits` are seconds, by kind, when it has ended."""

    def __init__(self, ours: Ours, path: str, headers: dict[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._ended = context.Event()
        self._found = {kind: context.SimpleQueue() for kind in ("polls", "SOA")}
        ports = {"polls": ours.daemon.feed_port, "SOA": ours.port}
        self._processes = [
            context.Process(target=_probe, args=(kind, ports[kind], path, headers, self._ended, found))
            for kind, found in self._found.items()
        ]
        self.waits: dict[str, list[float]] = {}

    def __enter__(self) -> Probes:
        for process in self._processes:
            process.start()
        time.sleep(1.0)  # until they ask
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.waits = {kind: found.get() for kind, found in self._found.items()}
        for process in self._processes:
            process.join()


def _p99(waits: list[float]) -> float:
    """Milliseconds that 99 of 100 did not wait longer than."""
    return sorted(waits)[math.ceil(len(waits) * 0.99) - 1] * 1000


def measure(entries: int, domains: int) -> Iterator[tuple[str, float, int]]:
    """(what, p99 in ms, questions)."""
    with tempfile.TemporaryDirectory(prefix="bench-latency-") as name:
        folder = Path(name)
        client = Client(folder)
        large = folder / "large"
        source = {
            "url": f"file:{large}",
            "format": "text",
            "defaults": {"type": "url"},
            "schedule": "every 30d",
            "max_bytes": "4GiB",
            "verify": {"method": "none"},
        }
        ours = Ours(folder)
        ours.daemon.config["sources"]["other"] = source
        ours.daemon.config["lists"]["large"] = {"sources": ["other"]}
        ours.daemon.write_config()
        ours.start(bodies.domains(domains))
        try:
            large.write_bytes(b"\n".join(bodies.urls(entries)) + b"\n")
            path = "/v1/lists/national"
            token = ours.daemon.subscriber("provider", "national")
            etag = ours.daemon.get(path, token).headers["etag"]
            headers = {"Authorization": f"Bearer {token}", "If-None-Match": etag}
            with Probes(ours, path, headers) as probes:
                assert ours.daemon.pull("other")["outcome"] == "published"
            for kind, waits in probes.waits.items():
                yield f"{kind} while {entries:,} URLs are taken in", _p99(waits), len(waits)
            with Probes(ours, path, headers) as probes:
                _transfer_for(SECONDS, client, ours)
            for kind, waits in probes.waits.items():
                yield f"{kind} while {TRANSFERS} transfers run", _p99(waits), len(waits)
        finally:
            ours.daemon.stop()


def _transfer_for(duration: float, client: Client, ours: Ours) -> None:
    """So many transfers at a time, one after the other."""
    records = ours.records
    end = time.perf_counter() + duration

    def again() -> None:
        while time.perf_counter() < end:
            client.transfer(ours.port, records, ours.key)

    threads = [threading.Thread(target=again) for _ in range(TRANSFERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rows() -> Iterator[Row]:
    """The lines of the table."""
    for what, waited, count in measure(1_000_000, 500_000):
        yield Row(f"p99 of {count:,} {what}", Sample((waited,)), None, "", "ms", 50)
