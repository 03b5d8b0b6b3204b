"""Time to publish a list from its body on the disk, beside shell commands on the same body.

A publication has two times: until the version is served (the pull is answered), and until the zstd rendering exists,
which is made without a request. Both are compared with the same run of the shell.

The shell makes files that a provider could use: sorted and unique lines (`sort -u`), the difference from the last body
(`comm`), the hash (`sha256sum`), the compressed file (`zstd -1`). It does not verify, canonicalise, guard, version or
sign, and it does not sync to the disk.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bench import bodies
from bench.compare import Row, Sample, in_turns, seconds
from tests.system.daemon import Daemon

SHELL = {
    "first": 'sort -u "$1" >sorted && sha256sum sorted >hash && zstd -1 -q -f sorted',
    "next": 'sort -u "$1" >sorted && comm -3 last sorted >difference && sha256sum sorted >hash && zstd -1 -q -f sorted',
}
CHURN = 0.001
WAIT = 600.0  # seconds


PAGE = resource.getpagesize()
LIST = "national"


class Jobs:
    """Watches the memory of the processes below the daemon, in bytes.

    `peak` is the maximum of one process (VmHWM), `anonymous` the maximum of the anonymous memory of all together; a
    page that forks share counts twice.
    """

    def __init__(self, daemon: Daemon) -> None:
        assert daemon.process is not None
        self._root = daemon.process.pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak = 0
        self.anonymous = 0

    def __enter__(self) -> Jobs:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            below = _below(self._root)
            self.anonymous = max(self.anonymous, sum(map(_anonymous, below)))
            for pid in below:
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                for line in status.splitlines():
                    if line.startswith("VmHWM:"):
                        self.peak = max(self.peak, int(line.split()[1]) * 1024)


def _anonymous(pid: int) -> int:
    try:
        _, resident, of_files, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    except OSError:
        return 0  # it has ended
    return max(0, resident - of_files) * PAGE


def _below(root: int) -> set[int]:
    """The descendants of a process, without the process itself."""
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


class Took(NamedTuple):
    """The times of one publication in seconds."""

    served: float
    every_rendering: float


GUARDS = {"min_entries": 0, "min_change": 999_999_999}
"""Guards that hold nothing."""


class Scene:
    """A daemon with one list from one file or several, whose guards hold nothing, and a folder for the shell."""

    def __init__(
        self,
        folder: Path,
        type: str,
        settings: Mapping[str, object] = MappingProxyType({}),
        *,
        sources: Sequence[str] = ("hotline",),
        plan: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """`settings`: of each source, if its format is not text. `plan`: more settings of the list."""
        self.folder = folder / "bodies"
        self.shell = folder.parent / "shell"
        self.shell.mkdir(exist_ok=True)
        self.sources = sources
        source = {
            "format": "text",
            "defaults": {"type": type},
            "schedule": "every 30d",
            "max_bytes": "4GiB",
            "verify": {"method": "none"},
            **settings,
        }
        self._subscribers = 0
        (folder / "daemon").mkdir(parents=True)
        self.folder.mkdir()
        self.daemon = Daemon(
            folder / "daemon",
            {
                "sources": {name: {"url": f"file:{self.folder / name}", **source} for name in sources},
                "lists": {LIST: {"sources": list(sources), "types": [type], "guards": GUARDS, **plan}},
            },
        )

    @property
    def body(self) -> Path:
        """The body of the first source."""
        return self.folder / self.sources[0]

    def write(self, lines: list[bytes], source: str | None = None) -> None:
        """Replaces the body of a source; None: of the first."""
        (self.folder / (source or self.sources[0])).write_bytes(b"\n".join(lines) + b"\n")

    def first_pulls(self) -> None:
        """Waits until the daemon has tried to pull each source; it fails, since there are no bodies yet."""
        for name in self.sources:
            self.daemon.first_pull(name)

    def publish(self, *sources: str) -> None:
        """Pulls these sources at the same time; without any, all. Fails if no version was published, or a change was
        held."""
        with ThreadPoolExecutor() as threads:
            answers = list(threads.map(self.daemon.pull, sources or self.sources))
        outcomes = {answer["outcome"] for answer in answers}
        assert "published" in outcomes <= {"published", "unchanged"}, answers

    @property
    def token(self) -> str:
        """The token of a new subscriber."""
        self._subscribers += 1
        return self.daemon.subscriber(f"isp-{self._subscribers}", LIST)

    def wait_for_zstd(self, token: str) -> None:
        """Waits until the live snapshot is served with the coding zstd."""
        digest = self.daemon.get(f"/v1/lists/{LIST}", token).json["sha256"]
        target = f"/v1/lists/{LIST}/targets/{digest}.{LIST}.ndjson"
        deadline = time.monotonic() + WAIT
        while True:
            answer = self.daemon.get(target, token, method="HEAD", Accept_Encoding="zstd")
            if answer.headers.get("content-encoding") == "zstd":
                return
            assert time.monotonic() < deadline, f"no zstd rendering within {WAIT} s"
            time.sleep(0.005)

    def time_publication(self, token: str) -> Took:
        """Publishes the written body and returns its times."""
        began = time.perf_counter()
        self.publish()
        served = time.perf_counter() - began
        self.wait_for_zstd(token)
        return Took(served, time.perf_counter() - began)

    def run_shell(self, commands: str, *sources: str) -> None:
        """Runs shell commands with the bodies of these sources as arguments; without any, of all."""
        environment = {**os.environ, "LC_ALL": "C"}
        bodies = [self.folder / name for name in sources or self.sources]
        subprocess.run(["sh", "-c", commands, "sh", *bodies], cwd=self.shell, env=environment, check=True)

    def keep_last(self) -> None:
        """Keeps the shell's result, with which it compares the next one."""
        shutil.copyfile(self.shell / "sorted", self.shell / "last")


