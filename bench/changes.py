"""Large changes of a list, each beside a first load of the larger list in the same run.

A change that touches most entries should cost about as much as a first load, in time and in memory. The memory is the
anonymous memory of all processes below the daemon together (bench.lists.Jobs).

`BENCH_10M=1` adds the same with 10,000,000 SHA-256, which takes long and needs 30 GB of disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import bodies
from bench.compare import Row, Sample
from bench.lists import LIST, WAIT, Jobs, Scene
from tests.damage import flip_a_bit

FEW = 1500
OTHER = {"url": "sha256", "sha256": "url"}
"""By type of the list's entries: a type that the list does not have."""
HELD = 2.5
"""The floor of a change that is composed, held and approved."""
TITLES = {
    "first": "first load",
    "replaced": "every entry replaced",
    "fewer": f"all but {FEW:,} entries removed",
    "more": f"grown from {FEW:,} entries to all",
    "held": "every entry replaced, held by a guard, then approved",
    "policy, fewer": "a new configuration removes every entry",
    "policy, more": "a new configuration adds every entry",
    "rebuilt": "0.1 % churn while the live snapshot is damaged",
}


class Round:
    """One run of all changes with one daemon. `seconds` and `memory` (peak, in bytes) are by the keys of TITLES."""

    def __init__(self, scene: Scene, type: str, sides: tuple[list[bytes], list[bytes]]) -> None:
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, float] = {}
        self.held: set[str] = set()
        """Keys of the changes that a guard held; they were then approved."""
        self._scene = scene
        self._daemon = scene.daemon
        self._type = type
        self._sides = sides

    def run(self) -> None:
        """Makes and times all changes."""
        lines, others = self._sides
        with self._daemon as daemon:
            daemon.first_pull("hotline")  # fails: the file does not exist yet
            self._token = self._scene.token
            self._write_and_time("first", lines)
            self._write_and_time("replaced", others)
            self._write_and_time("fewer", lines[:FEW])
            self._write_and_time("more", others)
            self._configure(guards={"min_entries": 0, "min_change": 10})
            self._write_and_time("held", lines)
            assert "held" in self.held
            self._configure(guards={"min_entries": 0, "min_change": 999_999_999})
            self._time("policy, fewer", lambda: self._apply_policy(OTHER[self._type]))
            self._time("policy, more", lambda: self._apply_policy(self._type))
            self._damage_live()
            fresh = {"url": bodies.urls, "sha256": bodies.sha256}[self._type](max(1, len(lines) // 1000), seed=100)
            self._write_and_time("rebuilt", bodies.churned(lines, fresh))
            self._check_live()

    def _write_and_time(self, what: str, lines: list[bytes]) -> None:
        self._scene.write(lines)
        self._time(what, lambda: self._finish(what, self._daemon.pull("hotline")))

    def _time(self, what: str, work: Callable[[], None]) -> None:
        with Jobs(self._daemon) as jobs:
            began = time.perf_counter()
            work()
            self.seconds[what] = time.perf_counter() - began
        self.memory[what] = float(jobs.anonymous)
        self._scene.wait_for_zstd(self._token)  # so that it is not made while the next change is timed

    def _finish(self, what: str, outcome: dict[str, Any]) -> None:
        if outcome["outcome"] == "held":
            self.held.add(what)
            assert self._daemon.approve(outcome["candidate"])["released"]
        else:
            assert outcome["outcome"] == "published", outcome

    def _configure(self, **changed: object) -> None:
        self._daemon.config["lists"][LIST] |= changed
        self._daemon.write_config()
        assert self._daemon.process is not None
        reloads = self._daemon.log.count("reloaded ")
        self._daemon.process.send_signal(signal.SIGHUP)
        self._daemon.wait_for(lambda: self._daemon.log.count("reloaded ") > reloads, within=WAIT)

    def _apply_policy(self, type: str) -> None:
        """Reloads with only this type in the list, waits for the new version, and approves it if it is held."""
        what = "policy, fewer" if type != self._type else "policy, more"
        live = self._live["version"]
        self._configure(types=[type])
        deadline = time.monotonic() + WAIT
        asked = False
        while self._live["version"] == live:
            held = self._daemon.ask("candidate list").json
            if held:
                self.held.add(what)
                assert self._daemon.approve(held[0]["id"])["released"]
            elif not asked and self._idle():
                self._daemon.pull("hotline")  # a reload may leave it to the next pull
                asked = True
            assert time.monotonic() < deadline, "the policy is not applied"
            time.sleep(0.02)

    def _idle(self) -> bool:
        """Whether the reload has led to nothing for a second."""
        before = self._live["version"], self._daemon.ask("candidate list").json
        time.sleep(1)
        return before == (self._live["version"], self._daemon.ask("candidate list").json) and not before[1]

    @property
    def _live(self) -> dict[str, Any]:
        found: dict[str, Any] = self._daemon.get(f"/v1/lists/{LIST}", self._token).json
        return found

    def _damage_live(self) -> None:
        digest = self._live["sha256"]
        path = self._daemon.folder / "state" / "sealed" / digest[:2] / digest
        flip_a_bit(path)

    def _check_live(self) -> None:
        digest = self._live["sha256"]
        body = self._daemon.get(f"/v1/lists/{LIST}/targets/{digest}.{LIST}.ndjson", self._token).body
        assert hashlib.sha256(body).hexdigest() == digest


def measure(type: str, made: Callable[..., list[bytes]], count: int, rounds: int) -> Iterator[tuple[str, Row]]:
    """(key of TITLES, row): the rows of time, then those of memory."""
    floor, most = (1.5, 1024) if count < 10_000_000 else (2.0, 2560)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    memory: defaultdict[str, list[float]] = defaultdict(list)
    held: set[str] = set()
    sides = made(count, seed=1), made(count, seed=2)
    with tempfile.TemporaryDirectory(prefix="bench-changes-") as name:
        folder = Path(name) / "scene"
        for _ in range(rounds):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            one = Round(Scene(folder, type), type, sides)
            one.run()
            held |= one.held
            for what, took in one.seconds.items():
                seconds[what].append(took)
                memory[what].append(one.memory[what] / 2**20)
    first = Sample(tuple(seconds["first"]))
    entries = f"{count:,} {'URLs' if type == 'url' else 'SHA-256'}"
    for what, all_of_it in seconds.items():
        if what != "first":
            title = f"{entries}: {TITLES[what]}" + (", approved" if what in held and what != "held" else "")
            bound = HELD if what in held else floor
            yield what, Row(title, Sample(tuple(all_of_it)), first, "its first load", floor=bound)
    for what, found in memory.items():
        title = f"{entries}: {TITLES[what]}, most anonymous memory of all jobs together"
        yield what, Row(title, Sample((max(found),)), None, "", unit="MiB", floor=most)


def rows() -> Iterator[Row]:
    """The rows of the table."""
    for _, row in measure("url", bodies.urls, 1_000_000, 2):
        yield row
    if os.environ.get("BENCH_10M"):
        for _, row in measure("sha256", bodies.sha256, 10_000_000, 1):
            yield row
