"""What 100,000 names that no entry may block cost in a first load of 1,000,000 entries: seconds more than without."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import bodies
from bench.compare import Row, Sample, in_turns, seconds
from bench.lists import GUARDS, Scene
from bench.sources import NAMES, protected

COUNT = 1_000_000
ROUNDS = 3
MORE = 0.5  # seconds
MADE = {"domain": bodies.domains, "host": bodies.domains, "url": bodies.urls}


def first_load(type: str, lines: list[bytes], guards: Callable[[Path], dict[str, object]]) -> float:
    """Seconds until the first version is served."""
    with tempfile.TemporaryDirectory(prefix="bench-names-") as name:
        folder = Path(name)
        scene = Scene(folder / "scene", type, plan={"guards": GUARDS | guards(folder)})
        with scene.daemon:
            scene.first_pulls()
            scene.write(lines)
            return seconds(scene.publish)


def rows() -> Iterator[Row]:
    """The rows of the table. Two guards have the names: `never_block` and `shared_hosts`."""
    for type, made in MADE.items():
        lines = made(COUNT)

        def without(type: str = type, lines: list[bytes] = lines) -> float:
            return first_load(type, lines, lambda folder: {})

        def with_names(type: str = type, lines: list[bytes] = lines) -> float:
            both = ("never_block", "shared_hosts")
            return first_load(type, lines, lambda folder: dict.fromkeys(both, protected(folder)))

        guarded, plain = in_turns(ROUNDS, with_names, without)
        more = Sample((guarded.best - plain.best,))
        title = f"{COUNT:,} entries of the type {type}: first load, {NAMES:,} names in each of two guards"
        yield Row(f"{title}, beside one without", guarded, plain, "without names")
        yield Row(f"{title}, more than without", more, None, "", "s", MORE)