class Measured(NamedTuple):
    """`kind`: first, churn, shuffled or memory. `sample`: seconds until every rendering exists, or MiB of memory."""

    kind: str
    sample: Sample
    served: Sample | None = None
    shell: Sample | None = None


def _measured(kind: str, took: list[Took], shell: Sample) -> Measured:
    every_rendering = Sample(tuple(one.every_rendering for one in took))
    return Measured(kind, every_rendering, Sample(tuple(one.served for one in took)), shell)


def measure(
    type: str, made: Callable[..., list[bytes]], count: int, rounds: int, *, first_rounds: int
) -> Iterator[Measured]:
    """A first load, churn, churn in another order, and the peak memory of the jobs."""
    with tempfile.TemporaryDirectory(prefix="bench-lists-") as name:
        lines = made(count)
        peaks: list[float] = []
        scenes: list[Scene] = []
        firsts: list[Took] = []

        def first() -> float:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            scene = Scene(folder, type)
            scenes.append(scene)
            with scene.daemon:
                scene.first_pulls()
                token = scene.token
                scene.write(lines)
                with Jobs(scene.daemon) as jobs:
                    firsts.append(scene.time_publication(token))
                peaks.append(float(jobs.peak))
            return firsts[-1].served

        folder = Path(name) / "scene"

        def shell_first() -> float:
            if not folder.exists():
                first()
                firsts.pop()
            return seconds(lambda: scenes[-1].run_shell(SHELL["first"]))

        _, shells = in_turns(first_rounds, first, shell_first)
        yield _measured("first", firsts, shells)
        scene = scenes[-1]
        scene.keep_last()
        with scene.daemon, Jobs(scene.daemon) as jobs:
            token = scene.token
            for kind, reordered in (("churn", False), ("shuffled", True)):
                took: list[Took] = []
                shell: list[float] = []
                for number in range(rounds):
                    fresh = made(max(1, int(count * CHURN)), seed=100 + number + 50 * reordered)
                    lines = bodies.churned(lines, fresh, seed=number)
                    if reordered:
                        lines = bodies.shuffled(lines, seed=number)
                    scene.write(lines)
                    for ours in (True, False) if number % 2 else (False, True):
                        if ours:
                            took.append(scene.time_publication(token))
                        else:
                            shell.append(seconds(lambda: scene.run_shell(SHELL["next"])))
                    scene.keep_last()
                yield _measured(kind, took, Sample(tuple(shell)))
        yield Measured("memory", Sample((max(*peaks, float(jobs.peak)) / 2**20,)))


SHELL_NAME = "sort -u, comm, sha256sum, zstd -1"
TITLES = {"first": "first load", "churn": "0.1 % churn", "shuffled": "0.1 % churn, lines in another order"}


def rows() -> Iterator[Row]:
    """The rows of the table: 1,000,000 URLs and 10,000,000 SHA-256."""
    floors = {"first": 3.0, "churn": 0.5, "shuffled": 1.5}
    for found in measure("url", bodies.urls, 1_000_000, 5, first_rounds=3):
        if found.kind != "memory":
            yield from _rows("1,000,000 URLs", found, floors[found.kind])
    floors["first"] = 1.2
    for found in measure("sha256", bodies.sha256, 10_000_000, 3, first_rounds=2):
        if found.kind != "memory":
            yield from _rows("10,000,000 SHA-256", found, floors[found.kind])
        else:
            title = "10,000,000 SHA-256: the jobs' peak memory"
            yield Row(title, found.sample, None, "", unit="MiB", floor=2.5 * 1024)


def _rows(entries: str, found: Measured, floor: float) -> Iterator[Row]:
    title = f"{entries}: {TITLES[found.kind]}"
    assert found.served is not None
    yield Row(f"{title}, until the version is served", found.served, found.shell, SHELL_NAME, floor=floor)
    yield Row(f"{title}, until its zstd form is served too", found.sample, found.shell, SHELL_NAME, floor=floor)
