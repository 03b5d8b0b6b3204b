"""Sealed files: content on the disk, written once, named by its SHA-256.

On the disk, in `SealedFiles.root`:

    new/RANDOM           a file that is being written
    ab/abcd…             a sealed file; its name is the SHA-256 of its content, in hex
    ab/abcd….zst, .gz    its renderings (store/render.py); `ab/.RANDOM` is one that is being written
    .sealing             lock: shared while a file gets its final name, exclusive while `sweep` removes one

A file is sealed in this order: create in `new`, write, fsync, rename to its digest, fsync of the folder. After that a
row of the database may name it. `sweep` removes the files that no row names. Sealed files are created and removed
through `Disk`, so that tests can make each step fail, or lose what was not synced.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import mmap
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, Final

from blocklistd.errors import store_errors
from blocklistd.lines.keys import Buffer
from blocklistd.model import Sha256

FLUSH: Final = 1 << 16  # bytes gathered before they are hashed and written
MIN_SWEEP_AGE: Final = 3600.0  # seconds: longer than any job may take from sealing a file to naming it in a row
WRITE_BACK: Final = 8 << 20  # bytes after which the kernel is asked to begin writing them to the disk
_SYNC_FILE_RANGE: Final = getattr(ctypes.CDLL(None), "sync_file_range", None)
_WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE


class Disk:
    """The port to the file system: each method is one step that can fail or be lost in a crash. Raises OSError."""

    def create(self, path: Path) -> BinaryIO:
        """Creates and opens a new file; it must not exist."""
        return open(path, "xb", buffering=0)

    def write(self, file: BinaryIO, data: bytes | memoryview) -> None:
        """Writes all of `data`. One write(2) may take only a part, as the last one before ENOSPC does."""
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]

    def write_back(self, file: BinaryIO, start: int, size: int) -> None:
        """Asks the kernel to begin writing these bytes to the disk (size 0: to the end), so that a later `fsync` is
        short. Makes nothing durable: sync_file_range(2) does not write the journal."""
        if _SYNC_FILE_RANGE is not None:
            _SYNC_FILE_RANGE(file.fileno(), ctypes.c_int64(start), ctypes.c_int64(size), _WRITE)

    def fsync(self, file: BinaryIO) -> None:
        """Makes the file's content durable."""
        os.fsync(file.fileno())

    def rename(self, old: Path, new: Path) -> None:
        """Renames a file; replaces an existing `new`."""
        os.rename(old, new)

    def fsync_folder(self, folder: Path) -> None:
        """Makes the names in the folder durable."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unlink(self, path: Path) -> None:
        """Removes the file, if it exists."""
        path.unlink(missing_ok=True)


class Draft:
    """A file that is being written. `length`: bytes so far. `sealed`: its digest, once it is a sealed file."""

    def __init__(self, disk: Disk, file: BinaryIO, hash: hashlib._Hash | None) -> None:
        self._disk = disk
        self._file = file
        self._hash = hash
        self._pending = bytearray()
        self._not_written_back = 0  # bytes at the end for which `write_back` was not yet called
        self.length = 0
        self.sealed: Sha256 | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Appends `data`; returns its length in bytes. Small writes are gathered."""
        self.length += len(data)
        if len(data) >= FLUSH:
            self._flush()
            self._write_now(data)
        else:
            self._pending += data
            if len(self._pending) >= FLUSH:
                self._flush()
        return len(data)

    def _write_now(self, data: bytes | bytearray | memoryview) -> None:
        if self._hash is not None:
            self._hash.update(data)
        self._disk.write(self._file, memoryview(data))
        self._not_written_back += len(data)
        if self._not_written_back >= WRITE_BACK:  # the disk writes while the next bytes are computed
            self._disk.write_back(self._file, self._file.tell() - self._not_written_back, self._not_written_back)
            self._not_written_back = 0

    def _flush(self) -> None:
        if self._pending:
            self._write_now(self._pending)
            self._pending = bytearray()

    def finish(self, *, sync: bool = True) -> None:
        """Writes the gathered bytes, and syncs the file if `sync`."""
        self._flush()
        if sync:
            self._disk.fsync(self._file)


