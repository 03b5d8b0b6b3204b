"""Renderings: the diff between two versions, and the compressed form of a file that is served.

Each is written once, whole or not at all, and is the same bytes whoever makes it.
"""

from __future__ import annotations

import mmap
import secrets
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from blocklistd.errors import StoreError, store_errors
from blocklistd.model import ListId, Version
from blocklistd.outputs.diff import render
from blocklistd.outputs.frame import HEAD, Packer
from blocklistd.versions.diffs import net_changes
from blocklistd.versions.files import FLUSH, Disk, Draft, atomic
from blocklistd.versions.lists import oldest_diff
from blocklistd.versions.store import Store

SUFFIX: Final = {"zstd": ".zst", "gzip": ".gz"}
"""The content codings that are served, and the name that a rendering has beside its original."""
CHUNKS: Final = ".chunks"
"""What a file has beside it that tells of its zstd rendering which part of it is what of the content."""
GZIP_LEVEL: Final = 1


def diff_path(store: Store, session: str, start: Version, end: Version) -> Path:
    """Where the diff from `start` to `end` stands once it was asked for; numbers are a list's within its session."""
    return store.diffs / session / f"{start}-{end}.ndjson"


def write_diff(store: Store, list_id: ListId, session: str, start: Version, end: Version) -> None:
    """Renders the diff of two versions that are kept. Raises StoreError."""
    path = diff_path(store, session, start, end)
    with store_errors(store.diffs):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with store.opened() as (database, files), database.read() as connection, _beside(files.disk, path, "") as draft:
        if min(start, end) < oldest_diff(connection, list_id):
            raise StoreError(f"list {list_id}: the log below version {max(start, end)} was pruned meanwhile")
        for piece in render(net_changes(connection, list_id, start, end)):
            draft.write(piece)


def compress(path: Path, coding: str, disk: Disk | None = None) -> None:
    """The file's rendering in a content coding of SUFFIX, beside it. Raises StoreError."""
    with _beside(disk or Disk(), path, SUFFIX[coding]) as draft:
        for piece in _zstd(path) if coding == "zstd" else _gzip(path):
            draft.write(piece)


def _zstd(path: Path) -> Iterator[bytes]:
    packer = Packer()
    yield HEAD
    for piece in _pieces(path):
        yield from packer.write(piece)
    yield from packer.finish()


def _gzip(path: Path) -> Iterator[bytes]:
    """RFC 1952, without a name or a time in the header."""
    stream = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for piece in _pieces(path):
        yield stream.compress(piece)
    yield stream.flush()


def _beside(disk: Disk, path: Path, suffix: str) -> AbstractContextManager[Draft]:
    final = path.with_name(path.name + suffix)
    return atomic(disk, path.with_name(f".{secrets.token_hex(16)}"), lambda: final)


def _pieces(path: Path) -> Iterator[memoryview]:
    size = path.stat().st_size
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
