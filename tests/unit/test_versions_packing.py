"""A snapshot and its rendering beside it: both or neither, and the next version from them, if they are as they were."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import zstandard

from blocklistd.errors import StoreError
from blocklistd.model import Sha256
from blocklistd.outputs.snapshot import edits
from blocklistd.versions.files import Disk, SealedFiles
from blocklistd.versions.packing import frame_of, recede, sealed_and_packed
from blocklistd.versions.render import CHUNKS, compress

CHANCE = random.Random(3)
EVERY = sorted(
    b'{"type":"url","value":"https://n%d.example/","id":"e-%032x"}' % (number, CHANCE.getrandbits(128))
    for number in range(2000)
)


@pytest.fixture
def files(tmp_path: Path) -> SealedFiles:
    made = SealedFiles(tmp_path / "sealed")
    made.prepare()
    return made


def joined(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def first(files: SealedFiles, content: bytes) -> Sha256:
    with sealed_and_packed(files) as packing:
        for start in range(0, len(content), 10_000):
            packing.write(content[start : start + 10_000])
    assert packing.snapshot.sealed is not None
    return packing.snapshot.sealed


def following(files: SealedFiles, before: Sha256, removes: list[bytes], adds: list[bytes]) -> tuple[Sha256, bool]:
    """The next version, and whether it was made from the rendering of the one before."""
    with files.map(before) as old, frame_of(files, before) as frame, sealed_and_packed(files) as packing:
        packing.splice(old, edits(old, removes, adds), frame)
    assert packing.snapshot.sealed is not None
    return packing.snapshot.sealed, frame is not None


def rendering(files: SealedFiles, digest: Sha256) -> Path:
    return files.path(digest).with_name(f"{digest}.zst")


def content(path: Path) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())


@pytest.mark.parametrize("count", [1, 2000])
def test_versions_follow_each_other(files: SealedFiles, tmp_path: Path, count: int) -> None:
    lines = EVERY[:count]
    digest = first(files, joined(lines))
    for removes, adds in ([lines[0]], []), ([], [lines[0]]), (lines[-1:], EVERY[:0]), ([], lines[-1:]):
        digest, taken_over = following(files, digest, removes, adds)
        lines = sorted(set(lines) - set(removes) | set(adds))
        assert taken_over
        assert files.path(digest).read_bytes() == joined(lines)
        assert content(rendering(files, digest)) == joined(lines)
        again = tmp_path / "again"
        again.write_bytes(joined(lines))
        compress(again, "zstd")
        assert (tmp_path / "again.zst").read_bytes() == rendering(files, digest).read_bytes(), "whoever makes it"


def test_of_nothing(files: SealedFiles) -> None:
    digest = first(files, b"")
    assert content(rendering(files, digest)) == b""
    digest, _ = following(files, digest, [], EVERY[:3])
    assert content(rendering(files, digest)) == joined(EVERY[:3])
    digest, taken_over = following(files, digest, EVERY[:3], [])
    assert taken_over
    assert content(rendering(files, digest)) == b""


@pytest.mark.parametrize(
    "damage", ["gone", "replaced", "changed", "cut short", "no chunks", "chunks cut short", "chunks"]
)
def test_a_rendering_that_is_not_as_it_was_is_not_built_on(files: SealedFiles, damage: str) -> None:
    digest = first(files, joined(EVERY))
    packed, chunks = rendering(files, digest), files.path(digest).with_name(digest + CHUNKS)
    written = chunks.read_bytes()
    match damage:
        case "gone":
            packed.unlink()
        case "replaced":
            beside = packed.with_name("beside")
            beside.write_bytes(packed.read_bytes())
            beside.replace(packed)
        case "changed":
            packed.write_bytes(packed.read_bytes()[:-9] + b"\0" * 9)
        case "cut short":
            os.truncate(packed, 50)
        case "no chunks":
            chunks.unlink()
        case "chunks cut short":
            chunks.write_bytes(written[:-3])
        case "chunks":
            chunks.write_bytes(bytes(len(written)))
    after, taken_over = following(files, digest, [EVERY[7]], [])
    assert not taken_over
    assert content(rendering(files, after)) == joined(EVERY[:7] + EVERY[8:])


@pytest.mark.parametrize("bytes_left", [0, 100, 200_000])
def test_a_full_disk_leaves_nothing_that_is_not_swept(tmp_path: Path, bytes_left: int) -> None:
    class Full(Disk):
        left = 1 << 30

        def write(self, file: object, data: bytes | memoryview) -> None:
            self.left -= len(data)
            if self.left < 0:
                raise OSError(28, "No space left on device")
            super().write(file, data)  # type: ignore[arg-type]

    disk = Full()
    files = SealedFiles(tmp_path / "sealed", disk)
    files.prepare()
    digest = first(files, joined(EVERY))
    before = {path for path in files.root.rglob("*") if path.is_file()}
    disk.left = bytes_left
    with pytest.raises(StoreError, match="the disk is full"):
        following(files, digest, [EVERY[7]], [])
    with pytest.raises(StoreError, match="the disk is full"):
        first(files, joined(EVERY[1:]))
    assert not list((files.root / "new").iterdir())
    assert set(files.root.rglob("*.zst")) == {rendering(files, digest)}
    files.sweep({digest})
    assert {path for path in files.root.rglob("*") if path.is_file()} == before


def test_what_was_superseded_stays_on_the_disk(files: SealedFiles) -> None:
    digest = first(files, joined(EVERY))
    recede(files, digest)
    assert files.intact(digest)
    assert content(rendering(files, digest)) == joined(EVERY)
