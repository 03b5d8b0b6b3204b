"""`sync`: from what is signed to a verified copy. First the snapshot, then differences; never back, never unsigned."""

from __future__ import annotations

import grp
import hashlib
import mmap
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from blocklistd.client.feed import Feed, bounded, decoded, discard
from blocklistd.client.folder import Folder, State
from blocklistd.client.trust import Signed, signed_version
from blocklistd.errors import SyncError
from blocklistd.limits import CLIENT_BACKOFF_MAX, CLIENT_EXEC, CLIENT_POLL, CLIENT_REFRESH, MAX_STATUS, MAX_WAIT, MIB
from blocklistd.lines.delta import ENTRIES, apply
from blocklistd.lines.keys import Buffer
from blocklistd.outputs import OUTPUTS

Emit = Callable[[str], None]
DIFF_SLACK = MIB  # bytes that a diff may have beyond all that could leave and come


@dataclass(frozen=True, slots=True)
class Options:
    """What to follow, and where to keep it. `format`: a rendering of outputs.OUTPUTS beside the snapshot. `group`: may
    read it."""

    url: str
    list: str
    root: Path
    dir: Path
    token_file: Path | None = None
    ca: Path | None = None
    format: str | None = None
    exec: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """`how` is snapshot, diff or unchanged; `bytes` came over the network."""

    list: str
    session: str
    version: int
    entries: int
    how: str
    bytes: int


def sync_once(options: Options, emit: Emit, stop: threading.Event | None = None) -> Result:
    """Brings the folder to the newest version that can be verified. Raises SyncError; then what was there stays.

    Once `stop` is set, what still arrives is given up.
    """
    if options.format not in (None, "ndjson", *OUTPUTS):
        raise SyncError(f"there is no format {options.format}: expected ndjson, {', '.join(OUTPUTS)}")
    feed = Feed(options.url, options.list, _token(options), options.ca, stop)
    folder = Folder(options.dir, options.list, _group(options.group))
    try:
        with folder.locked():
            return _sync(options, feed, folder, emit, stop or threading.Event())
    finally:
        feed.close()


def _sync(options: Options, feed: Feed, folder: Folder, emit: Emit, stop: threading.Event) -> Result:
    have = folder.state()
    signed = signed_version(feed, options.list, _read(options.root), folder.metadata)
    folder.share_metadata()
    if signed is None:
        raise SyncError(f"{feed.base}: the list has no version yet: try again later")
    if have is not None and have.session == signed.session and signed.version < have.version:
        raise SyncError(
            f"{feed.base}: version {signed.version} is signed, version {have.version} is here: a list never goes back; "
            f"what is here stays in place"
        )
    pending = options.exec is not None or (have is not None and have.pending)
    new = State(signed.list, signed.session, signed.version, signed.entries, signed.sha256, pending)
    if have is None or have.session != signed.session or not folder.holds(have):
        how, have = "snapshot", _by_snapshot(feed, folder, new, signed, options)
    elif have.sha256 == signed.sha256:
        how, have = "unchanged", _as_it_is(folder, have, new, options)
    else:
        how = "diff"
        moved = _by_diff(feed, folder, have, new, signed, options, emit)
        if moved is None:
            how, moved = "snapshot", _by_snapshot(feed, folder, new, signed, options)
        have = moved
    if have.pending and options.exec is not None:
        _execute(options, have, folder, stop)
    return Result(signed.list, signed.session, signed.version, signed.entries, how, feed.received)


def _as_it_is(folder: Folder, have: State, new: State, options: Options) -> State:
    """The snapshot is the one that is signed, if perhaps under a newer number; its rendering may be missing or old."""
    here = replace(new, pending=have.pending, rendered=have.rendered)
    if not folder.renders(here, options.format):
        return folder.render(replace(here, pending=new.pending), options.format)
    if here != have:
        folder.save(here)
    return here


