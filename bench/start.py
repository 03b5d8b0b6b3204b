"""Time from `blocklistd serve` to READY with a large list and its zone; every second start follows a kill."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import bodies
from bench.compare import Row, Sample, seconds
from bench.zones import Ours


def measure(count: int, rounds: int) -> Sample:
    """Seconds of each of `rounds` starts with a list of `count` domains."""
    with tempfile.TemporaryDirectory(prefix="bench-start-") as name:
        ours = Ours(Path(name))
        ours.start(bodies.domains(count))
        took = []
        try:
            for number in range(rounds):
                if number % 2:
                    ours.daemon.kill()
                else:
                    ours.daemon.stop()
                took.append(seconds(ours.daemon.start))
        finally:
            ours.daemon.stop()
        return Sample(tuple(took))


def rows() -> Iterator[Row]:
    """The row of the table."""
    title = "start, from `serve` to READY: 1,000,000 domains and their zone"
    yield Row(title, measure(1_000_000, 6), None, "", "s", 2.0)
