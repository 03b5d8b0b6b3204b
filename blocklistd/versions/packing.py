"""A snapshot and its zstd rendering, written side by side: the one is hashed and written while the other is compressed.

Beside the two stands which chunk of the rendering is which part of the content (outputs.frame), so that the next
version compresses what changed. All of that can be done without: where it is gone or damaged, everything is compressed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from blocklistd.lines import Buffer
from blocklistd.model import Sha256
from blocklistd.outputs.frame import HEAD, Chunks, Packer
from blocklistd.outputs.snapshot import Edit, edited
from blocklistd.versions.files import Draft, SealedFiles, atomic, let_go, mapped, mark, uncache
from blocklistd.versions.render import CHUNKS, SUFFIX

_HELD: Final = 256 << 20  # bytes of a mapped file that are read before they are given back


class Packing:
    """Where the content goes. One of `write` (any number of times) or `splice` (once)."""

    def __init__(self, snapshot: Draft, packed: Draft, thread: ThreadPoolExecutor) -> None:
        self.snapshot = snapshot
        self.packer = Packer()
        self._packed = packed
        self._thread = thread
        self._under_way: Future[None] | None = None
        packed.write(HEAD)

    def write(self, piece: bytes | memoryview) -> None:
        self._wait()
        self._under_way = self._thread.submit(self._put, self.packer.write(piece))
        self.snapshot.write(piece)

    def splice(self, old: Buffer, edits: Sequence[Edit], frame: Frame | None) -> None:
        """The content of `old` with its edits; `frame` is the rendering of `old`, where there is one."""
        packed: Iterator[bytes | memoryview]
        if frame is None:
            packed = (made for piece in edited(old, edits) for made in self.packer.write(piece))
        else:
            packed = _letting_go(self.packer.splice(old, edits, frame.packed, frame.chunks), frame.packed)
        self._under_way = self._thread.submit(self._put, packed)
        for piece in _letting_go(edited(old, edits), old):
            self.snapshot.write(piece)

    def finish(self) -> None:
        self._wait()
        self._put(self.packer.finish())

    def _wait(self) -> None:
        if self._under_way is not None:
            self._under_way.result()

    def _put(self, pieces: Iterator[bytes | memoryview]) -> None:
        for piece in pieces:
            self._packed.write(piece)


def _letting_go(pieces: Iterator[bytes | memoryview], of: Buffer) -> Iterator[bytes | memoryview]:
    """Pieces of a buffer that is gone through once."""
    size = 0
    for piece in pieces:
        yield piece
        size += len(piece)
        if size >= _HELD:
            let_go(of)
            size = 0


@contextmanager
def sealed_and_packed(files: SealedFiles) -> Iterator[Packing]:
    """A new sealed file and its zstd rendering beside it."""
    snapshot: Draft

    def final() -> Path:
        assert snapshot.sealed is not None
        return _beside(files, snapshot.sealed, SUFFIX["zstd"])

    with (
        atomic(files.disk, files.unfinished(), final) as packed,
        files.create() as snapshot,
        ThreadPoolExecutor(1) as thread,  # which has ended before either file is closed
    ):
        packing = Packing(snapshot, packed, thread)
        yield packing
        packing.finish()
    assert snapshot.sealed is not None
    _note(files, snapshot.sealed, packing.packer.chunks)


@dataclass(frozen=True, slots=True)
class Frame:
    """The zstd rendering of a sealed file."""

    packed: Buffer
    chunks: Chunks


@contextmanager
def frame_of(files: SealedFiles, digest: Sha256) -> Iterator[Frame | None]:
    """The rendering, if it is there and as it was when it was written."""
    with ExitStack() as stack:
        found = None
        with contextlib.suppress(OSError, ValueError):
            path = _beside(files, digest, SUFFIX["zstd"])
            seen, _, written = _beside(files, digest, CHUNKS).read_bytes().partition(b"\n")
            chunks = Chunks.from_bytes(written)
            packed = stack.enter_context(mapped(path))
            if orjson.loads(seen) == mark(path) and chunks.fit(files.path(digest).stat().st_size, len(packed)):
                found = Frame(packed, chunks)
        yield found


def recede(files: SealedFiles, digest: Sha256) -> None:
    """`uncache` of a file that was superseded, and of its rendering."""
    for path in (files.path(digest), _beside(files, digest, SUFFIX["zstd"])):
        uncache(path)


def _note(files: SealedFiles, digest: Sha256, chunks: Chunks) -> None:
    """Not synced: what a power cut leaves of it does not fit, and is not used."""
    seen = mark(_beside(files, digest, SUFFIX["zstd"]))
    with contextlib.suppress(OSError):
        _beside(files, digest, CHUNKS).write_bytes(orjson.dumps(seen) + b"\n" + chunks.to_bytes())


def _beside(files: SealedFiles, digest: Sha256, suffix: str) -> Path:
    return files.path(digest).with_name(digest + suffix)