def _by_diff(
    feed: Feed, folder: Folder, have: State, new: State, signed: Signed, options: Options, emit: Emit
) -> State | None:
    """What the difference led to; None if not to what is signed: nothing was changed, the snapshot is to be taken."""
    response = feed.open(f"/diffs/{have.version}-{new.version}", {"Accept-Encoding": "zstd"})
    if response.status != 200:
        discard(response)
        if response.status >= 500:  # the snapshot costs the server less: it may still be served
            emit(f"the difference can't be had ({feed.refusal(response.status)}): taking the snapshot")
        elif response.status not in (404, 410):
            raise feed.refusal(response.status)
        return None
    try:
        old = _mapped(folder.snapshot)
        pieces = decoded(feed.pieces(response), response.headers.get("Content-Encoding"))
        diff = b"".join(bounded(pieces, len(old) + signed.length + DIFF_SLACK))
        with folder.draft() as (out, path):
            _write_verified(apply(ENTRIES, old, diff), out, signed)
            return folder.put(path, new, options.format)
    except (ValueError, LookupError, _Mismatch) as error:
        emit(f"the difference does not lead to what is signed ({error}): taking the snapshot")
        return None
    finally:
        response.close()


def _by_snapshot(feed: Feed, folder: Folder, new: State, signed: Signed, options: Options) -> State:
    response = feed.open(f"/targets/{signed.sha256}.{signed.list}.ndjson", {"Accept-Encoding": "zstd"})
    if response.status != 200:
        discard(response)
        raise feed.refusal(response.status)
    try:
        with folder.draft() as (out, path):
            _write_verified(decoded(feed.pieces(response), response.headers.get("Content-Encoding")), out, signed)
            return folder.put(path, new, options.format)
    except (ValueError, _Mismatch) as error:
        raise SyncError(f"{feed.base}: the snapshot is not what is signed ({error}): thrown away") from None
    finally:
        response.close()


class _Mismatch(Exception):
    """Not what was signed."""


def _write_verified(pieces: Iterable[bytes | memoryview], out: BinaryIO, signed: Signed) -> None:
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


