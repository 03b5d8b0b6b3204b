"""Time that operators of one list wait while millions of entries are committed to another list.

Approvals, rejections, statuses and small pulls are timed while a large list is replaced, and again with an idle daemon.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import bodies
from bench.compare import Compared, Row, Sample, seconds
from tests.system.daemon import Daemon

ENTRIES = 3_000_000
SMALL = 1_500
TIMES = 20
HELD = 50  # added entries of a change that the guards hold
TITLES = {
    "approve": "approve a candidate",
    "reject": "reject a candidate",
    "status": "answer `status`",
    "pull": "pull a small list",
}


class Scene:
    """A daemon with three lists: a large one, one whose changes are held, and one whose changes are not."""

    def __init__(self, folder: Path, entries: int) -> None:
        self._folder = folder
        self._sides = [folder / "side-a", folder / "side-b"]
        for seed, side in enumerate(self._sides):
            side.write_bytes(b"\n".join(bodies.sha256(entries, seed=seed)) + b"\n")
        self._small = {name: bodies.domains(SMALL, seed=10 + number) for number, name in enumerate(("held", "free"))}
        self._fresh = iter(bodies.domains(100_000, seed=20))

        def source(name: str, type: str) -> dict[str, object]:
            return {
                "url": f"file:{folder}/{name}",
                "format": "text",
                "defaults": {"type": type},
                "schedule": "every 30d",
                "max_bytes": "4GiB",
                "verify": {"method": "none"},
            }

        free = {"min_entries": 0, "min_change": 999_999_999}
        (folder / "daemon").mkdir(parents=True)
        self.daemon = Daemon(
            folder / "daemon",
            {
                "sources": {
                    "large": source("large", "sha256"),
                    "held": source("held", "domain"),
                    "free": source("free", "domain"),
                },
                "lists": {
                    "large": {"sources": ["large"], "types": ["sha256"], "guards": free},
                    "held": {"sources": ["held"], "guards": {"min_change": 0, "max_added": "1%", "max_removed": "1%"}},
                    "free": {"sources": ["free"], "guards": free},
                },
            },
        )
        shutil.copyfile(self._sides[0], folder / "large")
        for name in self._small:
            self._write(name)

    def _write(self, name: str) -> None:
        (self._folder / name).write_bytes(b"\n".join(self._small[name]) + b"\n")

    # -- timed, in milliseconds ----------------------------------------------------------------------------

    def pull(self) -> float:
        """A pull with one changed name."""
        self._small["free"][0] = next(self._fresh)
        self._write("free")

        def work() -> None:
            outcome = self.daemon.pull("free")
            assert outcome["outcome"] == "published", outcome

        return seconds(work) * 1000

    def status(self) -> float:
        """A request for the status."""

        def work() -> None:
            assert self.daemon.ask("status").status == 200

        return seconds(work) * 1000

    def approve(self) -> float:
        """The approval of a new candidate."""
        candidate = self._candidate()
        return seconds(lambda: self.daemon.approve(candidate)) * 1000

    def reject(self) -> float:
        candidate = self._candidate()

        def work() -> None:
            answer = self.daemon.ask("candidate reject", candidate=candidate, why="a measurement")
            assert answer.status == 200, answer.body

        return seconds(work) * 1000

    def _candidate(self) -> str:
        """A change of the held list that waits for a decision; each is another."""
        self._small["held"] = self._small["held"][:SMALL] + [next(self._fresh) for _ in range(HELD)]
        self._write("held")
        outcome = self.daemon.pull("held")
        assert outcome["outcome"] == "held", outcome
        return str(outcome["candidate"])

    # -- the commit beside it ------------------------------------------------------------------------------------

    @contextmanager
    def committing(self) -> Iterator[threading.Event]:
        """The large list is replaced again and again; the event is set while a pull of it runs."""
        ended, running = threading.Event(), threading.Event()
        failed: list[BaseException] = []

        def replace() -> None:
            number = 0
            try:
                while not ended.is_set():
                    number += 1
                    shutil.copyfile(self._sides[number % 2], self._folder / "large")
                    running.set()
                    outcome = self.daemon.pull("large")
                    running.clear()
                    assert outcome["outcome"] == "published", outcome
            except BaseException as error:
                failed.append(error)
            finally:
                running.clear()
                ended.set()

        thread = threading.Thread(target=replace)
        thread.start()
        try:
            yield running
        finally:
            ended.set()
            thread.join()
        if failed:
            raise failed[0]


def _time(ways: dict[str, Callable[[], float]], times: int, running: threading.Event | None) -> dict[str, list[float]]:
    """Times each operation `times` times, in turns. With `running`, only those within a commit count."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    deadline = time.monotonic() + 600
    while any(len(found[name]) < times for name in ways):
        for name, way in ways.items():
            if running is not None:
                running.wait(60)
            took = way()
            if running is None or running.is_set():
                found[name].append(took)
        assert time.monotonic() < deadline, "the commits are too short to measure beside them"
    return found


def measure(entries: int, times: int) -> Iterator[Compared]:
    """Each operation beside a commit (ours) and with an idle daemon (peer), in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="bench-locks-") as name:
        scene = Scene(Path(name), entries)
        with scene.daemon as daemon:
            for source in ("large", "held", "free"):
                daemon.first_pull(source)
            ways = {"approve": scene.approve, "reject": scene.reject, "status": scene.status, "pull": scene.pull}
            idle = _time(ways, times, None)
            with scene.committing() as running:
                busy = _time(ways, times, running)
        for what in ways:
            yield Compared(what, Sample(tuple(busy[what])), Sample(tuple(idle[what])))


def rows() -> Iterator[Row]:
    """The rows of the table."""
    for what, busy, idle in measure(ENTRIES, TIMES):
        title = f"extra time to {TITLES[what]} while {ENTRIES:,} entries are committed to another list"
        for which, ours, peer, floor in (
            ("median", busy.median, idle.median, 500.0),
            ("slowest", max(busy.rounds), max(idle.rounds), 2000.0),
        ):
            shown = f"{title} ({which} of {len(busy.rounds)}; an idle daemon takes {peer:.0f} ms)"
            yield Row(shown, Sample((ours - peer,)), None, "", "ms", floor)
