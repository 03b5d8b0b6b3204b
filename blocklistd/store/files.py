"""Sealed files: content on disk, written once, named by its SHA-256.

A file is sealed in this order: temporary file, write, fsync, rename to its digest, fsync of the folder; only then may
the database name it. What no row names is swept (`sweep`). All writing goes through `Disk`, so that tests can make
each step fail, or forget what was not yet synced.
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
YOUNG: Final = 3600.0  # seconds: longer than any job may take from sealing a file to naming it
WRITE_BACK: Final = 8 << 20  # bytes that are put out before the kernel is told to begin to write them
_SYNC_FILE_RANGE: Final = getattr(ctypes.CDLL(None), "sync_file_range", None)
_WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE


class Disk:
    """The port to the file system: each method is one step that can fail or be lost in a crash."""

    def create(self, path: Path) -> BinaryIO:
        return open(path, "xb", buffering=0)

    def write(self, file: BinaryIO, data: bytes | memoryview) -> None:
        """All of `data`: a raw file may take less than it is given (a full disk does so before it says ENOSPC)."""
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]

    def write_back(self, file: BinaryIO, start: int, size: int) -> None:
        """Has the kernel begin to write these bytes out (a size of 0: to the end), so that `fsync` finds little left; a
        hint, which makes nothing durable (sync_file_range(2), which unlike fsync writes no journal)."""
        if _SYNC_FILE_RANGE is not None:
            _SYNC_FILE_RANGE(file.fileno(), ctypes.c_int64(start), ctypes.c_int64(size), _WRITE)

    def fsync(self, file: BinaryIO) -> None:
        os.fsync(file.fileno())

    def rename(self, old: Path, new: Path) -> None:
        os.rename(old, new)

    def fsync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)


class Draft:
    """A file that is being written, of `length` bytes so far; `sealed` is set once it is a sealed file."""

    def __init__(self, disk: Disk, file: BinaryIO, hash: hashlib._Hash | None) -> None:
        self._disk = disk
        self._file = file
        self._hash = hash
        self._pending = bytearray()
        self._waiting = 0  # bytes at the end that the kernel was not yet told to write
        self.length = 0
        self.sealed: Sha256 | None = None

    def write(self, data: bytes | memoryview) -> int:
        self.length += len(data)
        if len(data) >= FLUSH:
            self._flush()
            self._put(data)
        else:
            self._pending += data
            if len(self._pending) >= FLUSH:
                self._flush()
        return len(data)

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        if self._hash is not None:
            self._hash.update(data)
        self._disk.write(self._file, memoryview(data))
        self._waiting += len(data)
        if self._waiting >= WRITE_BACK:  # the disk works while the rest is made
            self._disk.write_back(self._file, self._file.tell() - self._waiting, self._waiting)
            self._waiting = 0

    def _flush(self) -> None:
        if self._pending:
            self._put(self._pending)
            self._pending = bytearray()

    def finish(self) -> None:
        """Everything on the disk."""
        self._flush()
        self._disk.fsync(self._file)


@contextmanager
def atomic(
    disk: Disk,
    temporary: Path,
    final: Callable[[], Path],
    hash: hashlib._Hash | None = None,
    naming: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Draft]:
    """A file that is whole, synced and under its final name when the block ends cleanly, and nowhere otherwise. `hash`
    is updated with what is written; `final` may ask it for the name. The rename is made in a `naming` block."""
    with store_errors(temporary.parent):
        try:
            with disk.create(temporary) as file:
                draft = Draft(disk, file, hash)
                yield draft
                draft.finish()
            name = final()
            with naming():
                disk.rename(temporary, name)
            disk.fsync_folder(name.parent)
        except BaseException:
            disk.unlink(temporary)
            raise


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    """A file's content as a read-only buffer; b"" for an empty one. Raises OSError."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
            return
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            yield content
        finally:
            with suppress(BufferError):  # whoever still has a view, perhaps the traceback of an error, unmaps it
                content.close()


def drop_page_cache(buffer: Buffer) -> None:
    """Gives back what of a mapped file was read and is not read again soon: it counts as memory of the process."""
    if isinstance(buffer, mmap.mmap):
        buffer.madvise(mmap.MADV_DONTNEED)


def uncache(path: Path) -> None:
    """Gives back the memory that the kernel has of a file which is hardly read again, for what is written next."""
    with suppress(OSError), open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def is_read_only(folder: Path) -> bool:
    """Whether its file system is mounted read-only, on purpose or by the kernel after an error. Raises OSError."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def fingerprint(path: Path) -> str | None:
    """Inode, size, mtime and ctime: another one as soon as the file is written, replaced or renamed. None where it is
    not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return fingerprint_of(found)


def fingerprint_of(found: os.stat_result) -> str:
    """`fingerprint` of a file whose status is at hand: of an open one, say."""
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"


