"""`make soak`: publishes a thousand versions and checks that the memory and the descriptors of the process do not grow.

Retention, the sweep of files and the renewal of signatures run every few seconds instead of minutes and hours, so that
the soak covers them. The numbers of kept versions, pulls and metadata (limits.py) reach their bounds in the
warm-up. The rows of the versions stay for ever, and diffs stay as files until they have DIFF_CACHE bytes in total.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from pathlib import Path

import dns.message
import dns.query
import dns.xfr
import dns.zone

from bench import bodies
from bench.memory import private
from bench.zones import ZONE, Ours

WARM = 200  # versions of the warm-up, which fills caches and arenas
GROWTH = 1.05
OFTEN = 0.05  # minutes between two upkeeps, and two sweeps
HASTE = f"""
import runpy, sys
from blocklistd import limits
limits.UPKEEP_MINUTES = limits.SWEEP_MINUTES = {OFTEN}
sys.argv = sys.argv[3:]
runpy.run_module("blocklistd", run_name="__main__")
"""
"""A program that runs `python -m blocklistd`, with the arguments that follow, under these limits."""


def _size(folder: Path, *suffixes: str) -> float:
    """The size in MiB of the files in a folder; with `suffixes`, of the files whose names have one of them."""
    total = 0
    for path in folder.rglob("*"):
        if not suffixes or path.name.endswith(suffixes):
            with contextlib.suppress(FileNotFoundError):  # swept meanwhile
                total += path.stat().st_size if path.is_file() else 0
    return total / 2**20


class Followers:
    """A subscriber and a secondary that follow each version, by diff and by IXFR."""

    def __init__(self, ours: Ours) -> None:
        self._ours = ours
        self._token = ours.daemon.subscriber("provider", "national")
        self._copy = set(ours.daemon.snapshot("national", self._token).splitlines())
        self._version = int(ours.daemon.get("/v1/lists/national", self._token).json["version"])
        self._zone = dns.zone.Zone(ZONE, relativize=False)
        query = dns.message.make_query(ZONE, "AXFR")
        query.use_tsig(ours.key)
        dns.query.inbound_xfr("127.0.0.1", self._zone, query, port=ours.port, lifetime=30)

    def follow(self) -> None:
        """Gets the newest version and serial, and checks their numbers of entries and rules."""
        status = self._ours.daemon.get("/v1/lists/national", self._token).json
        diff = self._ours.daemon.get(f"/v1/lists/national/diffs/{self._version}-{status['version']}", self._token).body
        for line in diff.splitlines():
            if line.startswith(b'{"add":'):
                self._copy.add(line[7:-1])
            else:
                self._copy.remove(line[10:-1])
        self._version = int(status["version"])
        assert len(self._copy) == status["entries"]
        query, _ = dns.xfr.make_query(self._zone, keyring=self._ours.key)
        dns.query.inbound_xfr("127.0.0.1", self._zone, query, port=self._ours.port, lifetime=30)
        assert len(self._zone.nodes) == 2 * status["entries"] + 1


def main() -> int:
    """Runs the soak. Returns 1 if the last versions need more memory or descriptors than those after the warm-up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--versions", type=int, default=1000)
    versions: int = parser.parse_args().versions
    if versions < 3 * WARM:
        parser.error(f"--versions: expected at least {3 * WARM}: {WARM} to be warm, and twice as many to compare")
    names = bodies.domains(2000)
    seen: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        ours = Ours(Path(name))
        ours.daemon.config["lists"]["national"]["retention"] = "1s"
        ours.daemon.config["keys"]["timestamp_expires"] = "1m"
        ours.daemon.config["ops"]["log"]["level"] = "info"
        ours.daemon.write_config()
        ours.daemon.prefix = [sys.executable, "-c", HASTE]
        ours.start(names)
        followers = Followers(ours)
        print(f"{'version':>8} {'USS MiB':>8} {'descriptors':>12} {'threads':>8} {'state MiB':>10} {'database':>9}")
        try:
            for number in range(1, versions + 1):
                names = list(dict.fromkeys(bodies.churned(names, bodies.domains(20, seed=9000 + number), seed=number)))
                ours.write(names)
                assert ours.daemon.pull("hotline")["outcome"] == "published"
                followers.follow()
                descriptors = len(os.listdir(f"/proc/{ours.pid}/fd"))
                seen.append((private(ours.pid), descriptors))
                if not number % 50:
                    threads = len(os.listdir(f"/proc/{ours.pid}/task"))
                    state = _size(ours.folder / "state")
                    database = _size(ours.folder / "state", ".sqlite", ".sqlite-wal")
                    figures = f"{seen[-1][0]:8.1f} {descriptors:12} {threads:8} {state:10.1f} {database:9.1f}"
                    print(f"{number:8} {figures}", flush=True)
        finally:
            ours.daemon.stop()
    grown = False
    for index, what in enumerate(("USS", "descriptors")):
        first = statistics.median(values[index] for values in seen[WARM : 2 * WARM])
        last = statistics.median(values[index] for values in seen[-WARM:])
        print(f"{what}: {first:.1f} after the first {WARM} versions, {last:.1f} in the last {WARM}")
        grown |= last > first * GROWTH
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
