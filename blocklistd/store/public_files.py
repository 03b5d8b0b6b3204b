"""The static tree: what the feed serves of each list, as plain files for a web server, which needs no daemon.

On the disk, in the folder of `feed.public_dir`, for each list, at the paths of the feed:

    v1/lists/LIST/metadata/N.ROLE.json           signed roles
    v1/lists/LIST/targets/SHA256.LIST.ndjson     the live snapshot
    v1/lists/LIST/diffs/N-M                      the diff from each version to the next
    v1/lists/LIST/metadata/N.root.json           the versions of root.json; a new one may refuse the old timestamp.json,
                                                 so it is written right before the next one
    v1/lists/LIST/metadata/timestamp.json        names all others; replaced last
    .new-RANDOM                                  in each folder: a file that is being written

States of a file: written (complete and synced, under its final name), needed (the newest timestamp.json leads to it),
not needed (for `grace` seconds a client may still come that has read an older timestamp.json), removed. A crash leaves
`.new-` files, which the next `prepare` removes, and perhaps files that no timestamp.json names yet.

Files are copies of the sealed files, and clones that share their blocks where the file system can do that (`cp
--reflink`). A hard link would be one file with one owner and one ctime: docs/adr says why that is no option.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from blocklistd.errors import DamagedError, StoreError, store_errors
from blocklistd.limits import CHUNK
from blocklistd.model import ListId, Sha256
from blocklistd.store.files import Disk, SealedFiles, fingerprint

FOLDER_MODE: Final = 0o750
FILE_MODE: Final = 0o640
POINTER: Final = "metadata/timestamp.json"
_NEW: Final = ".new-"
_NO_CLONE: Final = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


@dataclass(frozen=True, slots=True)
class PublicList:
    """The files of one list. `documents` and `roots` (the versions of root.json): content by path in the list's folder.
    `sealed`: SHA-256 of the sealed file by path. `pointer`: content of timestamp.json."""

    list: ListId
    documents: Mapping[str, bytes]
    roots: Mapping[str, bytes]
    sealed: Mapping[str, Sha256]
    pointer: bytes


class PublicFiles:
    """The static tree in a folder. Call `prepare` once, then `write` after each change of a list, and `sweep`.

    `gid`: the group that may read the files; None: the daemon's own. `grace`: in seconds.
    """

    def __init__(
        self,
        root: Path,
        gid: int | None,
        sealed: SealedFiles,
        grace: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self._gid = gid
        self._sealed = sealed
        self._disk: Disk = sealed.disk
        self._grace = grace
        self._clock = clock
        self._written: dict[Path, str] = {}
        """The stat fingerprint of each file that this process wrote, or found to be as it must be."""
        self._not_needed: dict[Path, float] = {}
        """When each file ceased to be needed."""

    def prepare(self) -> None:
        """Makes the folder if it is missing, removes incomplete files, and shares all others with the group, which may
        be another one now. Raises StoreError."""
        with store_errors(self.root):
            if not self.root.exists():
                self.root.mkdir(parents=True)
            self._share(self.root, FOLDER_MODE)
            for path in self.root.glob(f"v1/lists/*/*/{_NEW}*"):
                self._disk.unlink(path)
            for path in (self.root / "v1", *self.root.glob("v1/**/*")):
                if path.is_dir() or path.is_file():
                    self._share(path, FOLDER_MODE if path.is_dir() else FILE_MODE)

    def write(self, files: PublicList) -> None:
        """Writes the files of a list that are missing, then timestamp.json; notes which older files are not needed.

        Raises StoreError, and DamagedError if a sealed file is damaged. The tree is consistent after each step.
        """
        if not self.root.is_dir():
            raise StoreError(f"{self.root}: the folder of feed.public_dir is missing: mount it, or reload to make it")
        folder = self.root / "v1" / "lists" / files.list
        with store_errors(self.root):
            for part in ("metadata", "targets", "diffs"):
                self._make_folder(folder / part)
            for name, digest in files.sealed.items():
                if not self._is_written(folder / name, digest):
                    with self._new(folder / name) as out:
                        self._copy(digest, out)
            self._write_documents(folder, files.documents)
            for part in ("metadata", "targets", "diffs"):
                self._disk.fsync_folder(folder / part)
            self._write_documents(folder, files.roots)
            self._disk.fsync_folder(folder / "metadata")
            self._write_documents(folder, {POINTER: files.pointer})
            self._disk.fsync_folder(folder / "metadata")
        self._note(folder, {folder / name for name in (*files.documents, *files.roots, *files.sealed, POINTER)})

    def withdraw(self, kept: set[ListId]) -> None:
        """Removes timestamp.json of all lists but `kept`, so that no client begins to follow one; their other files are
        not needed. Raises StoreError."""
        with store_errors(self.root):
            for folder in self.root.glob("v1/lists/*"):
                if folder.name not in kept:
                    self._disk.unlink(folder / POINTER)
                    self._note(folder, set())

    def sweep(self) -> int:
        """Removes the files that have not been needed for the time of grace; returns how many. Raises StoreError."""
        before = self._clock() - self._grace
        removed = [path for path, since in self._not_needed.items() if since <= before]
        with store_errors(self.root):
            for path in removed:
                self._disk.unlink(path)
                self._not_needed.pop(path)
                self._written.pop(path, None)
                for folder in (path.parent, path.parent.parent):  # of a list that is gone
                    with suppress(OSError):
                        folder.rmdir()
        return len(removed)

    # -- steps -----------------------------------------------------------------------------------------------------

    def _write_documents(self, folder: Path, documents: Mapping[str, bytes]) -> None:
        for name, content in documents.items():
            if not self._is_written(folder / name, hashlib.sha256(content).hexdigest()):
                with self._new(folder / name) as out:
                    self._disk.write(out, content)

    def _note(self, folder: Path, needed: set[Path]) -> None:
        """Notes which files of a list are needed. After a start, the time of grace begins again for the others."""
        for path in needed:
            self._not_needed.pop(path, None)
        for path in folder.glob(f"*/[!{_NEW[0]}]*"):
            if path not in needed:
                self._not_needed.setdefault(path, self._clock())

    def _is_written(self, path: Path, digest: str) -> bool:
        """Whether the file exists with this SHA-256. A file that has changed since it was written is read again."""
        found = fingerprint(path)
        if found is None:
            return False
        known = f"{found} {digest}"
        if self._written.get(path) != known:
            with open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return False
            self._written[path] = known
        return True

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder.parent != self.root:
            self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        self._share(folder, FOLDER_MODE)
        self._disk.fsync_folder(folder.parent)

    @contextmanager
    def _new(self, path: Path) -> Iterator[BinaryIO]:
        """Writes a file that gets its name once it is complete, synced and readable for the group."""
        temporary = path.with_name(_NEW + secrets.token_hex(8))
        try:
            with self._disk.create(temporary) as file:
                yield file
                self._disk.fsync(file)
            self._share(temporary, FILE_MODE)
            self._disk.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                self._disk.unlink(temporary)
            raise

    def _share(self, path: Path, mode: int) -> None:
        if self._gid is not None:
            os.chown(path, -1, self._gid)
        os.chmod(path, mode)

    def _copy(self, digest: Sha256, out: BinaryIO) -> None:
        """Copies a sealed file, and compares the SHA-256 of the copy."""
        try:
            with open(self._sealed.path(digest), "rb", buffering=0) as source:
                left = os.fstat(source.fileno()).st_size
                try:
                    while left and (sent := os.copy_file_range(source.fileno(), out.fileno(), left)):
                        left -= sent
                except OSError as error:
                    if error.errno not in _NO_CLONE:
                        raise
                    while chunk := source.read(CHUNK):
                        self._disk.write(out, chunk)
        except FileNotFoundError:
            raise DamagedError(digest) from None
        with open(out.name, "rb") as copy:
            if hashlib.file_digest(copy, "sha256").hexdigest() != digest:
                raise DamagedError(digest)
