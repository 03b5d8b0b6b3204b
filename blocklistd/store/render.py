"""Renderings: the diff between two versions, exports, and the compressed form of a file that the feed serves.

On the disk: `diffs/SESSION/START-END.ndjson`, `exports/FORMAT/SHA256`, and beside a file its compressed form, with a
suffix of SUFFIX. A
rendering is written completely or not at all, only from verified files, and always with the same bytes. Its name
contains no digest to verify it by: the caller remembers the stat fingerprint that `write_diff`, `write_export` and
`compress` return, and sends the file only while a `ServedFile` has the same fingerprint.
"""

from __future__ import annotations

import mmap
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import zstandard

from blocklistd.errors import DamagedError, StoreError, store_errors
from blocklistd.jobs import spread
from blocklistd.lines.delta import ENTRIES, in_turn
from blocklistd.model import ListId, Sha256, Version
from blocklistd.outputs import OUTPUTS
from blocklistd.store.diffs import deltas_between, net_delta
from blocklistd.store.files import FLUSH, Disk, Draft, atomic, fingerprint, fingerprint_of
from blocklistd.store.lists import oldest_diff
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified

SUFFIX: Final = {"zstd": ".zst", "gzip": ".gz"}
"""For each content coding that is served, the suffix that a rendering's name adds to that of its original."""
GZIP_LEVEL: Final = 1
ZSTD_LEVEL: Final = 1
ZSTD_THREADS: Final = 2  # the compressed bytes are the same for any number but 0


class ServedFile:
    """An open file of the feed. `fingerprint`: of the open file, which nobody can replace after the comparison.

    `coding`: content coding of its bytes. `length`: in bytes. Raises OSError if it can't be opened.
    """

    def __init__(self, path: Path, coding: str = "identity") -> None:
        self.path = path
        self.coding = coding
        self._file: BinaryIO = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by `close`
        status = os.fstat(self._file.fileno())
        self.fingerprint = fingerprint_of(status)
        self.length = status.st_size
        self._written = (status.st_size, status.st_mtime_ns)

    def seek(self, offset: int) -> None:
        """Sets the offset, in bytes, of the next read."""
        self._file.seek(offset)

    def read(self, size: int) -> bytes:
        """The next bytes, at least one and at most `size`. Raises StoreError if the file was written since it was
        opened, or is at its end."""
        data = self._file.read(size)
        # not the ctime: removing the file changes it, and a removed file may be sent to its end
        status = os.fstat(self._file.fileno())
        if not data or (status.st_size, status.st_mtime_ns) != self._written:
            raise StoreError(f"{self.path.name}: the file was changed while it was sent: request it again")
        return data

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def diff_path(store: Store, session: str, start: Version, end: Version) -> Path:
    """The file of the diff from `start` to `end`, written or not. Versions are numbers within a session."""
    return store.diffs / session / f"{start}-{end}.ndjson"


def rendering_path(path: Path, coding: str) -> Path:
    """The file's rendering in a content coding of SUFFIX."""
    return path.with_name(path.name + SUFFIX[coding])


def write_diff(
    store: Store,
    list_id: ListId,
    session: str,
    start: Version,
    end: Version,
    fingerprints: Fingerprints | None = None,
    large: bool = False,
) -> dict[str, Any]:
    """Writes the diff between two kept versions, netted from the sealed deltas between them.

    `fingerprints`: of the deltas that were verified. `large`: several processes share the work; the calling process is
    forked and must have no other threads. Returns `fingerprint`: of the new file; and `verified`: the fingerprints of
    the deltas. Raises DamagedError if a delta is damaged, StoreError if one is not kept any more.
    """
    path = diff_path(store, session, start, end)
    with store_errors(store.diffs):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with store.opened() as (database, files):
        with database.read() as connection:
            if min(start, end) < oldest_diff(connection, list_id):
                raise StoreError(
                    f"list {list_id}: the diffs from version {min(start, end)} were pruned meanwhile: fetch the list"
                )
            deltas = [digest for digest in deltas_between(connection, list_id, start, end) if digest is not None]
        verified = Verified(files, fingerprints)
        how = spread.in_processes if large else in_turn
        with (
            net_delta(files, verified, ENTRIES, deltas, reverse=end < start, spread=how) as parts,
            _replacing(files.disk, path) as draft,
        ):
            for part in parts:
                draft.write(part.data)
            for digest in deltas:  # again: a delta may have been written while it was read
                if not verified.check(digest):
                    raise DamagedError(digest)
    return {"fingerprint": _written(path), "verified": verified.of(deltas)}


