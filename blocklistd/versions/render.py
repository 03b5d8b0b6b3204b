"""Renderings: the diff between two versions, and the compressed form of a file that is served.

Each is written once, whole or not at all, and is the same bytes whoever makes it.
"""

from __future__ import annotations

import mmap
import secrets
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import zstandard

from blocklistd.errors import StoreError
from blocklistd.model import ListId, Sha256, Version
from blocklistd.outputs.diff import render
from blocklistd.versions.diffs import net_changes
from blocklistd.versions.files import FLUSH, Disk, Draft, SealedFiles, atomic
from blocklistd.versions.lists import oldest_diff
from blocklistd.versions.store import Store

SUFFIX: Final = {"zstd": ".zst", "gzip": ".gz"}
"""The content codings that are served, and the name that a rendering has beside its original."""
ZSTD: Final = zstandard.ZstdCompressionParameters(
    compression_level=1,  # faster than 3, and smaller on hex
    window_log=17,  # of sorted lines the neighbours are alike: near matches are all there is, and a small table of them
    hash_log=10,  # stays in the processor's cache, for 15 % less time and 2 % fewer bytes
    min_match=7,
    threads=2,  # the bytes are the same for any number from 1
)
GZIP_LEVEL: Final = 1


class _Stream(Protocol):
    def compress(self, data: bytes | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


def diff_path(store: Store, session: str, start: Version, end: Version) -> Path:
    """Where the diff from `start` to `end` stands once it was asked for; numbers are a list's within its session."""
    return store.diffs / session / f"{start}-{end}.ndjson"


def write_diff(store: Store, list_id: ListId, session: str, start: Version, end: Version) -> None:
    """Renders the diff of two versions that are kept. Raises StoreError."""
    path = diff_path(store, session, start, end)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with store.opened() as (database, files), database.read() as connection, _beside(files.disk, path, "") as draft:
        if min(start, end) < oldest_diff(connection, list_id):
            raise StoreError(f"list {list_id}: the log below version {max(start, end)} was pruned meanwhile")
        for piece in render(net_changes(connection, list_id, start, end)):
            draft.write(piece)


def compress(path: Path, coding: str, disk: Disk | None = None) -> None:
    """The file's rendering in a content coding of SUFFIX, beside it. Raises StoreError."""
    stream = _zstd() if coding == "zstd" else _gzip()
    with _beside(disk or Disk(), path, SUFFIX[coding]) as draft:
        for piece in _pieces(path, path.stat().st_size):
            draft.write(stream.compress(piece))
        draft.write(stream.flush())


@contextmanager
def sealed_and_packed(files: SealedFiles) -> Iterator[Packing]:
    """A new sealed file and its zstd rendering beside it, both written while the content is made."""
    snapshot: Draft

    def final(_: Sha256) -> Path:
        assert snapshot.sealed is not None
        return files.path(snapshot.sealed).with_name(f"{snapshot.sealed}{SUFFIX['zstd']}")

    with atomic(files.disk, files.unfinished(), final) as packed, files.create() as snapshot:
        packing = Packing(snapshot, packed, _zstd())
        yield packing
        packed.write(packing.stream.flush())


@dataclass(frozen=True, slots=True)
class Packing:
    """Where the content goes: zstd has threads of its own, which work while the same bytes are hashed and written."""

    snapshot: Draft
    packed: Draft
    stream: _Stream

    def write(self, piece: bytes | memoryview) -> None:
        self.packed.write(self.stream.compress(piece))
        self.snapshot.write(piece)


def _zstd() -> _Stream:
    return zstandard.ZstdCompressor(compression_params=ZSTD).compressobj()


def _gzip() -> _Stream:
    """RFC 1952, without a name or a time in the header."""
    return zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)


def _beside(disk: Disk, path: Path, suffix: str) -> AbstractContextManager[Draft]:
    final = path.with_name(path.name + suffix)
    return atomic(disk, path.with_name(f".{secrets.token_hex(16)}"), lambda _: final)


def _pieces(path: Path, size: int) -> Iterator[memoryview]:
    if not size:
        return
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
    ):
        for start in range(0, size, FLUSH):
            with view[start : start + FLUSH] as piece:
                yield piece
