"""Private memory (USS) of the serving process: without a list, and with a large list and its zone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import bodies
from bench.compare import Row, Sample
from bench.zones import Client, Ours
from tests.system.daemon import Daemon

VERSIONS = 10
MIB = 1024  # KiB


def private(pid: int) -> float:
    """Memory of a process in MiB that it shares with no other process (USS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:"))) / MIB


def without_a_list() -> float:
    """MiB of a daemon without lists."""
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as name, Daemon(Path(name), {}) as daemon:
        assert daemon.process is not None
        return private(daemon.process.pid)


def with_a_list(count: int) -> float:
    """MiB after ten versions of a list of `count` domains and one transfer of its zone."""
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as name:
        ours = Ours(Path(name))
        names = bodies.domains(count)
        ours.start(names)
        try:
            for number in range(VERSIONS):
                names = bodies.churned(names, bodies.domains(max(1, count // 1000), seed=100 + number), seed=number)
                names = list(dict.fromkeys(names))
                ours.write(names)
                assert ours.daemon.pull("hotline")["outcome"] == "published"
            Client(Path(name)).transfer(ours.port, ours.records, ours.key)
            return private(ours.pid)
        finally:
            ours.daemon.stop()


def rows() -> Iterator[Row]:
    """The rows of the table."""
    yield Row("private memory (USS) of the serving process: no list", Sample((without_a_list(),)), None, "", "MiB", 100)
    yield Row(
        "private memory (USS) of the serving process: 1,000,000 domains, their zone (2,000,000 records), ten versions",
        Sample((with_a_list(1_000_000),)),
        None,
        "",
        "MiB",
        200,
    )
