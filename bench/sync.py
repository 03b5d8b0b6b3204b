"""`blocklistd sync` over loopback: time from a new version to its file on the disk, and memory for a large list.

The peer of an update is the download of the snapshot over a link of 100 Mbit/s: computed from the bytes that the client
received for it, without round trips or losses. Memory is the maximum resident set of the command: with every mapped
page, as getrusage(2) counts it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import bodies
from bench.compare import Row, Sample
from bench.lists import CHURN, LIST, Scene
from blocklistd.client.options import Options
from blocklistd.client.sync import sync_once

SIZE = 1_000_000
HASHES = 10_000_000
LINK = 100_000_000 / 8  # bytes a second
ROUNDS = 5
MEMORY = 200_000_000  # bytes
MEASURED = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, check=True); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, done.stdout.decode())"
)


def rows() -> Iterator[Row]:
    """The rows of 1,000,000 domains and of 10,000,000 hashes."""
    yield from _of("domain", bodies.domains, SIZE, (CHURN,))
    yield from _of("sha256", bodies.sha256, HASHES, (CHURN, 0.1))


def _of(kind: str, body: object, size: int, churns: tuple[float, ...]) -> Iterator[Row]:
    folder = Path(tempfile.mkdtemp(prefix="blocklistd-bench-"))
    try:
        make = body  # (count, seed) → lines
        lines = make(size)  # type: ignore[operator]
        scene = Scene(folder / "publisher", kind)
        with scene.daemon as publisher:
            scene.first_pulls()
            scene.write(lines)
            scene.publish()
            scene.wait_for_zstd(scene.token)
            (folder / "token").write_text(scene.token)
            options = Options(
                url=f"http://127.0.0.1:{publisher.feed_port}",
                list=LIST,
                root=publisher.root,
                dir=folder / "copy",
                token_file=folder / "token",
            )
            first, received, peaks = _command(options)
            title = f"{size:,} {'hashes' if kind == 'sha256' else 'domains'}"
            link = Sample((received / LINK,))
            name = "the snapshot at 100 Mbit/s"
            yield Row(f"sync: first snapshot of {title}", Sample((first,)), link, name)
            for churn in churns:
                times: list[float] = []
                commands: list[float] = []
                for step in range(ROUNDS if size == SIZE else 1):
                    lines = bodies.churned(lines, make(int(size * churn), seed=100 + step), seed=step)  # type: ignore[operator]
                    scene.write(lines)
                    scene.publish()
                    if size == SIZE and step:
                        began = time.perf_counter()
                        assert sync_once(options, print).how == "diff"
                        times.append(time.perf_counter() - began)
                    else:
                        took, _, peak = _command(options)
                        commands.append(took)
                        peaks = max(peaks, peak)
                what = f"sync: {churn:.1%} churn of {title}"
                if times:
                    yield Row(f"{what}, in `--watch`", Sample(tuple(times)), link, name, floor=0.2)
                    yield Row(f"{what}, in `--watch`", Sample(tuple(times)), None, "", floor=0.5)
                yield Row(f"{what}, as a command", Sample(tuple(commands)), link, name)
            yield Row(f"sync: memory, {title}", Sample((float(peaks),)), None, "", unit="bytes", floor=MEMORY)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _command(options: Options) -> tuple[float, int, int]:
    """Runs the command. Returns its time in seconds, and the bytes that it received, and of its memory."""
    command = [
        *(sys.executable, "-m", "blocklistd", "sync", options.url, options.list, "--json"),
        *("--root", str(options.root), "--token-file", str(options.token_file), "--dir", str(options.dir)),
    ]
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURED, *command], stdout=subprocess.PIPE, check=True)
    took = time.perf_counter() - began
    memory, _, document = done.stdout.decode().partition(" ")
    return took, json.loads(document)["bytes"], int(memory)
