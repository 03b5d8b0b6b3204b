"""The list of another blocklistd as a source, over loopback: the first pull, and a pull of 0.1 % changes as a diff.

The peer of both is the same pull of the publisher, from a file with one name a line.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import bodies
from bench.compare import Row, Sample
from bench.lists import CHURN, LIST, Scene
from tests.sim.proxy import LyingFeed
from tests.system.daemon import Daemon

SIZE = 1_000_000
FLOORS = {"first": 2.5, "change": 2.5}


def rows() -> Iterator[Row]:
    """The rows of 1,000,000 domains."""
    folder = Path(tempfile.mkdtemp(prefix="blocklistd-bench-"))
    try:
        lines = bodies.domains(SIZE)
        scene = Scene(folder / "publisher", "domain")
        scene.write(lines)
        with scene.daemon as publisher:
            began = time.perf_counter()
            publisher.first_pull("hotline")
            theirs = {"first": [time.perf_counter() - began], "change": list[float]()}
            scene.wait_for_zstd(scene.token)
            proxy = LyingFeed(publisher.feed_port)
            ours: dict[str, list[float]] = {"first": [], "change": []}
            sizes: dict[str, list[float]] = {"first": [0], "change": []}

            def count(
                path: str, status: int, headers: dict[str, str], body: bytes
            ) -> tuple[int, dict[str, str], bytes]:
                newest = sizes["change"] or sizes["first"]
                newest[-1] += len(body)
                return status, headers, body

            proxy.change = count
            with _downstream(folder / "downstream", scene, proxy) as downstream:
                began = time.perf_counter()
                downstream.first_pull("upstream")
                ours["first"].append(time.perf_counter() - began)
                for step in range(5):
                    lines = bodies.churned(lines, bodies.domains(int(SIZE * CHURN), seed=100 + step), seed=step)
                    scene.write(lines)
                    began = time.perf_counter()
                    scene.publish()
                    theirs["change"].append(time.perf_counter() - began)
                    sizes["change"].append(0)
                    began = time.perf_counter()
                    pull = downstream.pull("upstream")
                    ours["change"].append(time.perf_counter() - began)
                    assert pull["outcome"] == "published", pull
            proxy.close()
        for what, title in (("first", "first pull of a feed"), ("change", "0.1 % churn of a feed, as a diff")):
            sample, peer = Sample(tuple(ours[what])), Sample(tuple(theirs[what]))
            yield Row(f"{title}, {SIZE:,} domains", sample, peer, "pull of a file", floor=FLOORS[what])
            yield Row(f"{title}, {SIZE:,} domains", Sample(tuple(sizes[what])), None, "", unit="bytes")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _downstream(folder: Path, scene: Scene, proxy: LyingFeed) -> Daemon:
    """A daemon that takes the list of the scene's daemon."""
    folder.mkdir()
    (folder / "token").write_text(scene.token)
    (folder / "root.json").write_bytes(scene.daemon.root.read_bytes())
    source: dict[str, Any] = {
        "url": f"tuf+http://127.0.0.1:{proxy.server_port}/{LIST}",
        "schedule": "every 30d",
        "timeout": "10m",
        "auth": {"bearer": {"file": "token"}},
        "verify": {"method": "tuf", "key": "root.json"},
    }
    guards = {"min_change": 999_999_999}
    lists = {LIST: {"sources": ["upstream"], "types": ["domain"], "guards": guards}}
    return Daemon(folder, {"sources": {"upstream": source}, "lists": lists})
