"""Reads a backup, and verifies every byte of it before anything is made from it.

Order of calls: `opened` gives a Backup whose manifest is verified and whose bases are found; `check` reads all of it;
then `copy` for each member. The bases of an increment are the backups with the right ids in its own folder, whatever
their file names are.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from blocklistd.errors import StoreError, store_errors
from blocklistd.limits import FILE_CHUNK, MAX_BACKUP_MANIFEST
from blocklistd.store.backup_format import (
    BLOCK,
    END,
    Manifest,
    Member,
    NoBackupError,
    manifest_name,
    padding,
    read_header,
    read_manifest,
    short,
)

_OTHER: Final = "restore another backup"
_CUT: Final = f"it is cut short: copy it again, or {_OTHER}"


@dataclass(frozen=True, slots=True)
class Opened:
    """An open backup: its id, its manifest, the size of the manifest in bytes, and where the content of each file
    begins, by its SHA-256."""

    path: Path
    file: BinaryIO
    id: str
    manifest: Manifest
    manifest_size: int
    places: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup with its bases, by their ids."""

    newest: Opened
    bases: Mapping[str, Opened]

    @property
    def manifest(self) -> Manifest:
        """What the backup contains."""
        return self.newest.manifest

    def check(self) -> None:
        """Reads the backup to its end, and all that it needs of its bases. Raises StoreError, which names the file and
        what is wrong."""
        with _naming(self.newest.path):
            _check_all(self.newest)
        for member in self.manifest.members:
            if member.base is not None:
                _consume(self.content(member))

    def content(self, member: Member) -> Iterator[bytes]:
        """The content of a member in chunks. Raises StoreError after the last one if it was altered."""
        holder = self.newest if member.base is None else self.bases[member.base]
        with _naming(holder.path):
            at = holder.places.get(member.sha256)
            if at is None:
                raise NoBackupError(f"it does not have {member.name}, which {self.newest.path} needs: {_OTHER}")
            holder.file.seek(at)
            yield from _content(holder.file, member)


@contextmanager
def opened(path: Path) -> Iterator[Backup]:
    """Opens a backup and its bases, and verifies their manifests. Raises StoreError, NoBackupError for another file."""
    with ExitStack() as stack:
        newest = stack.enter_context(opened_alone(path))
        missing = newest.manifest.bases
        bases: dict[str, Opened] = {}
        for other in _files_beside(path) if missing else ():
            if missing <= bases.keys():
                break
            if (found := _id_of(other)) in missing and found not in bases:
                bases[found] = stack.enter_context(opened_alone(other))
        if missing - bases.keys():
            names = ", ".join(sorted(short(found) for found in missing - bases.keys()))
            raise NoBackupError(
                f"{path}: it is an increment, and needs the backups with the ids {names}: put them into the folder "
                f"{path.parent}"
            )
        yield Backup(newest, bases)


@contextmanager
def opened_alone(path: Path) -> Iterator[Opened]:
    """Opens a backup without its bases, and verifies its manifest. Raises StoreError, NoBackupError."""
    with _naming(path):
        file = _open(path)
    with file:
        with _naming(path):
            header = file.read(BLOCK)
            if len(header) < BLOCK and header[:9] == b"manifest-"[: len(header)]:
                raise NoBackupError(f"it has {len(header)} bytes: {_CUT}")
            found = read_header(header)
            if found.size > MAX_BACKUP_MANIFEST:
                raise NoBackupError(
                    f"its manifest has {found.size} bytes, and at most {MAX_BACKUP_MANIFEST} are read: "
                    f"name a file that `blocklistd backup` wrote"
                )
            body = file.read(found.size)
            if len(body) < found.size:
                raise NoBackupError(_CUT)
            manifest = read_manifest(header, body)
        yield Opened(path, file, found.backup, manifest, found.size, _places(manifest, found.size))


def _open(path: Path) -> BinaryIO:
    """Opens a file. Raises StoreError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would block
    except FileNotFoundError:
        raise NoBackupError("there is no such file: name a file that `blocklistd backup` wrote") from None
    except PermissionError:
        raise StoreError("permission denied: run this as a user who can read the file") from None
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        what = "a folder" if stat.S_ISDIR(kind) else "no file"
        raise NoBackupError(f"it is {what}: name a file that `blocklistd backup` wrote")
    return open(descriptor, "rb")


def _check_all(backup: Opened) -> None:
    """Compares each byte after the manifest with what the manifest says."""
    file, manifest = backup.file, backup.manifest
    file.seek(BLOCK + backup.manifest_size)
    _expect(file, b"\0" * padding(backup.manifest_size), manifest_name(backup.id))
    for member in manifest.members:
        if member.base is None:
            _expect(file, manifest.header(member.name, member.size), f"the header of {member.name}")
            _consume(_content(file, member))
            _expect(file, b"\0" * padding(member.size), f"the end of {member.name}")
    _expect(file, END, "the end of the backup")
    if file.read(1):
        raise NoBackupError(f"it has more bytes than its manifest says: {_OTHER}")


def _expect(file: BinaryIO, expected: bytes, what: str) -> None:
    found = file.read(len(expected))
    if found != expected:
        raise NoBackupError(_CUT if len(found) < len(expected) else f"{what} was altered: {_OTHER}")


def _content(file: BinaryIO, member: Member) -> Iterator[bytes]:
    seen, left = hashlib.sha256(), member.size
    while left:
        chunk = file.read(min(FILE_CHUNK, left))
        if not chunk:
            raise NoBackupError(_CUT)
        left -= len(chunk)
        seen.update(chunk)
        yield chunk
    if seen.hexdigest() != member.sha256:
        raise NoBackupError(f"{member.name} was altered: {_OTHER}")


def _consume(chunks: Iterator[bytes]) -> None:
    for _ in chunks:
        pass


def _places(manifest: Manifest, manifest_size: int) -> dict[str, int]:
    found = {}
    at = BLOCK + manifest_size + padding(manifest_size)
    for member in manifest.members:
        if member.base is None:
            at += len(manifest.header(member.name, member.size))
            found[member.sha256] = at
            at += member.size + padding(member.size)
    return found


def _files_beside(path: Path) -> Iterator[Path]:
    with store_errors(path.parent):
        yield from sorted(path.parent.iterdir())


def _id_of(path: Path) -> str | None:
    """The id of the backup in this file; None for another file, or one that can't be read."""
    with suppress(StoreError, OSError), _open(path) as file:
        return read_header(file.read(BLOCK)).backup
    return None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the path before the text of an error."""
    try:
        with store_errors(path):
            yield
    except StoreError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise type(error)(f"{path}: {error}") from None
