"""The file behind a file: URL, which may be a drop folder; blocking, so called in a thread."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote

from blocklistd.errors import FetchError

NOT_BODIES: Final = (".minisig", ".tmp", ".part")


@dataclass(frozen=True, slots=True)
class Taken:
    """An open regular file; `size`, in bytes, is that at the time of opening."""

    path: Path
    file: BinaryIO
    size: int

    def tag(self) -> str:
        """The file's validator: another one as soon as it was written, replaced or renamed over.

        The change time (ctime) is in it because a copying tool may set the modification time back.
        """
        found = os.fstat(self.file.fileno())
        return f'"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"'

    def read(self, size: int) -> bytes:
        """Up to `size` bytes. Raises FetchError."""
        try:
            return self.file.read(size)
        except OSError as error:
            raise FetchError(f"{named(self.path)}: {error.strerror}: it can't be read") from None

    def close(self) -> None:
        self.file.close()


def take(url: str) -> Taken:
    """Opens the file, or the newest of the drop folder, that `url` names. Raises FetchError."""
    path = path_of(url)
    try:
        if not path.is_dir():
            return _open(path)
        newest = _newest(path)
        if newest is None:
            raise FetchError(f"{named(path)}: no file in this drop folder: expected one whose name does not end in "
                             f"{', '.join(NOT_BODIES)}")  # fmt: skip
        # Whoever may drop files here may not thereby make the daemon read any file of the system.
        return _open(newest, os.O_NOFOLLOW)
    except OSError as error:
        raise FetchError(
            f"{named(path)}: {error.strerror}: expected a file or a folder that uid {os.geteuid()} can read"
        ) from None


def read_beside(url: str, size: int) -> bytes:
    """Up to `size` bytes of the file at `url`, a body's signature. Raises FetchError."""
    path = path_of(url)
    try:
        found = _open(path)
    except OSError as error:
        raise FetchError(f"{named(path)}: {error.strerror}: expected the signature of the file beside it") from None
    with found.file:
        return found.read(size)


def named(path: Path) -> str:
    """A path as errors name it: the name of a file that somebody dropped may hold any bytes."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(path))


def path_of(url: str) -> Path:
    """The absolute path of a file: URL (RFC 8089); `?` and `#` are characters like others. Raises FetchError."""
    rest = url.removeprefix("file:")
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        rest = slash + rest
        if host not in ("", "localhost"):
            raise FetchError(f"{url}: a file: URL with a host: expected file:///PATH")
    path = unquote(rest, errors="surrogateescape")
    if not path.startswith("/") or "\0" in path:
        raise FetchError(f"{url}: not an absolute path: expected file:///PATH")
    return Path(path)


def _newest(folder: Path) -> Path | None:
    """By modification time, then by name; only finished regular files."""
    with os.scandir(folder) as entries:
        found = [
            (entry.stat(follow_symlinks=False).st_mtime_ns, entry.name)
            for entry in entries
            if not entry.name.startswith(".")
            and not entry.name.lower().endswith(NOT_BODIES)
            and entry.is_file(follow_symlinks=False)
        ]
    return folder / max(found)[1] if found else None


def _open(path: Path, flags: int = 0) -> Taken:
    # O_NONBLOCK: opening a FIFO would wait for a writer.
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags), "rb")  # noqa: SIM115
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise FetchError(f"{named(path)}: not a regular file")
    return Taken(path, file, found.st_size)
