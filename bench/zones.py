"""A policy zone of 500,000 domains (1,000,000 CNAME records), beside knotd and nsd with the same zone as a file.

Every server runs on one core, whoever asks on the other. A transfer goes over loopback to a client that does not parse
records (axfr_sink.c) and is timed from its connect() to the last octet. The peer of a row of transfers is the faster of
the two. Their zone file is in canonical order: of a shuffled one they make a zone that takes them three times as long
to send. A change is timed from the moment at which the new file is in its place until a SOA query is answered with the
new serial; writing the files is nobody's time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import dns.exception
import dns.message
import dns.query

from bench.compare import Row, Sample, in_turns
from bench.primaries import CHURN, CLIENT, DOMAINS, ZONE, Knot, Names, Nsd, Ours, Peer, Server, on

ROUNDS: Final = 7
CHANGES: Final = 5
WITHIN: Final = 120.0  # seconds that a server may take to show a serial
POLL: Final = 0.002  # seconds between two SOA queries
PATIENCE: Final = 0.2  # seconds until a SOA query is asked again
APEX: Final = 3  # records: SOA, NS, and the SOA that ends a transfer


class Asking:
    """The client's side: transfers, and which serial is answered."""

    def __init__(self, folder: Path) -> None:
        self._sink, self._query = folder / "axfr_sink", folder / "query"
        source = Path(__file__).with_name("axfr_sink.c")
        subprocess.run(["cc", "-O2", "-Wall", "-o", self._sink, source], check=True)

    def transfer(self, server: Server, *, signed: bool) -> dict[str, float]:
        query = dns.message.make_query(ZONE, "AXFR")
        if signed:
            query.use_tsig(server.key())
        self._query.write_bytes(query.to_wire() or b"")
        command = [str(self._sink), str(server.port), str(self._query), str(2 * DOMAINS + APEX)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        taken: dict[str, float] = json.loads(done.stdout)
        assert taken["signed"] == (taken["messages"] if signed else 0)
        return taken

    def until(self, server: Server, serial: int) -> None:
        """Asks for the SOA until it has this serial."""
        deadline = time.monotonic() + WITHIN
        while (found := self._serial(server.port)) != serial:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{type(server).__name__}: serial {found} after {WITHIN} s, not {serial}")
            threading.Event().wait(POLL)

    def _serial(self, port: int) -> int | None:
        query = dns.message.make_query(ZONE, "SOA")
        with contextlib.suppress(OSError, dns.exception.DNSException):
            for rrset in dns.query.udp(query, "127.0.0.1", port=port, timeout=PATIENCE).answer:
                return int(rrset[0].serial)
        return None

    def change(self, server: Server, names: Names, serial: int) -> float:
        """Seconds from a new file in its place to its serial."""
        names.change()
        server.write(names.live, serial)
        publishing = threading.Thread(target=server.publish)
        began = time.perf_counter()
        publishing.start()
        self.until(server, serial)
        took = time.perf_counter() - began
        publishing.join()
        return took


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as named, contextlib.ExitStack() as stack, on(CLIENT):
        folder = Path(named)
        asking, names = Asking(folder), Names()
        ours, knot, nsd = Ours(_made(folder / "ours")), Knot(folder / "knot"), Nsd(folder / "nsd")
        servers: list[Ours | Peer] = [ours, knot, nsd]
        for server in servers:
            server.write(names.live, 1)
            stack.enter_context(server.running())
            asking.until(server, 1)
        yield from _transfers(asking, servers)
        what = "memory of the server after these transfers (PSS)"
        yield Row(what, Sample((_pss(ours.pid),)), Sample((_pss(knot.pid),)), "knotd", "MiB", 0.5)
        yield _changes(asking, names, ours, knot)


def _transfers(asking: Asking, servers: list[Ours | Peer]) -> Iterator[Row]:
    for what, signed, floor in (("AXFR", False, 1 / 8), ("AXFR, TSIG on each message", True, 1 / 4)):

        def measured(server: Server, signed: bool = signed) -> Callable[[], float]:
            return lambda: asking.transfer(server, signed=signed)["seconds"]

        size = asking.transfer(servers[0], signed=signed)["bytes"]
        ours, knot, nsd = in_turns(ROUNDS, *map(measured, servers))
        name, peer = min(("knotd", knot), ("nsd", nsd), key=lambda found: found[1].best)
        both = f"{name} (knotd {knot.best:.3g}, nsd {nsd.best:.3g})"
        yield Row(f"{what}: {2 * DOMAINS:,} records, {size / 1e6:.1f} MB", ours, peer, both, floor=floor)


def _changes(asking: Asking, names: Names, ours: Ours, knot: Knot) -> Row:
    """Both follow the same names, each with a generator of its own."""

    def changed(server: Server, names: Names) -> Callable[[], float]:
        serials = itertools.count(2)
        return lambda: asking.change(server, names, next(serials))

    our_times, peer_times = in_turns(CHANGES, changed(ours, names), changed(knot, Names()))
    what = f"new serial visible after {CHURN} of {DOMAINS:,} domains changed"
    return Row(what, our_times, peer_times, "knotd", floor=1.0)


def _pss(pid: int) -> float:
    """Mebibytes of a process, shared pages divided among those that share them."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert found is not None
    return int(found[1]) / 1024


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
