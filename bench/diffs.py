"""Time until a subscriber has a diff that nobody requested before: of adjacent versions, and of versions far apart.

Then the bytes of diffs (bench/diff_sizes.py)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import bodies, diff_sizes
from bench.compare import Row, Sample, seconds
from bench.lists import LIST, Scene

ENTRIES = 100_000
VERSIONS = 500  # steps between two versions far apart
CHANGES = 1_000  # removed and added together, in each step
PAIRS = 5  # of versions far apart; each pair is requested once in both directions
NEIGHBOURS = 20


def measure(entries: int, versions: int, changes: int) -> Iterator[tuple[str, Sample]]:
    """(name of the case, milliseconds until the complete diff has arrived). Diffs are not compressed."""
    with tempfile.TemporaryDirectory(prefix="bench-diffs-") as name:
        scene = Scene(Path(name) / "scene", "url")
        lines = bodies.urls(entries)
        fresh = bodies.urls((versions + PAIRS) * changes // 2, seed=100)
        with scene.daemon as daemon:
            daemon.first_pull("hotline")  # fails: the file does not exist yet
            scene.write(lines)
            scene.publish()
            at = 0
            for number in range(versions + PAIRS - 1):
                step, fresh = fresh[: changes // 2], fresh[changes // 2 :]
                at = number * len(step) % (len(lines) - len(step))  # other lines each time
                lines[at : at + len(step)] = step
                scene.write(lines)
                scene.publish()
            token = scene.token

            def ask(start: int, end: int) -> float:
                def get() -> None:
                    answer = daemon.get(f"/v1/lists/{LIST}/diffs/{start}-{end}", token)
                    assert answer.status == 200
                    assert answer.body

                return seconds(get) * 1000

            newest = versions + PAIRS
            yield "neighbours", Sample(tuple(ask(newest - n - 1, newest - n) for n in range(NEIGHBOURS)))
            yield "far", Sample(tuple(ask(n, n + versions) for n in range(1, PAIRS + 1)))
            yield "back", Sample(tuple(ask(n + versions, n) for n in range(1, PAIRS + 1)))


def rows() -> Iterator[Row]:
    """The rows of the table."""
    apart = f"{VERSIONS} versions of {CHANGES:,} changes each"
    titles = {
        "neighbours": ("diff between consecutive versions", 10.0),
        "far": (f"diff across {apart}, first request", 1000.0),
        "back": (f"reverse diff across {apart}, first request", 1000.0),
    }
    for what, found in measure(ENTRIES, VERSIONS, CHANGES):
        title, floor = titles[what]
        yield Row(title, found, None, "", "ms", floor)
    yield from diff_sizes.rows()
