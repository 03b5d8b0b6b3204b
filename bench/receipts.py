"""Receipts of many nodes: the time until all are taken, and the latency of polls meanwhile.

Each node has a connection of its own and sends one receipt: within SPREAD seconds, since no two nodes apply a version
in the same moment, and once more all in the same moment. Another process (prober.py) polls, also while no node sends
anything; a latency counts from the planned time of its request.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import dns.message

from bench import bodies
from bench.compare import Row, Sample
from bench.prober import Probes, probing
from bench.zones import ZONE, Ours

NODES = 500
SUBSCRIBERS = 5
FLOOR = 50.0  # ms
WITHIN = 10.0  # seconds
SPREAD = 5.0  # seconds
PATH = "/v1/lists/national"


async def _acknowledge(port: int, tokens: list[str], receipt: dict[str, object], spread: float) -> None:
    """Sends a receipt from each node within `spread` seconds, and waits until all are taken."""

    async def send(number: int) -> None:
        await asyncio.sleep(spread * number / NODES)
        body = json.dumps({**receipt, "node": f"node-{number}"}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST {PATH}/receipts HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Authorization: Bearer {tokens[number % len(tokens)]}\r\n\r\n".encode() + body)
        status = await reader.readline()
        assert b" 204 " in status, status
        writer.close()

    await asyncio.gather(*(send(number) for number in range(NODES)))


class Sent(NamedTuple):
    """The seconds in which the nodes send, None if they send nothing; those until all receipts are taken; the latencies
    of polls meanwhile."""

    spread: float | None
    took: float
    polls: Probes


def measure() -> Iterator[Sent]:
    """Measures each way."""
    with tempfile.TemporaryDirectory(prefix="bench-receipts-") as name:
        ours = Ours(Path(name))
        # the nodes connect from one address here, and from an address each in reality
        ours.daemon.config["feed"]["connections"] = {"per_address": 2000, "per_subscriber": 2000, "total": 4000}
        ours.daemon.write_config()
        ours.start(bodies.domains(10_000))
        try:
            tokens = [ours.daemon.subscriber(f"isp-{number}", "national") for number in range(SUBSCRIBERS)]
            polled = ours.daemon.get(PATH, tokens[0])
            query = dns.message.make_query(ZONE, "SOA")
            query.use_tsig(ours.key)
            for state, spread in (("", SPREAD), ("failed", SPREAD), ("applied", 0.0)):
                receipt = {"session": polled.json["session"], "version": polled.json["version"], "state": state}
                receipt |= {"applied_at": datetime.now(UTC).isoformat(timespec="seconds"), "reason": f"{state} here"}
                etag, port = polled.headers["etag"], ours.daemon.feed_port
                with probing(port, PATH, tokens[0], etag, ours.port, query.to_wire() or b"") as probes:
                    began = time.perf_counter()
                    if state:
                        asyncio.run(_acknowledge(port, tokens, receipt, spread))
                    else:
                        time.sleep(spread)
                    took = time.perf_counter() - began
                    time.sleep(2)  # the check of the nodes follows
                yield Sent(spread if state else None, took, probes)
        finally:
            ours.daemon.stop()


def rows() -> Iterator[Row]:
    """The rows of the table."""
    for spread, took, polls in measure():
        when = "in one moment" if not spread else f"within {spread:g} s"
        if spread is not None:
            what = f"receipts of {NODES} nodes, sent {when}, until all are taken"
            yield Row(what, Sample((took,)), None, "", "s", WITHIN)
        what = f"latency of unchanged polls meanwhile ({len(polls.took['poll']):,})"
        if spread is None:
            what = f"latency of unchanged polls without receipts ({len(polls.took['poll']):,})"
        floor = FLOOR if spread else None
        yield Row(f"{what}: 99th percentile", Sample((polls.percentile("poll", 0.99),)), None, "", "ms", floor)
        yield Row(f"{what}: slowest", Sample((polls.worst("poll"),)), None, "", "ms")
