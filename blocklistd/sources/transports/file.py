"""Reads the file at a file: URL, or the newest file in the drop folder there. Blocking calls run in threads."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import unquote

from blocklistd.errors import FetchError
from blocklistd.limits import FILE_CHUNK, MAX_SIGNATURE_BYTES
from blocklistd.model import NotModified, Validators
from blocklistd.sources.transports.dated import DroppedFile, newest
from blocklistd.sources.transports.transport import Arrived, Download, Request, TransferMode, Transport

if TYPE_CHECKING:
    from blocklistd.sources.transports.sink import Sink

NOT_BODIES: Final = (
    ".minisig",
    *(".part", ".partial", ".filepart", ".crdownload", ".tmp"),  # incomplete uploads
    *(".swp", ".bak", "~"),  # files of editors
)
"""A file in a drop folder whose name ends in one of these, in upper or lower case, is never a list."""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """An open regular file. `size`: its size in bytes when it was opened."""

    path: Path
    file: BinaryIO
    size: int

    def tag(self) -> str:
        """The validator of the file: it changes when the file is written, replaced or renamed over.

        It includes the change time (ctime), because a tool that copies files may reset the modification time.
        """
        found = os.fstat(self.file.fileno())
        return f'"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"'

    def read(self, size: int) -> bytes:
        """Up to `size` bytes. Raises FetchError."""
        try:
            return self.file.read(size)
        except OSError as error:
            raise FetchError(f"{printable(self.path)}: {error.strerror}: it can't be read; check the disk") from None

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def open_list(url: str, pattern: str = "*", signatures: str = "") -> OpenedFile:
    """Open the file at `url`; if that is a drop folder, its newest file whose name matches the shell pattern and does
    not end as the signatures do. Raises FetchError."""
    path = path_of(url)
    try:
        if not path.is_dir():
            return _open(path)
        found = newest(_complete(path, pattern, signatures))
        if found is None:
            raise FetchError(
                f"{printable(path)}: no file in this drop folder: expected one whose name matches `pattern`"
                f" ({pattern}), does not begin with a dot, and does not end in {', '.join(NOT_BODIES)}"
            )
        # O_NOFOLLOW: a user who may write to the drop folder must not make the daemon read any file of the system
        return _open(path / found.name, os.O_NOFOLLOW)
    except OSError as error:
        raise FetchError(
            f"{printable(path)}: {error.strerror}: expected a file or a folder that uid {os.geteuid()} can read"
        ) from None


def read_signature(url: str, size: int) -> bytes:
    """Up to `size` bytes of the signature file at `url`. Raises FetchError."""
    path = path_of(url)
    try:
        found = _open(path)
    except OSError as error:
        raise FetchError(
            f"{printable(path)}: {error.strerror}: expected the signature of the file, check `verify.signature`"
        ) from None
    with found.file:
        return found.read(size)


def printable(path: Path) -> str:
    """A path for an error message: unprintable characters are escaped, since a dropped file can have any name."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(path))


def path_of(url: str) -> Path:
    """The absolute path of a file: URL (RFC 8089). `?` and `#` have no special meaning. Raises FetchError for another
    host, and for a relative path."""
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


def _complete(folder: Path, pattern: str, signatures: str) -> Iterator[DroppedFile]:
    """Yield each regular file in the folder that may be the list. `signatures`: the ending of the signatures beside the
    lists."""
    others = (*NOT_BODIES, signatures.lower()) if signatures else NOT_BODIES
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            is_complete = not name.startswith(".") and not name.lower().endswith(others)
            with suppress(FileNotFoundError):  # it was moved away since
                if is_complete and fnmatchcase(name, pattern) and entry.is_file(follow_symlinks=False):
                    yield DroppedFile(entry.stat(follow_symlinks=False).st_mtime_ns, name)


def _open(path: Path, flags: int = 0) -> OpenedFile:
    # O_NONBLOCK: opening a FIFO would otherwise wait for a writer
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags), "rb")  # noqa: SIM115
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise FetchError(f"{printable(path)}: not a regular file: expected one, check `url`")
    return OpenedFile(path, file, found.st_size)


class FileDownload(Download):
    """Reads a file, or the newest file of a drop folder."""

    @property
    def _ending(self) -> str:
        """The ending of the signatures in a drop folder; empty if they are elsewhere."""
        template = self.request.signature or ""
        return template.removeprefix("{url}") if template.startswith("{url}") else ""

    async def body(self, sink: Sink) -> Arrived | NotModified:
        import asyncio

        found = await asyncio.to_thread(open_list, self.request.url, self.request.pattern, self._ending)
        try:
            tag = found.tag()
            if tag == self.request.validators.etag:
                return NotModified()
            sink.expect(found.size)
            while data := await asyncio.to_thread(found.read, FILE_CHUNK):
                await sink.write(data)
            if found.tag() != tag or sink.length != found.size:
                raise FetchError(
                    f"{printable(found.path)}: changed while it was read: expected complete files, moved into place"
                )
        finally:
            await asyncio.to_thread(found.close)
        return Arrived(found.path.as_uri(), "identity", Validators(etag=tag))

    async def signature(self, url: str) -> bytes:
        import asyncio

        return await asyncio.to_thread(read_signature, url, MAX_SIGNATURE_BYTES + 1)


def check(url: str) -> None:
    """Raises ValueError for a file: URL without a path, or with another host."""
    if not path_in(url):
        raise ValueError("a path after `file:` (file:/srv/drop, file:///srv/drop, file:drop)")


def path_in(url: str) -> str | None:
    """The path in a file: URL of the configuration. It is relative if it does not begin with a slash. None if the URL
    has no printable path, or another host.

    RFC 8089 has no relative file: URLs; here `file:drop` is the folder beside the configuration file.
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
    """The URL with an absolute path; a relative path is below `folder`."""
    path = path_in(url)
    return (folder / path).as_uri() if path else url


def _open_download(request: Request) -> Download:
    if request.transfer is TransferMode.LOG:
        from blocklistd.sources.transports.yearly import YearlyFiles, has_years

        if has_years(request.url):
            return YearlyFiles(request)
    return FileDownload(request)


TRANSPORT: Final = Transport(
    _open_download,
    check=check,
    absolute=absolute,
    fetches_signatures=True,
    transfers=(TransferMode.BODY, TransferMode.LOG),
    has_folders=True,
    in_own_process=False,
)
"""A file or a drop folder. It runs in the daemon's own process, since it only streams bytes to a file."""