@contextmanager
def atomic(
    disk: Disk,
    temporary: Path,
    final: Callable[[], Path],
    hash: hashlib._Hash | None = None,
    rename_lock: Callable[[], AbstractContextManager[None]] = nullcontext,
    sync: bool = True,
) -> Iterator[Draft]:
    """Writes a file so that it is complete and synced under its final name, or does not exist.

    The block writes the draft. If it ends cleanly, the file is synced and renamed from `temporary` to `final()`, while
    `rename_lock` is held; after an exception `temporary` is removed. `hash` is updated with the bytes written: `final`
    can take the name from it. `sync`: False for a rendering, since a start removes all (upkeep.clear_work). Raises
    StoreError for an error of the disk.
    """
    with store_errors(temporary.parent):
        try:
            with disk.create(temporary) as file:
                draft = Draft(disk, file, hash)
                yield draft
                draft.finish(sync=sync)
            name = final()
            with rename_lock():
                disk.rename(temporary, name)
            if sync:
                disk.fsync_folder(name.parent)
        except BaseException:
            disk.unlink(temporary)
            raise


@contextmanager
def map_file(path: Path) -> Iterator[mmap.mmap | bytes]:
    """A file's content as a read-only buffer; b"" for an empty one. Raises OSError."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
            return
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            yield content
        finally:
            with suppress(BufferError):  # a view still exists, perhaps in a traceback: its end unmaps the file
                content.close()


def drop_page_cache(buffer: Buffer) -> None:
    """Drops a mapped file's pages from the process; until then they count as its memory. Call after reading it."""
    if isinstance(buffer, mmap.mmap):
        buffer.madvise(mmap.MADV_DONTNEED)