def export_path(store: Store, digest: Sha256, output: str) -> Path:
    """The file of a snapshot in a format of OUTPUTS, written or not."""
    return store.exports / output / digest


def write_export(store: Store, digest: Sha256, output: str, expected: str) -> dict[str, Any]:
    """Writes a snapshot in a format of OUTPUTS. Returns `fingerprint`: of the new file; and `omitted`: the number of
    entries that the format can't express.

    `expected`: the snapshot's fingerprint when it was verified. Raises StoreError if it now has another one, or if the
    snapshot can't be written in this format.
    """
    source, final = store.sealed.path(digest), export_path(store, digest, output)
    with store_errors(store.exports):
        final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with store_errors(source.parent), open(source, "rb") as snapshot, _replacing(store.disk, final) as draft:
        _require(snapshot, expected, source)
        try:
            omitted = OUTPUTS[output](snapshot, draft)
        except ValueError as error:
            raise StoreError(f"{digest}: the snapshot can't be written as {output}: {error}") from None
        _require(snapshot, expected, source)
    return {"fingerprint": _written(final), "omitted": omitted}


def compress(path: Path, coding: str, expected: str, disk: Disk | None = None) -> str:
    """Writes a file's compressed form, in a content coding of SUFFIX, beside it. Returns the rendering's fingerprint.

    `expected`: the file's fingerprint when it was verified. Raises StoreError if the file now has another one.
    """
    final = rendering_path(path, coding)
    with store_errors(path.parent), open(path, "rb") as file, _replacing(disk or Disk(), final) as draft:
        _require(file, expected, path)
        size = os.fstat(file.fileno()).st_size
        for chunk in _zstd(file, size) if coding == "zstd" else _gzip(file, size):
            draft.write(chunk)
        _require(file, expected, path)
    return _written(final)


def _require(file: BinaryIO, expected: str, path: Path) -> None:
    if fingerprint_of(os.fstat(file.fileno())) != expected:
        raise StoreError(f"{path.name}: the file was changed after it was verified: request it again")


def _zstd(file: BinaryIO, size: int) -> Iterator[bytes]:
    """One zstd frame (RFC 8878) with the size and the checksum of its content."""
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=ZSTD_THREADS, write_checksum=True)
    stream = compressor.compressobj(size)
    for chunk in _chunks(file, size):
        yield stream.compress(chunk)
    yield stream.flush()


def _gzip(file: BinaryIO, size: int) -> Iterator[bytes]:
    """One gzip member (RFC 1952) without a name or a time in its header."""
    stream = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for chunk in _chunks(file, size):
        yield stream.compress(chunk)
    yield stream.flush()


def _chunks(file: BinaryIO, size: int) -> Iterator[memoryview]:
    if not size:
        return
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
        for start in range(0, size, FLUSH):
            with view[start : start + FLUSH] as chunk:
                yield chunk


def _replacing(disk: Disk, final: Path) -> AbstractContextManager[Draft]:
    """Writes a file that replaces `final` once it is complete."""
    return atomic(disk, final.with_name(f".{secrets.token_hex(16)}"), lambda: final, sync=False)


def _written(path: Path) -> str:
    found = fingerprint(path)
    if found is None:
        raise StoreError(f"{path.name}: the file was removed right after it was written: request it again")
    return found