class SealedFiles:
    """The folder of sealed files: `ROOT/ab/abcd…`, and beside each the renderings of it (`abcd….zst`, `abcd….gz`)."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self.disk = disk or Disk()

    def prepare(self) -> None:
        """Makes the folders; raises StoreError where that can't be done."""
        with store_errors(self.root):
            (self.root / "new").mkdir(mode=0o700, parents=True, exist_ok=True)
            for byte in range(256):
                (self.root / f"{byte:02x}").mkdir(mode=0o700, exist_ok=True)

    def path(self, digest: Sha256) -> Path:
        return self.root / digest[:2] / digest

    @contextmanager
    def create(self) -> Iterator[Draft]:
        """A new sealed file, under the digest of its content once the block is left without an exception.

        Raises StoreError where the disk refuses.
        """
        hash = hashlib.sha256()
        with atomic(
            self.disk, self.unfinished(), lambda: self.path(Sha256(hash.hexdigest())), hash, self._naming
        ) as draft:
            yield draft
        draft.sealed = Sha256(hash.hexdigest())

    def unfinished(self) -> Path:
        """A name for a file that is being written: swept, if it is left."""
        return self.root / "new" / secrets.token_hex(16)

    def adopt(self, path: Path) -> Sha256:
        """Seals a file that someone less trusted wrote on the same file system: the digest is computed here."""
        digest = self._digest(path)
        self.take(path, self.path(digest))
        return digest

    def keep(self, path: Path, digest: Sha256 | None = None) -> Sha256:
        """Like `adopt`, for what can be done without: it is not synced, so a power cut may take it, and a later process
        looks whether it is intact. `digest`, where it is known. A sealed file of that content stays what it is."""
        digest = digest or self._digest(path)
        if not self.intact(digest):
            with store_errors(self.root), self._naming():
                self.disk.rename(path, self.path(digest))
        else:
            with suppress(OSError), self._naming():
                os.utime(self.path(digest))  # young again: it is about to be named
        return digest

    def begin_writing(self, digest: Sha256) -> None:
        """Has the kernel begin to write what was kept, so that its memory can be given back when it is superseded."""
        with suppress(OSError), open(self.path(digest), "rb") as file:
            self.disk.write_back(file, 0, 0)

    def _digest(self, path: Path) -> Sha256:
        with store_errors(self.root), open(path, "rb") as file:
            return Sha256(hashlib.file_digest(file, "sha256").hexdigest())

    def take(self, path: Path, final: Path) -> None:
        """Gives a written file on the same file system its final name, synced."""
        with store_errors(self.root):
            with open(path, "rb") as file:
                self.disk.fsync(file)
            with self._naming():
                self.disk.rename(path, final)
            self.disk.fsync_folder(final.parent)

    @contextmanager
    def map(self, digest: Sha256 | None) -> Iterator[mmap.mmap | bytes]:
        """The content as a read-only buffer; b"" for no digest or an empty file. Raises StoreError if it is missing."""
        if digest is None:
            yield b""
            return
        with store_errors(self.root), mapped(self.path(digest)) as content:
            yield content

    def fingerprint(self, digest: Sha256) -> str | None:
        """`fingerprint` of the file."""
        return fingerprint(self.path(digest))

    def intact(self, digest: Sha256) -> bool:
        """Whether the file is there and its content has that digest."""
        try:
            with open(self.path(digest), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == digest
        except OSError:
            return False

    def sweep(self, named: Collection[Sha256], young: float = YOUNG, began: float | None = None) -> int:
        """Removes the files that no row names; returns how many. `began` is when `named` was read, by default now.
        Files written or sealed again less than `young` seconds before it stay. A file that is sealed again meanwhile is
        young, and the lock keeps that from happening between the check and the removal."""
        began = time.time() if began is None else began
        removed = 0
        with store_errors(self.root):
            for folder, keep in self._folders():
                for path in folder:
                    if path.is_dir() or path.name.startswith("."):
                        continue  # none of ours (lost+found), or a rendering that is being written
                    if keep and path.name.partition(".")[0] in named:
                        continue
                    with self._locked(fcntl.LOCK_EX), suppress(FileNotFoundError):
                        changed = path.stat().st_ctime
                        if began - changed >= young or changed - time.time() >= young:  # before the clock was set back
                            self.disk.unlink(path)
                            removed += 1
        return removed

    def _naming(self) -> AbstractContextManager[None]:
        return self._locked(fcntl.LOCK_SH)

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        """Between processes: whoever gives a file its name shares the lock, the sweep has it alone for each file."""
        descriptor = os.open(self.root / ".sealing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def _folders(self) -> Iterator[tuple[Iterable[Path], bool]]:
        yield list((self.root / "new").iterdir()), False
        for byte in range(256):
            yield list((self.root / f"{byte:02x}").iterdir()), True
