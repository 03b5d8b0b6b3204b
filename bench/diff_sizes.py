"""Bytes of the diffs of a recorded churn, as the feed sends them, beside other ways to bring a snapshot up to date.

Each way brings a client from one version to the next, for all versions. `rsync -z` counts the bytes of both directions.
git counts the pack of all versions without that of the first. `zstd --patch-from` has the least to send: its patch has
no entry that was removed, so it can't be undone.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.compare import Row, Sample
from tests.churn import versions
from tests.system.daemon import Daemon

LIST = "national"
MB = 1_000_000.0


def publish(folder: Path, snapshots: Path) -> int:
    """Publishes the churn, and writes the snapshot of each version. Returns the bytes of all diffs, as zstd."""
    body, sent = folder / "list.txt", 0
    source = {"url": f"file:{body}", "format": "text", "defaults": {"type": "host"}, "schedule": "every 1d"}
    # every step is released, as a reviewer would do
    guards = {"min_change": 10_000_000, "min_entries": 0, "daily": "off"}
    daemon = Daemon(
        folder,
        {
            "sources": {"hotline": {**source, "verify": {"method": "none"}}},
            "lists": {LIST: {"sources": ["hotline"], "guards": guards}},
        },
    )
    steps = versions()
    _, names = next(steps)
    body.write_text("".join(f"{name}\n" for name in sorted(names)))
    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("provider", LIST)
        (snapshots / "1").write_bytes(daemon.snapshot(LIST, token))
        for version, (_, names) in enumerate(steps, 2):
            body.write_text("".join(f"{name}\n" for name in sorted(names)))
            assert daemon.pull("hotline")["outcome"] == "published"
            (snapshots / str(version)).write_bytes(daemon.snapshot(LIST, token))
            path = f"/v1/lists/{LIST}/diffs/{version - 1}-{version}"
            answer = daemon.get(path, token, Accept_Encoding="zstd")
            assert answer.headers["content-encoding"] == "zstd"
            sent += len(answer.body)
    return sent


def pairs(snapshots: Path) -> Iterator[tuple[Path, Path]]:
    """The snapshots of consecutive versions."""
    for version in range(2, sum(1 for _ in snapshots.iterdir()) + 1):
        yield snapshots / str(version - 1), snapshots / str(version)


def patches(snapshots: Path, folder: Path) -> int:
    """The bytes of all patches of `zstd --patch-from`."""
    total, patch = 0, folder / "patch"
    for old, new in pairs(snapshots):
        subprocess.run(["zstd", "-qq", "-f", "--patch-from", old, new, "-o", patch], check=True)
        total += patch.stat().st_size
    return total


def rsync(snapshots: Path, folder: Path) -> int:
    """The bytes that `rsync -z` sends and receives to change a copy into each next version."""
    total, copy = 0, folder / "copy"
    for old, new in pairs(snapshots):
        shutil.copyfile(old, copy)
        said = subprocess.run(
            ["rsync", "-z", "--no-whole-file", "--ignore-times", "--stats", new, copy],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        found = re.findall(r"Total bytes (?:sent|received): ([0-9,]+)", said)
        assert len(found) == 2, said
        total += sum(int(number.replace(",", "")) for number in found)
    return total


def git(snapshots: Path, folder: Path) -> int:
    """The growth of a git repository's pack from the first version to the last."""
    repository, sizes = folder / "git", list[int]()

    def run(*arguments: str) -> None:
        named = ("-c", "user.name=bench", "-c", "user.email=bench@example.invalid", "-c", "pack.threads=2")
        subprocess.run(["git", "-C", repository, *named, *arguments], check=True, capture_output=True)

    repository.mkdir()
    run("init", "-q")
    versions_made = sorted(snapshots.iterdir(), key=lambda path: int(path.name))
    for number, snapshot in enumerate(versions_made, 1):
        shutil.copyfile(snapshot, repository / "list")
        run("add", "list")
        run("commit", "-q", "-m", snapshot.name)
        if number in (1, len(versions_made)):
            run("repack", "-q", "-a", "-d", "-f")
            sizes.append(sum(path.stat().st_size for path in repository.glob(".git/objects/pack/*.pack")))
    first, last = sizes
    return last - first


def rows() -> Iterator[Row]:
    """A row for each other way."""
    with tempfile.TemporaryDirectory(prefix="bench-diff-sizes-") as name:
        folder = Path(name)
        for part in ("scene", "snapshots", "work"):
            (folder / part).mkdir()
        snapshots = folder / "snapshots"
        ours = Sample((publish(folder / "scene", snapshots) / MB,))
        what = f"all diffs of {sum(1 for _ in pairs(snapshots))} versions of a churn, zstd"
        for peer, measured, floor in (
            ("rsync -z", rsync, 1.0),
            ("git packfile", git, 1.0),
            ("zstd --patch-from", patches, 1.75),
        ):
            yield Row(what, ours, Sample((measured(snapshots, folder / "work") / MB,)), peer, "MB", floor)