def _mapped(path: Path) -> Buffer:
    """A file as a buffer, which goes when nobody has a view of it any more."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else b""


def _execute(options: Options, state: State, folder: Folder, stop: threading.Event) -> None:
    """Runs --exec; until it succeeds it is run again at each sync. What it prints goes to stderr: stdout is ours."""
    assert options.exec is not None
    rendered = options.dir / f"{options.list}.{options.format or 'ndjson'}"
    environment = {
        **os.environ,
        "BLOCKLISTD_LIST": options.list,
        "BLOCKLISTD_VERSION": str(state.version),
        "BLOCKLISTD_FILE": str(rendered.absolute()),
    }
    command = ["/bin/sh", "-c", options.exec]
    running = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True)
    end = time.monotonic() + CLIENT_EXEC
    try:
        while running.poll() is None and time.monotonic() < end and not stop.is_set():
            with suppress(subprocess.TimeoutExpired):
                running.wait(0.2)
    finally:
        if (code := running.poll()) is None:
            os.killpg(running.pid, signal.SIGKILL)  # with all that it started: the next run must not meet it
            running.wait()
    if code is None:
        ended = "was stopped" if stop.is_set() else f"did not end within {CLIENT_EXEC:g} s"
    else:
        ended = f"ended with {code}" if code else ""
    if ended:
        raise SyncError(f"version {state.version} is in place, but --exec {ended}: it is run again next time")
    folder.done(state)


def watch(options: Options, emit: Emit, stop: threading.Event, done: Callable[[Result], None]) -> None:
    """Syncs, waits for the next version, and so on until `stop`; errors are told, and tried again with back-off."""
    seen: tuple[str, int] | None = None
    fruitless = 0  # rounds in a row that brought nothing and ended early, whoever is to blame
    trouble = _Trouble(options, emit)
    while not stop.is_set():
        began = time.monotonic()
        news = failed = False
        try:
            result = sync_once(options, emit, stop)
            trouble.over(result)
            news = (result.session, result.version) != seen
            if news:
                done(result)
                seen = (result.session, result.version)
            _wait_for_change(options, result, stop)
        except SyncError as error:
            failed = True
            if not stop.is_set():
                trouble.tell(error)
        quiet = time.monotonic() - began > CLIENT_BACKOFF_MAX
        fruitless = int(failed) if news or quiet else fruitless + 1
        if fruitless:
            stop.wait(min(CLIENT_BACKOFF_MAX, 2.0 ** min(fruitless, 8) / 2) * random.uniform(0.5, 1.0))


class _Trouble:
    """Prints each failed attempt, and the first successful one after failures."""

    def __init__(self, options: Options, emit: Emit) -> None:
        self._where = f"{options.url.rstrip('/')}, list {options.list}"
        self._emit = emit
        self._failed = 0
        self._began = 0.0

    def tell(self, error: SyncError) -> None:
        if not self._failed:
            self._began = time.monotonic()
        self._failed += 1
        self._emit(str(error))

    def over(self, result: Result) -> None:
        if self._failed:
            spent = time.monotonic() - self._began
            lasted = f"{spent / 60:.0f} min" if spent >= 120 else f"{spent:.0f} s"
            attempts = f"{self._failed} attempt{'s' * (self._failed > 1)} that failed, in {lasted}"
            self._emit(f"{self._where}: all is well again, version {result.version} is here, after {attempts}")
        self._failed = 0


def _wait_for_change(options: Options, result: Result, stop: threading.Event) -> None:
    """Long polls in a thread of their own, so that `stop` is heard at once; returns when there may be something new.

    After CLIENT_REFRESH without a change it returns all the same: the metadata is refreshed, or found to be expired.
    """
    ended = threading.Event()
    failed: list[SyncError] = []

    def poll() -> None:
        try:
            _poll(options, result, stop)
        except SyncError as error:
            failed.append(error)
        finally:
            ended.set()

    threading.Thread(target=poll, daemon=True, name="long poll").start()
    while not ended.is_set() and not stop.is_set():
        ended.wait(0.2)
    if failed:
        raise failed[0]


def _poll(options: Options, result: Result, stop: threading.Event) -> None:
    feed = Feed(options.url, options.list, _token(options), options.ca, stop)
    end = time.monotonic() + CLIENT_REFRESH
    etag = ""
    try:
        while not stop.is_set() and time.monotonic() < end:
            asked, waited = time.monotonic(), bool(etag)
            query = f"?wait={MAX_WAIT}" if waited else ""
            response = feed.open(query, {"If-None-Match": etag} if waited else {}, wait=MAX_WAIT if waited else 0)
            if response.status == 200:
                status = _status(feed, feed.pieces(response))
                if (status.get("session"), status.get("version")) != (result.session, result.version):
                    return
                etag = response.headers.get("ETag", "")
            else:
                discard(response)
                if response.status != 304:
                    raise feed.refusal(response.status)
            if waited or not etag:  # a feed, or what stands before it, that answers at once is not to be hammered
                stop.wait(max(0.0, asked + CLIENT_POLL - time.monotonic()))
    finally:
        feed.close()


def _status(feed: Feed, pieces: Iterator[bytes]) -> dict[str, Any]:
    """A STATUS; it is not signed: no more than a hint that there is something new."""
    try:
        status = orjson.loads(b"".join(bounded(pieces, MAX_STATUS)))
    except ValueError:
        status = None
    if not isinstance(status, dict):
        raise SyncError(f"{feed.base}: the answer is no status: is this the address of a feed?")
    return status


def _group(name: str | None) -> int | None:
    try:
        return None if name is None else grp.getgrnam(name).gr_gid
    except KeyError:
        raise SyncError(f"--group {name}: there is no such group: expected one of /etc/group") from None


def _token(options: Options) -> str | None:
    if options.token_file is None:
        return None
    token = _read(options.token_file).strip()
    if not re.fullmatch(rb"[!-~]+", token):
        raise SyncError(f"{options.token_file}: expected one token, in printable ASCII, and nothing else")
    return token.decode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SyncError(
            f"{path}: {error.strerror}: expected what the publisher gave you, readable to this user"
        ) from error