def drop_file_from_page_cache(path: Path) -> None:
    """Drops a file that is hardly read again from the kernel's page cache. Ignores errors."""
    with suppress(OSError), open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def is_read_only(folder: Path) -> bool:
    """Whether the folder's file system is mounted read-only, perhaps by the kernel after an error. Raises OSError."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def fingerprint(path: Path) -> str | None:
    """The file's stat fingerprint: inode, size, mtime and ctime. It changes when the file is written, replaced or
    renamed. None if the file does not exist."""
    try:
        return fingerprint_of(os.stat(path))
    except OSError:
        return None


def fingerprint_of(found: os.stat_result) -> str:
    """The stat fingerprint from a stat result, for example from that of an open file."""
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"


class SealedFiles:
    """The folder of sealed files; the module shows what is in it. Call `prepare` once before all else."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self.disk = disk or Disk()

    def prepare(self) -> None:
        """Makes the folders. Raises StoreError."""
        with store_errors(self.root):
            (self.root / "new").mkdir(mode=0o700, parents=True, exist_ok=True)
            for byte in range(256):
                (self.root / f"{byte:02x}").mkdir(mode=0o700, exist_ok=True)

    def path(self, digest: Sha256) -> Path:
        """The path of the sealed file with this digest, whether it exists or not."""
        return self.root / digest[:2] / digest

    def target(self, digest: Sha256) -> Path:
        """The path to which a new sealed file with this digest is renamed."""
        return self.path(digest)

    @contextmanager
    def create(self) -> Iterator[Draft]:
        """Writes a new sealed file. It exists once the block has ended without an exception: see `Draft.sealed`.

        Raises StoreError for an error of the disk.
        """
        hash = hashlib.sha256()
        with atomic(
            self.disk, self.unfinished(), lambda: self.target(Sha256(hash.hexdigest())), hash, self._rename_lock
        ) as draft:
            yield draft
        draft.sealed = Sha256(hash.hexdigest())

    def unfinished(self) -> Path:
        """A new path in `new` for a file that is being written; `sweep` removes it if it stays there."""
        return self.root / "new" / secrets.token_hex(16)

    def adopt(self, path: Path) -> Sha256:
        """Seals a file that a less trusted process wrote on the same file system; returns its digest, computed here.

        Raises StoreError.
        """
        digest = self._digest(path)
        self._rename_synced(path, self.target(digest))
        return digest

    def adopt_unsynced(self, path: Path, digest: Sha256 | None = None) -> Sha256:
        """Like `adopt`, without a sync: for a file that can be made again.

        A power cut may damage it, so later processes verify it. `digest`: its SHA-256, if known. An intact sealed file
        of the same content stays in place. Returns the digest. Raises StoreError.
        """
        digest = digest or self._digest(path)
        if not self.is_intact(digest):
            with store_errors(self.root), self._rename_lock():
                self.disk.rename(path, self.target(digest))
        else:
            with suppress(OSError), self._rename_lock():
                os.utime(self.target(digest))  # so that `sweep` counts it as new until a row names it
        return digest

    def begin_writing(self, digest: Sha256) -> None:
        """Asks the kernel to begin writing a sealed file to the disk, so that `drop_file_from_page_cache` can later
        drop all of it."""
        with suppress(OSError), open(self.path(digest), "rb") as file:
            self.disk.write_back(file, 0, 0)

    def _digest(self, path: Path) -> Sha256:
        with store_errors(self.root), open(path, "rb") as file:
            return Sha256(hashlib.file_digest(file, "sha256").hexdigest())

    def _rename_synced(self, path: Path, final: Path) -> None:
        """Syncs a written file and renames it to `final`, on the same file system. Raises StoreError."""
        with store_errors(self.root):
            with open(path, "rb") as file:
                self.disk.fsync(file)
            with self._rename_lock():
                self.disk.rename(path, final)
            self.disk.fsync_folder(final.parent)

    @contextmanager
    def map(self, digest: Sha256 | None) -> Iterator[mmap.mmap | bytes]:
        """The content as a read-only buffer; b"" for no digest or an empty file. Does not verify it.

        Raises StoreError if the file is missing.
        """
        if digest is None:
            yield b""
            return
        with store_errors(self.root), map_file(self.path(digest)) as content:
            yield content

    def fingerprint(self, digest: Sha256) -> str | None:
        """The stat fingerprint of the sealed file; None if it is missing."""
        return fingerprint(self.path(digest))

    def is_intact(self, digest: Sha256) -> bool:
        """Whether the file exists and its content has that digest. Reads all of it."""
        try:
            with open(self.path(digest), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == digest
        except OSError:
            return False

    def sweep(self, named: Collection[Sha256], young: float = MIN_SWEEP_AGE, began: float | None = None) -> int:
        """Removes the files that are not in `named`, and everything in `new`; returns how many files.

        `began`: time at which `named` was read, in Unix seconds; now by default. Files that were written or sealed
        again less than `young` seconds before `began`, or later, stay. The exclusive lock prevents a file from
        being sealed again between the check of its age and its removal. Raises StoreError.
        """
        began = time.time() if began is None else began
        removed = 0
        with store_errors(self.root):
            for paths, are_sealed in self._folders():
                for path in paths:
                    if path.is_dir() or path.name.startswith("."):
                        continue  # not made here (lost+found), or a rendering that is being written
                    if are_sealed and path.name.partition(".")[0] in named:
                        continue
                    with self._locked(fcntl.LOCK_EX), suppress(FileNotFoundError):
                        changed = path.stat().st_ctime
                        # a change in the future: the clock was set back since
                        if began - changed >= young or changed - time.time() >= young:
                            self.disk.unlink(path)
                            removed += 1
        return removed

    def _rename_lock(self) -> AbstractContextManager[None]:
        return self._locked(fcntl.LOCK_SH)

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Holds the lock between processes: shared for a rename, exclusive for each removal of a sweep."""
        descriptor = os.open(self.root / ".sealing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def _folders(self) -> Iterator[tuple[Iterable[Path], bool]]:
        """The paths in each folder, and whether they are sealed files and renderings (not files being written)."""
        yield list((self.root / "new").iterdir()), False
        for byte in range(256):
            yield list((self.root / f"{byte:02x}").iterdir()), True
