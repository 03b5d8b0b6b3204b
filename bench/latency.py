"""Latency of polls and SOA queries while large lists are pulled, and while four zone transfers run.

Another process (prober.py) sends requests at planned times, and each latency counts from the planned time: a stall
counts for every request that it delays. Rows show the 99th percentile and the slowest answer, also of an idle daemon.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import dns.message

from bench import bodies
from bench.compare import Row, Sample
from bench.prober import Probes, probing
from bench.zones import ZONE, Client, Ours

FLOOR = 50.0  # ms
INTAKES = ("first", "second", "third")
TRANSFERS = 4  # at a time
SPELL = 10.0  # seconds of transfers, and of the idle daemon
PATH = "/v1/lists/national"
KINDS = {"poll": "unchanged polls (304, token)", "soa": "SOA queries (UDP, TSIG)"}


class Waits(NamedTuple):
    """The latencies of one context. `floor` is the bound of their 99th percentile in milliseconds, or None."""

    when: str
    probes: Probes
    floor: float | None


def measure(entries: int, domains: int) -> Iterator[Waits]:
    """The latencies in three situations: an idle daemon, first pulls of large lists, and transfers."""
    with tempfile.TemporaryDirectory(prefix="bench-latency-") as name:
        folder = Path(name)
        client, ours = Client(folder), Ours(folder)
        for other in INTAKES:
            source = ours.daemon.config["sources"]["hotline"]
            source = {**source, "url": f"file:{folder}/{other}", "defaults": {"type": "url"}}
            ours.daemon.config["sources"][other] = source
            ours.daemon.config["lists"][other] = {"sources": [other]}
        ours.daemon.write_config()
        ours.start(bodies.domains(domains))
        try:
            for other in INTAKES:
                ours.daemon.first_pull(other)  # fails: the file is not there yet
            token = ours.daemon.subscriber("provider", "national")
            with _asked(ours, token) as quiet:
                time.sleep(SPELL)
            yield Waits("on an idle daemon", quiet, None)

            taken_in = Probes()
            for number, other in enumerate(INTAKES):
                (folder / other).write_bytes(b"\n".join(bodies.urls(entries, seed=10 + number)) + b"\n")
                with _asked(ours, token) as found:
                    assert ours.daemon.pull(other)["outcome"] == "published"
                taken_in.extend(found)
            yield Waits(f"during a first load of {entries:,} URLs", taken_in, FLOOR)

            with _asked(ours, token) as sent:
                count = _transfer_for(SPELL, client, ours)
            when = f"during {count} transfers of {ours.records:,} records, {TRANSFERS} at a time"
            yield Waits(when, sent, FLOOR)
        finally:
            ours.daemon.stop()


@contextmanager
def _asked(ours: Ours, token: str) -> Iterator[Probes]:
    """Probes while the block runs. Each call signs a new query: a signature is valid for 300 s (RFC 8945, 10)."""
    etag = ours.daemon.get(PATH, token).headers["etag"]
    query = dns.message.make_query(ZONE, "SOA")
    query.use_tsig(ours.key)
    with probing(ours.daemon.feed_port, PATH, token, etag, ours.port, query.to_wire() or b"") as found:
        yield found


def _transfer_for(duration: float, client: Client, ours: Ours) -> int:
    """Runs TRANSFERS signed transfers at a time for `duration` seconds. Returns their number."""
    records = ours.records
    keys = itertools.cycle([ours.new_key(f"secondary-{number}") for number in range(16)])  # none takes it too often
    end = time.perf_counter() + duration
    took: list[float] = []
    failed: list[BaseException] = []

    def again() -> None:
        try:
            while time.perf_counter() < end:
                took.append(client.transfer(ours.port, records, next(keys)))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=again) for _ in range(TRANSFERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return len(took)


def rows() -> Iterator[Row]:
    """The rows of the table."""
    for when, found, floor in measure(1_000_000, 500_000):
        for kind, what in KINDS.items():
            asked = f"{len(found.took[kind]):,} {what} {when}"
            yield Row(
                f"latency of {asked}: 99th percentile", Sample((found.percentile(kind, 0.99),)), None, "", "ms", floor
            )
            yield Row(f"latency of {asked}: slowest", Sample((found.worst(kind),)), None, "", "ms")
