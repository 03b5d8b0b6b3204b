"""`sync`: from what is signed to a verified copy. First the snapshot, then differences; never back, never unsigned."""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from blocklistd.client.feed import Feed
from blocklistd.client.folder import Folder, State
from blocklistd.client.trust import Signed, signed_version
from blocklistd.errors import SyncError
from blocklistd.limits import CLIENT_BACKOFF_MAX, MAX_WAIT, MIB
from blocklistd.outputs.diff import apply

Emit = Callable[[str], None]
DIFF_SLACK = MIB  # bytes that a diff may have beyond all that could leave and come


@dataclass(frozen=True, slots=True)
class Options:
    """What to follow, and where to keep it. `format`: a rendering of outputs.OUTPUTS beside the snapshot."""

    url: str
    list: str
    root: Path
    dir: Path
    token_file: Path | None = None
    ca: Path | None = None
    format: str | None = None
    exec: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """`how` is snapshot, diff or unchanged; `bytes` came over the network."""

    list: str
    session: str
    version: int
    entries: int
    how: str
    bytes: int


def sync_once(options: Options, emit: Emit) -> Result:
    """Brings the folder to the newest version that can be verified. Raises SyncError; then what was there stays."""
    feed = Feed(options.url, options.list, _token(options), options.ca)
    folder = Folder(options.dir, options.list)
    try:
        with folder.locked():
            return _sync(options, feed, folder, emit)
    finally:
        feed.close()


def _sync(options: Options, feed: Feed, folder: Folder, emit: Emit) -> Result:
    have = folder.state()
    signed = signed_version(feed, options.list, _read(options.root), folder.metadata)
    if signed is None:
        raise SyncError(f"{feed.base}: the list has no version yet: try again later")
    if have is not None and have.session == signed.session and signed.version < have.version:
        raise SyncError(
            f"{feed.base}: version {signed.version} is signed, version {have.version} is here: a list never goes back; "
            f"what is here stays in place"
        )
    intact = have is not None and folder.holds(have)
    if have is not None and intact and have.sha256 == signed.sha256 and have.session == signed.session:
        how = "unchanged"
        if have.version != signed.version:  # the same content under a newer number
            have = _state(signed, have.pending)
            folder.save(have)
        if not folder.rendered(options.format):
            folder.render(options.format)
    else:
        new = _state(signed, pending=options.exec is not None)
        how = "snapshot"
        if (
            have is not None
            and intact
            and have.session == signed.session
            and _by_diff(feed, folder, have, new, signed, options, emit)
        ):
            how = "diff"
        else:
            _by_snapshot(feed, folder, new, signed, options)
        have = new
    if have.pending and options.exec is not None:
        _execute(options, have, folder)
    return Result(signed.list, signed.session, signed.version, signed.entries, how, feed.received)


def _state(signed: Signed, pending: bool) -> State:
    return State(signed.list, signed.session, signed.version, signed.entries, signed.sha256, pending)


def _by_diff(feed: Feed, folder: Folder, have: State, new: State, signed: Signed, options: Options, emit: Emit) -> bool:
    """Whether the difference led to what is signed; if not, nothing was changed and the snapshot is to be taken."""
    response = feed.open(f"/diffs/{have.version}-{new.version}", {"Accept-Encoding": "zstd"})
    if response.status != 200:
        response.release_conn()
        if response.status in (404, 410):
            return False
        raise feed.refusal(response.status)
    bound = folder.snapshot.stat().st_size + signed.length + DIFF_SLACK
    try:
        diff = b"".join(_bounded(_decoded(feed.pieces(response), response.headers.get("Content-Encoding")), bound))
        with _mapped(folder.snapshot) as old, folder.draft() as (out, path):
            _write_verified(apply(old, diff), out, signed)
            folder.put(path, new, options.format)
    except (ValueError, _Mismatch) as error:
        emit(f"the difference does not lead to what is signed ({error}): taking the snapshot")
        return False
    return True


def _by_snapshot(feed: Feed, folder: Folder, new: State, signed: Signed, options: Options) -> None:
    response = feed.open(f"/targets/{signed.sha256}.{signed.list}.ndjson", {"Accept-Encoding": "zstd"})
    if response.status != 200:
        response.release_conn()
        raise feed.refusal(response.status)
    with folder.draft() as (out, path):
        try:
            _write_verified(_decoded(feed.pieces(response), response.headers.get("Content-Encoding")), out, signed)
        except (ValueError, _Mismatch) as error:
            raise SyncError(f"{feed.base}: the snapshot is not what is signed ({error}): thrown away") from None
        folder.put(path, new, options.format)


class _Mismatch(Exception):
    """Not what was signed."""


