"""Time to publish a list that three sources make together, beside shell commands that do the same.

The list has `quorum` 2, a `lifetime`, and 100,000 names that no entry may block. Each source lists two thirds of the
entries, so that each entry has two sources, and as many again as a twentieth that no other source lists.

The first load begins with the bodies of all sources, and ends when the first version is served. A change is a new body
of one source: an entry that it no longer lists leaves the list, and a new one comes when a second source lists it too.
Its time is the mean of three, one of each source, in seconds until the new version is served.

The shell sorts the new bodies (`sort -u`), counts how many sources have each line (`sort -m`, `uniq -c`, `awk`), and
makes the difference, the hash and the compressed file, as in the bench `lists`. It knows no names.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from bench import bodies
from bench.compare import Row, Sample, seconds
from bench.lists import GUARDS, Jobs, Scene

COUNT = 1_000_000
ROUNDS = 3
SOURCES = ("first", "second", "third")
NAMES = 100_000
LIFETIME = {"reverify": "90d", "max_life": "180d", "at_end": "expire"}
QUORUM = """
for body in "$@"; do sort -u "$body" >"of-${body##*/}"; done
sort -m of-* | uniq -c | awk '$1 >= 2 { print $2 }' >sorted
"""
SHELL = {
    "first": QUORUM + "sha256sum sorted >hash && zstd -1 -q -f sorted",
    "next": QUORUM + "comm -3 last sorted >difference && sha256sum sorted >hash && zstd -1 -q -f sorted",
}
SHELL_NAME = "sort -u, sort -m, uniq -c, awk, comm, sha256sum, zstd -1"
CHANGES = {"0.1 % churn of one source": 0.001, "30 % of one source replaced": 0.3}


def protected(folder: Path) -> list[str]:
    """Writes a file of names that no list may block. Returns the value of `never_block`."""
    file = folder / "never-block.txt"
    file.write_bytes(b"\n".join(bodies.domains(NAMES, seed=9)) + b"\n")
    return [str(file)]


def divided(lines: list[bytes], alone: list[bytes]) -> list[list[bytes]]:
    """The bodies of the three sources: each line in two of them, and a third of the lines that one alone has."""
    return [
        [line for at, line in enumerate(lines) if at % 3 != number] + alone[number::3] for number in range(len(SOURCES))
    ]


class Round:
    """A first load and the changes, done by one daemon and by the shell.

    `ours`, `shell`: the seconds that each needed, by the name of the step. `memory`: the daemon's bytes.
    """

    def __init__(self, folder: Path, *, shell_first: bool) -> None:
        plan = {"quorum": 2, "lifetime": LIFETIME, "guards": GUARDS | {"never_block": protected(folder.parent)}}
        self.ours: defaultdict[str, list[float]] = defaultdict(list)
        self.shell: defaultdict[str, list[float]] = defaultdict(list)
        self.memory = 0.0
        self._scene = Scene(folder, "url", sources=SOURCES, plan=plan)
        self._shell_first = shell_first

    def run(self) -> None:
        """Makes and times the first load and the changes."""
        lines, alone = bodies.urls(COUNT), bodies.urls(COUNT // 20, seed=50)
        scene = self._scene
        with scene.daemon:
            scene.first_pulls()
            self._token = scene.token
            with Jobs(scene.daemon) as jobs:
                self._time("first", SHELL["first"], dict(zip(SOURCES, divided(lines, alone), strict=True)))
                for number, (what, share) in enumerate(CHANGES.items()):
                    fresh = bodies.urls(int(COUNT * share), seed=100 + number)
                    lines = bodies.churned(lines, fresh, seed=number)
                    for name, body in zip(SOURCES, divided(lines, alone), strict=True):
                        self._time(what, SHELL["next"], {name: body})
                    assert self._entries == len(set(lines)), "not what the quorum gives"
            self.memory = float(jobs.anonymous)

    def _time(self, what: str, commands: str, changed: dict[str, list[bytes]]) -> None:
        """Times new bodies of some sources."""
        scene = self._scene
        for name, body in changed.items():
            scene.write(body, name)
        for ours in (False, True) if self._shell_first else (True, False):
            if ours:
                self.ours[what].append(seconds(lambda: scene.publish(*changed)))
                scene.wait_for_zstd(self._token)
            else:
                self.shell[what].append(seconds(lambda: scene.run_shell(commands, *changed)))
        scene.keep_last()

    @property
    def _entries(self) -> int:
        return int(self._scene.daemon.get("/v1/lists/national", self._token).json["entries"])


def rows() -> Iterator[Row]:
    """The rows of the table."""
    ours: defaultdict[str, list[float]] = defaultdict(list)
    shell: defaultdict[str, list[float]] = defaultdict(list)
    memory: list[float] = []
    for number in range(ROUNDS):
        folder = Path(tempfile.mkdtemp(prefix="bench-sources-"))
        try:
            one = Round(folder / "scene", shell_first=bool(number % 2))
            one.run()
        finally:
            shutil.rmtree(folder)
        memory.append(one.memory / 2**20)
        for what, took in one.ours.items():
            ours[what].append(statistics.mean(took))
            shell[what].append(statistics.mean(one.shell[what]))
    title = f"{COUNT:,} URLs of three sources, quorum 2, lifetime, {NAMES:,} names protected"
    samples = {what: Sample(tuple(took)) for what, took in ours.items()}
    first, *changes = samples
    yield Row(f"{title}: first load", samples[first], Sample(tuple(shell[first])), SHELL_NAME, floor=3.0)
    few, many = changes
    yield Row(f"{title}: {few}", samples[few], Sample(tuple(shell[few])), SHELL_NAME, floor=0.5)
    yield Row(f"{title}: {many}", samples[many], Sample(tuple(shell[many])), SHELL_NAME)
    yield Row(f"{title}: {many}", samples[many], samples[first], "its first load", floor=1.5)
    most = Sample((max(memory),))
    yield Row(f"{title}: most anonymous memory of all jobs together", most, None, "", unit="MiB", floor=1024)
