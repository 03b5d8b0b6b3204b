"""Sends requests to a daemon at fixed times and measures the latencies, in a process that does nothing else.

A latency counts from the planned time of the request, so that a request delayed by a slow answer counts as slow too (no
coordinated omission). The process reads one line of JSON from stdin, prints `asking`, and sends requests until stdin
ends; then it prints the latencies as JSON.
"""

from __future__ import annotations

import gc
import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

RATE = 100  # requests of each kind a second, one after another: each may take 10 ms before the next one queues
PATIENCE = 60.0  # seconds until a request without an answer counts as failed


@dataclass
class Probes:
    """The latencies in milliseconds by kind of request (`poll`, `soa`); filled when the probing ends."""

    took: dict[str, list[float]] = field(default_factory=dict)

    def extend(self, other: Probes) -> None:
        """Adds the latencies of another run."""
        for kind, found in other.took.items():
            self.took.setdefault(kind, []).extend(found)

    def percentile(self, kind: str, share: float) -> float:
        """The latency that the fraction `share` of the requests does not exceed."""
        found = sorted(self.took[kind])
        return found[min(len(found) - 1, math.ceil(share * len(found)) - 1)]

    def worst(self, kind: str) -> float:
        """The highest latency."""
        return max(self.took[kind])


@contextmanager
def probing(feed: int, path: str, token: str, etag: str, dns: int, query: bytes) -> Iterator[Probes]:
    """Probes while the block runs: conditional polls of `path`, and `query` over UDP."""
    order = {"feed": feed, "path": path, "token": token, "etag": etag, "dns": dns, "query": query.hex()}
    found = Probes()
    prober = subprocess.Popen(
        [sys.executable, "-m", "bench.prober"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert prober.stdin is not None
        assert prober.stdout is not None
        prober.stdin.write(json.dumps(order) + "\n")
        prober.stdin.flush()
        assert prober.stdout.readline() == "asking\n"
        yield found
        answer, _ = prober.communicate(timeout=PATIENCE * 2)
        assert prober.returncode == 0
        found.took = json.loads(answer)
    finally:
        prober.kill()
        prober.wait()


def main() -> int:
    """The probing process. Returns 1 if a request failed."""
    order = json.loads(sys.stdin.readline())
    stop = threading.Event()
    found: dict[str, list[float]] = {}
    failed: list[BaseException] = []

    def run(kind: str, made: Callable[[dict[str, Any]], Callable[[], None]], shift: float) -> None:
        try:
            found[kind] = _paced(made(order), stop, shift)
        except BaseException as error:
            failed.append(error)
            raise

    gc.disable()
    threads = [
        threading.Thread(target=run, args=("poll", _poll, 0.0)),
        threading.Thread(target=run, args=("soa", _soa, 0.5 / RATE)),  # between two polls
    ]
    for thread in threads:
        thread.start()
    print("asking", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps(found))
    return 1 if failed else 0


def _paced(ask: Callable[[], None], stop: threading.Event, shift: float) -> list[float]:
    took = []
    begin = time.perf_counter() + shift
    number = 0
    while not stop.is_set():
        planned = begin + number / RATE
        number += 1
        time.sleep(max(0.0, planned - time.perf_counter()))
        ask()
        took.append((time.perf_counter() - planned) * 1000)
    return took


def _poll(order: dict[str, Any]) -> Callable[[], None]:
    request = (
        f"GET {order['path']} HTTP/1.1\r\nHost: feed.example\r\nAuthorization: Bearer {order['token']}\r\n"
        f"If-None-Match: {order['etag']}\r\n\r\n"
    ).encode()
    connection = socket.create_connection(("127.0.0.1", order["feed"]), PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask() -> None:
        connection.sendall(request)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):  # a 304 has no body
            piece = connection.recv(4096)
            assert piece, "the connection was closed"
            answer += piece
        assert answer.startswith(b"HTTP/1.1 304 "), answer[:40]

    return ask


def _soa(order: dict[str, Any]) -> Callable[[], None]:
    query = bytes.fromhex(order["query"])
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asking.settimeout(PATIENCE)
    asking.connect(("127.0.0.1", order["dns"]))

    def ask() -> None:
        asking.send(query)
        answer = asking.recv(4096)
        assert (answer[:2], answer[3] & 15, answer[7]) == (query[:2], 0, 1), "no SOA"  # id, rcode, answers

    return ask


if __name__ == "__main__":
    sys.exit(main())
