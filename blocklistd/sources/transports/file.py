"""The file behind a file: URL, or the newest file of the drop folder there. What blocks is called in a thread."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import unquote

from blocklistd.errors import FetchError
from blocklistd.limits import MAX_SIGNATURE_BYTES, PIECE
from blocklistd.model import NotModified, Validators
from blocklistd.sources.transports.transport import Arrived, Download, Transport

if TYPE_CHECKING:
    from blocklistd.sources.transports.sink import Sink

NOT_BODIES: Final = (
    ".minisig",
    *(".part", ".partial", ".filepart", ".crdownload", ".tmp"),  # half of an upload
    *(".swp", ".bak", "~"),  # an editor's
)
"""A file in a drop folder whose name ends in one of these, in upper or lower case, is never a list."""


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


def take(url: str, pattern: str = "*") -> Taken:
    """Opens the file that `url` names, or the newest of the drop folder there whose name the pattern matches. Raises
    FetchError."""
    path = path_of(url)
    try:
        if not path.is_dir():
            return _open(path)
        newest = max(_complete(path, pattern), default=None)
        if newest is None:
            raise FetchError(f"{named(path)}: no file in this drop folder: expected one whose name matches `pattern` "
                             f"({pattern}), does not begin with a dot, and does not end in "
                             f"{', '.join(NOT_BODIES)}")  # fmt: skip
        # Whoever may drop files here may not thereby make the daemon read any file of the system.
        return _open(path / newest[1], os.O_NOFOLLOW)
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


def _complete(folder: Path, pattern: str) -> Iterator[tuple[int, str]]:
    """The modification time (ns) and the name of each regular file that may be the list."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            is_complete = not name.startswith(".") and not name.lower().endswith(NOT_BODIES)
            if is_complete and fnmatchcase(name, pattern) and entry.is_file(follow_symlinks=False):
                yield entry.stat(follow_symlinks=False).st_mtime_ns, name


def _open(path: Path, flags: int = 0) -> Taken:
    # O_NONBLOCK: opening a FIFO would wait for a writer.
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags), "rb")  # noqa: SIM115
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise FetchError(f"{named(path)}: not a regular file")
    return Taken(path, file, found.st_size)


class FileDownload(Download):
    """Reads what is there at the moment."""

    async def body(self, sink: Sink) -> Arrived | NotModified:
        import asyncio

        found = await asyncio.to_thread(take, self.request.url, self.request.pattern)
        try:
            tag = found.tag()
            if tag == self.request.validators.etag:
                return NotModified()
            sink.expect(found.size)
            while data := await asyncio.to_thread(found.read, PIECE):
                await sink.write(data)
            if found.tag() != tag or sink.length != found.size:
                raise FetchError(
                    f"{named(found.path)}: changed while it was read: expected whole files, moved into place"
                )
        finally:
            await asyncio.to_thread(found.close)
        return Arrived(found.path.as_uri(), "identity", Validators(etag=tag))

    async def signature(self, url: str) -> bytes:
        import asyncio

        return await asyncio.to_thread(read_beside, url, MAX_SIGNATURE_BYTES + 1)


def check(url: str) -> None:
    """Raises ValueError for a URL without a path."""
    if not path_in(url):
        raise ValueError("a path after `file:` (file:/srv/drop, file:///srv/drop, file:drop)")


def path_in(url: str) -> str | None:
    """The path in a file URL as the configuration has it, relative where it does not start with a slash; None where
    there is none.

    RFC 8089 has no relative file URLs; here `file:drop` is the folder next to the configuration file.
    """
    path = url[len("file:") :]
    if path.startswith("//"):
        host, slash, path = path[2:].partition("/")
        if host not in ("", "localhost"):
            return None
        path = slash + path
    path = unquote(path)
    return path if path.isprintable() else None


def absolute(url: str, folder: Path) -> str:
    """The URL, of a path that may be relative to `folder`."""
    path = path_in(url)
    return (folder / path).as_uri() if path else url


TRANSPORT: Final = Transport(
    FileDownload, check=check, absolute=absolute, fetches_signatures=True, has_folders=True, in_own_process=False
)
"""A file or a drop folder; it streams to a file, so the serving process does it."""
