"""Publishing a list, from the body at hand to all artifacts live, beside what a shell does with the same bytes.

The shell makes of a body what a provider could use: sorted and unique (`sort -u`), the difference from the last one
(`comm`), its hash (`sha256sum`), compressed (`zstd -1`). It verifies, canonicalises, guards, versions and signs
nothing, and syncs nothing to the disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import bodies
from bench.compare import Row, Sample, in_turns, seconds
from tests.system.daemon import Daemon

SHELL = {
    "first": 'sort -u "$1" >sorted && sha256sum sorted >hash && zstd -1 -q -f sorted',
    "next": 'sort -u "$1" >sorted && comm -3 last sorted >difference && sha256sum sorted >hash && zstd -1 -q -f sorted',
}
CHURN = 0.001


class Jobs:
    """Watches the processes below the daemon for the most memory that any of them ever had (VmHWM), in bytes."""

    def __init__(self, daemon: Daemon) -> None:
        assert daemon.process is not None
        self._root = daemon.process.pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak = 0

    def __enter__(self) -> Jobs:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            for pid in _below(self._root):
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                for line in status.splitlines():
                    if line.startswith("VmHWM:"):
                        self.peak = max(self.peak, int(line.split()[1]) * 1024)


def _below(root: int) -> set[int]:
    """The processes that descend from one, itself not among them."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: set[int] = set()
    for pid in parents:
        ancestors = [pid]
        while ancestors[-1] in parents:
            ancestors.append(parents[ancestors[-1]])
        if root in ancestors[1:]:
            found.add(pid)
    return found


class Scene:
    """A daemon with one list of one file, and a folder for the shell."""

    def __init__(self, folder: Path, type: str) -> None:
        self.body = folder / "body"
        self.shell = folder.parent / "shell"
        self.shell.mkdir(exist_ok=True)
        guards = {"min_entries": 0, "min_change": 1_000_000}
        source = {
            "url": f"file:{self.body}",
            "format": "text",
            "defaults": {"type": type},
            "schedule": "every 30d",
            "max_bytes": "4GiB",
            "verify": {"method": "none"},
        }
        (folder / "daemon").mkdir()
        self.daemon = Daemon(
            folder / "daemon",
            {
                "sources": {"hotline": source},
                "lists": {"national": {"sources": ["hotline"], "types": [type], "guards": guards}},
            },
        )

    def write(self, lines: list[bytes]) -> None:
        self.body.write_bytes(b"\n".join(lines) + b"\n")

    def publish(self) -> None:
        outcome = self.daemon.pull("hotline")
        assert outcome["outcome"] == "published", outcome

    def run_shell(self, which: str) -> None:
        environment = {**os.environ, "LC_ALL": "C"}
        subprocess.run(["sh", "-c", SHELL[which], "sh", self.body], cwd=self.shell, env=environment, check=True)

    def keep_last(self) -> None:
        """What the shell compares its next result with."""
        shutil.copyfile(self.shell / "sorted", self.shell / "last")


def measure(
    type: str, made: Callable[..., list[bytes]], count: int, rounds: int, *, first_rounds: int
) -> Iterator[tuple[str, Sample, Sample | None]]:
    """(what, ours, the shell's): a first load, churn, the same in another order; the jobs' peak memory in bytes."""
    with tempfile.TemporaryDirectory(prefix="bench-lists-") as name:
        lines = made(count)
        peaks: list[float] = []
        scenes: list[Scene] = []

        def first() -> float:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            scene = Scene(folder, type)
            scenes.append(scene)
            scene.body.unlink(missing_ok=True)
            with scene.daemon:
                scene.daemon.first_pull("hotline")  # of a file that is not there yet
                scene.write(lines)
                with Jobs(scene.daemon) as jobs:
                    took = seconds(scene.publish)
                peaks.append(float(jobs.peak))
            return took

        folder = Path(name) / "scene"

        def shell_first() -> float:
            if not folder.exists():
                first()
            return seconds(lambda: scenes[-1].run_shell("first"))

        ours, shells = in_turns(first_rounds, first, shell_first)
        yield "first", ours, shells
        scene = scenes[-1]
        scene.keep_last()
        with scene.daemon, Jobs(scene.daemon) as jobs:
            for what, change in (("churn", False), ("shuffled", True)):
                pairs = []
                for number in range(rounds):
                    fresh = made(max(1, int(count * CHURN)), seed=100 + number + 50 * change)
                    lines = bodies.churned(lines, fresh, seed=number)
                    if change:
                        lines = bodies.shuffled(lines, seed=number)
                    scene.write(lines)
                    ways = (scene.publish, lambda: scene.run_shell("next"))
                    order = (0, 1) if number % 2 else (1, 0)
                    took = {index: seconds(ways[index]) for index in order}
                    pairs.append((took[0], took[1]))
                    scene.keep_last()
                yield what, Sample(tuple(pair[0] for pair in pairs)), Sample(tuple(pair[1] for pair in pairs))
        yield "memory", Sample((max(*peaks, float(jobs.peak)) / 2**20,)), None


def rows() -> Iterator[Row]:
    """The lists of the table: 1,000,000 URLs, 10,000,000 SHA-256."""
    shell = "sort -u, comm, sha256sum, zstd -1"
    floors = {"first": 3.0, "churn": 0.5, "shuffled": 1.5}
    titles = {"first": "first load", "churn": "0.1 % churn", "shuffled": "0.1 % churn, body in another order"}
    for what, ours, peer in measure("url", bodies.urls, 1_000_000, 5, first_rounds=3):
        if peer is not None:
            yield Row(f"1,000,000 URLs: {titles[what]}", ours, peer, shell, floor=floors[what])
    floors["first"] = 1.2
    for what, ours, peer in measure("sha256", bodies.sha256, 10_000_000, 3, first_rounds=2):
        if peer is not None:
            yield Row(f"10,000,000 SHA-256: {titles[what]}", ours, peer, shell, floor=floors[what])
        else:
            yield Row("10,000,000 SHA-256: the jobs' peak memory", ours, None, "", unit="MiB", floor=2.5 * 1024)