def _write_verified(pieces: Iterable[bytes], out, signed: Signed) -> None:  # type: ignore[no-untyped-def]
    """Writes what is at most as long as was signed; raises _Mismatch unless it is exactly that."""
    digest = hashlib.sha256()
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > signed.length:
            raise _Mismatch(f"more than the signed {signed.length} bytes")
        digest.update(piece)
        out.write(piece)
    out.flush()
    if length != signed.length:
        raise _Mismatch(f"{length} of the signed {signed.length} bytes")
    if digest.hexdigest() != signed.sha256:
        raise _Mismatch("another SHA-256")


def _decoded(pieces: Iterator[bytes], coding: str | None) -> Iterator[bytes]:
    """Raises ValueError for a coding that was not asked for, or data that is none."""
    if coding in (None, "", "identity"):
        yield from pieces
        return
    if coding != "zstd":
        raise ValueError("a content coding that was not asked for")
    frame = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    try:
        for piece in pieces:
            for start in range(0, len(piece), 4096):  # small pieces bound what one of them can grow to
                yield frame.decompress(piece[start : start + 4096])
    except zstandard.ZstdError:
        raise ValueError("not zstd data") from None
    if not frame.eof:
        raise ValueError("zstd data that is cut short")


def _bounded(pieces: Iterator[bytes], bound: int) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > bound:
            raise ValueError(f"more than {bound} bytes")
        yield piece


class _mapped:
    """A file as a buffer."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> bytes | mmap.mmap:
        with open(self._path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                self._map: mmap.mmap | None = None
                return b""
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return self._map

    def __exit__(self, *_: object) -> None:
        if self._map is not None:
            self._map.close()


def _execute(options: Options, state: State, folder: Folder) -> None:
    """Runs --exec; until it succeeds it is run again at each sync."""
    assert options.exec is not None
    rendered = options.dir / f"{options.list}.{options.format or 'ndjson'}"
    environment = {
        **os.environ,
        "BLOCKLISTD_LIST": options.list,
        "BLOCKLISTD_VERSION": str(state.version),
        "BLOCKLISTD_FILE": str(rendered),
    }
    done = subprocess.run(["/bin/sh", "-c", options.exec], env=environment, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SyncError(
            f"version {state.version} is in place, but --exec ended with {done.returncode}: it is run again next time"
        )
    folder.done(state)


def watch(options: Options, emit: Emit, stop: threading.Event, done: Callable[[Result], None]) -> None:
    """Syncs, waits for the next version, and so on until `stop`; errors are told, and tried again with back-off."""
    failures, seen = 0, None
    while not stop.is_set():
        try:
            result = sync_once(options, emit)
            if (result.session, result.version) != seen:
                done(result)
                seen = (result.session, result.version)
            failures = 0
            _wait_for_change(options, result, stop)
        except SyncError as error:
            emit(str(error))
            failures += 1
            stop.wait(min(CLIENT_BACKOFF_MAX, 2.0 ** min(failures, 8) / 2) * random.uniform(0.5, 1.0))


def _wait_for_change(options: Options, result: Result, stop: threading.Event) -> None:
    """Long polls in a thread of their own, so that `stop` is heard at once; returns when there may be something new.

    Every so often without a change it returns all the same: the metadata is refreshed, or found to be expired.
    """
    changed = threading.Event()
    failed: list[SyncError] = []

    def poll() -> None:
        feed = Feed(options.url, options.list, _token(options), options.ca)
        etag = ""
        try:
            for _ in range(60):
                if stop.is_set():
                    return
                query = f"?wait={MAX_WAIT}" if etag else ""
                response = feed.open(query, {"If-None-Match": etag} if etag else {}, wait=MAX_WAIT if etag else 0)
                if response.status == 200:
                    status = orjson_loads(b"".join(feed.pieces(response)))
                    if (status.get("session"), status.get("version")) != (result.session, result.version):
                        return
                    etag = response.headers.get("ETag", "")
                else:
                    response.release_conn()
                    if response.status != 304:
                        raise feed.refusal(response.status)
        except SyncError as error:
            failed.append(error)
        finally:
            feed.close()
            changed.set()

    threading.Thread(target=poll, daemon=True, name="long poll").start()
    while not changed.is_set() and not stop.is_set():
        changed.wait(0.2)
    if failed:
        raise failed[0]


def orjson_loads(body: bytes) -> dict[str, object]:
    """A STATUS document; raises SyncError for anything else."""
    import orjson

    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if not isinstance(status, dict):
        raise SyncError("the feed answered something else than a status: is this the address of a feed?")
    return status


def _token(options: Options) -> str | None:
    return _read(options.token_file).decode(errors="replace").strip() if options.token_file else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SyncError(f"{path}: {error.strerror}") from error
