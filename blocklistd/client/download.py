"""Downloads a snapshot or a diff, and compares every byte with the signed version.

A snapshot whose download is cut stays as `.part-SHA256` (client/folder.py), and is continued from there: in the same
sync, by the next one, or from another feed. The URL names the content by its SHA-256, so a Range request needs no
If-Range, whose ETag would differ between feeds; the SHA-256 of all bytes decides. If it is wrong, the first part may be
what another server sent: the snapshot is fetched from its beginning once more.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import urllib3

from blocklistd.client.coding import bounded, decoded
from blocklistd.client.feed import FeedClient, discard
from blocklistd.client.folder import Folder
from blocklistd.client.mirrors import Emit
from blocklistd.client.state import State
from blocklistd.client.trust import SignedVersion
from blocklistd.errors import SyncError
from blocklistd.limits import CLIENT_DIFF_MEMORY, CLIENT_DROP, CLIENT_RESUME_MIN, CLIENT_RESUMES, KIB, MIB
from blocklistd.lines.delta import ENTRIES, apply
from blocklistd.lines.keys import Buffer

_AROUND = 128 * KIB  # bytes that Linux maps around two faults
DIFF_SLACK = MIB  # bytes that a diff may have in addition to all lines of both versions

Progress = Callable[[int, int], None]
"""A function of (bytes of the snapshot that are here, all its bytes)."""


class Mismatch(Exception):
    """The length or the SHA-256 of a snapshot is not the signed one."""


class VersionDownload:
    """The downloads of one sync. `feeds` are asked in this order, until one has the signed bytes."""

    def __init__(
        self, feeds: Sequence[FeedClient], folder: Folder, signed: SignedVersion, emit: Emit, progress: Progress
    ) -> None:
        self._feeds = feeds
        self._folder = folder
        self._signed = signed
        self._emit = emit
        self._progress = progress

    def snapshot(self) -> Path:
        """Fetches the snapshot, and returns the path of the file with it. Raises SyncError if no feed has it."""
        failure: SyncError | None = None
        with self._folder.part(self._signed.sha256) as (part, path):
            for feed in self._feeds:
                try:
                    self._from_feed(feed, part)
                    return path
                except SyncError as error:
                    if feed.is_stopped:
                        raise
                    if failure is not None or len(self._feeds) > 1:
                        self._emit(str(error))
                    failure = failure or error
        assert failure is not None, "there is a feed"
        raise failure

    def _from_feed(self, feed: FeedClient, part: BinaryIO) -> None:
        """Fetches the snapshot from one feed, and continues after cuts. Raises SyncError."""
        for _ in range(CLIENT_RESUMES):
            start = _size(part)
            try:
                return self._continue(feed, part)
            except Mismatch as error:
                part.truncate(0)
                if start < CLIENT_RESUME_MIN:
                    raise SyncError(
                        f"{feed.base}: the snapshot is not the signed one ({error}): the local version stays in "
                        f"place; try again, or call the publisher"
                    ) from None
            except SyncError:
                if feed.is_stopped or _size(part) < start + CLIENT_RESUME_MIN:
                    raise
        raise SyncError(
            f"{feed.base}: the snapshot was cut short {CLIENT_RESUMES} times: check the network, and sync again"
        )

    def _continue(self, feed: FeedClient, part: BinaryIO) -> None:
        """Sends one request for what is missing, and verifies the result. Raises Mismatch, or SyncError for a cut."""
        signed = self._signed
        start = _size(part)
        if start < CLIENT_RESUME_MIN or start > signed.length:
            start = 0
        digest = hashlib.sha256()
        part.seek(0)
        if start == signed.length:
            return write_verified(_blocks(part), None, signed)
        path = f"/targets/{signed.sha256}.{signed.list}.ndjson"
        ranged = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"} if start else {"Accept-Encoding": "zstd"}
        response = feed.open(path, ranged)
        try:
            if start and response.status == 206 and _begins_at(response, start, signed.length):
                for block in _blocks(part):
                    digest.update(block)
                coding = None
            elif response.status == 200:
                start, coding = 0, response.headers.get("Content-Encoding")
                part.truncate(0)
                part.seek(0)
            elif start and response.status in (206, 416):
                raise Mismatch("the answer to a request for the rest of it is another range")
            else:
                discard(response)
                raise feed.status_error(response.status)
            body = decoded(feed.chunks(response), coding)
            write_verified(self._shown(body, start), part, signed, digest, start)
        except ValueError as error:
            raise SyncError(f"{feed.base}: the answer can't be used ({error}): try again") from None
        finally:
            part.flush()
            response.close()

    def _shown(self, chunks: Iterable[bytes], start: int) -> Iterator[bytes]:
        """The same chunks, with the progress reported."""
        for chunk in chunks:
            start += len(chunk)
            self._progress(start, self._signed.length)
            yield chunk

    def by_diff(self, have: State, take: Callable[[Path], State]) -> State | None:
        """Fetches the diff from the version in the folder, applies it, and returns `take(file)`, where the file has the
        result. Returns None, and changes nothing, if the caller must fetch the snapshot."""
        for feed in self._feeds:
            try:
                response = feed.open(f"/diffs/{have.version}-{self._signed.version}", {"Accept-Encoding": "zstd"})
                if response.status == 200:
                    return self._apply(feed, response, take)
                discard(response)
                if response.status not in (404, 410):
                    raise feed.status_error(response.status)
            except (ValueError, LookupError, Mismatch) as error:
                self._emit(
                    f"{feed.base}: the diff does not result in the signed version ({error}): taking the snapshot"
                )
            except SyncError as error:
                if feed.is_stopped or (len(self._feeds) == 1 and not _is_fault_of_diff(error)):
                    raise
                self._emit(f"the diff is not available ({error}): taking the snapshot")
        return None

    def _apply(self, feed: FeedClient, response: urllib3.BaseHTTPResponse, take: Callable[[Path], State]) -> State:
        """Applies the diff in the answer. Raises ValueError, LookupError or Mismatch if the result is not signed."""
        try:
            old = map_file(self._folder.snapshot)
            body = decoded(feed.chunks(response), response.headers.get("Content-Encoding"))
            with self._folder.draft() as (diff_out, diff_path):
                for chunk in bounded(body, len(old) + self._signed.length + DIFF_SLACK):
                    diff_out.write(chunk)
                diff_out.flush()
                with self._folder.draft() as (out, path):
                    made = apply(ENTRIES, old, map_file(diff_path), in_one_piece=CLIENT_DIFF_MEMORY)
                    write_verified(_dropping_pages(made, old), out, self._signed)
                    return take(path)
        finally:
            response.close()


def write_verified(
    chunks: Iterable[bytes | memoryview],
    out: BinaryIO | None,
    signed: SignedVersion,
    digest: hashlib._Hash | None = None,
    length: int = 0,
) -> None:
    """Writes a snapshot to `out`, never more than the signed length. Raises Mismatch unless it is the signed one.

    `digest` and `length`: of the bytes before, if the chunks are only the rest.
    """
    digest = digest or hashlib.sha256()
    for chunk in chunks:
        length += len(chunk)
        if length > signed.length:
            raise Mismatch(f"more than the signed {signed.length} bytes")
        digest.update(chunk)
        if out is not None:
            out.write(chunk)
    if out is not None:
        out.flush()
    if length != signed.length:
        raise Mismatch(f"{length} of the signed {signed.length} bytes")
    if digest.hexdigest() != signed.sha256:
        raise Mismatch("another SHA-256")


class _MappedFile(mmap.mmap):
    """A mapped file whose pages are given back from time to time, so that they don't add up to the file's size in this
    process's memory."""

    _touched = 0

    def touch(self, size: int) -> None:
        """Counts bytes that were read, and gives all pages back after CLIENT_DROP of them."""
        self._touched += size
        if self._touched > CLIENT_DROP:
            self._touched = 0
            self.madvise(mmap.MADV_DONTNEED)

    def __getitem__(self, where: Any) -> Any:
        found = super().__getitem__(where)
        self.touch(len(found) if isinstance(where, slice) else 1)
        return found

    def find(self, *arguments: Any) -> int:
        """As mmap.find. A search in the middle of the file maps a whole range of pages around it."""
        self.touch(_AROUND)
        return super().find(*arguments)


def map_file(path: Path) -> Buffer:
    """Maps a file. The mapping ends with the last reference to it."""
    with open(path, "rb") as file:
        return _MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else b""


def _dropping_pages(chunks: Iterable[bytes | memoryview], mapped: Buffer) -> Iterator[bytes | memoryview]:
    """The same chunks, of which some are views of the mapped file."""
    for chunk in chunks:
        yield chunk
        if isinstance(mapped, _MappedFile):
            mapped.touch(len(chunk))


def _is_fault_of_diff(error: SyncError) -> bool:
    """Whether a snapshot may be served although the diff is not: it costs the server less."""
    return getattr(error, "status", 0) >= 500


def _begins_at(response: urllib3.BaseHTTPResponse, start: int, length: int) -> bool:
    """Whether the answer is the requested range: all from `start` on, of `length` bytes, not coded."""
    plain = response.headers.get("Content-Encoding") in (None, "", "identity")
    return plain and response.headers.get("Content-Range") == f"bytes {start}-{length - 1}/{length}"


def _size(file: BinaryIO) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(MIB):
        yield block
