"""Keeps a verified copy of a list in a folder: first the snapshot, then diffs.

The steps of one sync, `sync_once`:
    1. lock the folder and read its state
    2. fetch and verify the metadata: which version is signed
    3. refuse a lower version than the present one of the same session
    4. if the session is new or the snapshot is damaged: fetch the snapshot; if the version is newer: fetch a diff, and
       the snapshot if that fails; else keep the files
    5. write snapshot, rendering and state (client/folder.py), in this order
    6. run --exec if the rendering changed, or if it failed last time
All bytes are compared with the signed length and SHA-256 before they replace the present ones. An error before the end
of step 5 leaves the present files in place; an error in step 6 leaves the new ones, and `pending` in the state.
`watch` repeats this: after each sync it waits by long poll for another version, at most CLIENT_REFRESH seconds.
"""

from __future__ import annotations

import grp
import mmap
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from blocklistd.client.execute import run_command
from blocklistd.client.feed import FeedClient, bounded, decoded, discard
from blocklistd.client.folder import Folder, State
from blocklistd.client.trust import Mismatch, SignedVersion, signed_version, write_verified
from blocklistd.errors import SyncError
from blocklistd.limits import CLIENT_BACKOFF_MAX, CLIENT_POLL_INTERVAL, CLIENT_REFRESH, MAX_STATUS, MAX_WAIT, MIB
from blocklistd.lines.delta import ENTRIES, apply
from blocklistd.lines.keys import Buffer
from blocklistd.outputs import OUTPUTS

Emit = Callable[[str], None]
"""Prints a line for the user."""
DIFF_SLACK = MIB  # bytes that a diff may have in addition to all lines of both versions


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `blocklistd sync`.

    `root`: the publisher's root.json. `dir`: the folder of the copy. `ca`: a PEM file of the publisher's authority.
    `format`: "ndjson", or a key of outputs.OUTPUTS for a rendering beside the snapshot. `exec`: a shell command to run
    after a change. `group`: name of the group that may read the files.
    """

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
class SyncResult:
    """The version after a sync. `how`: "snapshot", "diff" or "unchanged". `bytes`: the size of all received bodies."""

    list: str
    session: str
    version: int
    entries: int
    how: str
    bytes: int


def sync_once(options: Options, emit: Emit, stop: threading.Event | None = None) -> SyncResult:
    """Updates the folder to the newest signed version. Raises SyncError; see the module for what stays in place then.

    Setting `stop` (from another thread) ends the sync with SyncError.
    """
    if options.format not in (None, "ndjson", *OUTPUTS):
        raise SyncError(f"there is no format {options.format}: expected ndjson, {', '.join(OUTPUTS)}")
    feed = FeedClient(options.url, options.list, _token(options), options.ca, stop)
    folder = Folder(options.dir, options.list, _group(options.group))
    try:
        with folder.locked():
            return _sync(options, feed, folder, emit, stop or threading.Event())
    finally:
        feed.close()


def _sync(options: Options, feed: FeedClient, folder: Folder, emit: Emit, stop: threading.Event) -> SyncResult:
    have = folder.state()
    signed = signed_version(feed, options.list, _read(options.root), folder.metadata)
    folder.share_metadata()
    if signed is None:
        raise SyncError(f"{feed.base}: the list has no version yet: try again later")
    if have is not None and have.session == signed.session and signed.version < have.version:
        raise SyncError(
            f"{feed.base}: version {signed.version} is signed, but the local version is {have.version}, and a list "
            f"never goes back: the local version stays in place; call the publisher"
        )
    pending = options.exec is not None or (have is not None and have.pending)
    new = State(signed.list, signed.session, signed.version, signed.entries, signed.sha256, pending)
    if have is None or have.session != signed.session or not folder.snapshot_matches(have):
        how, have = "snapshot", _update_by_snapshot(feed, folder, new, signed, options)
    elif have.sha256 == signed.sha256:
        how, have = "unchanged", _keep_snapshot(folder, have, new, options)
    else:
        how = "diff"
        updated = _update_by_diff(feed, folder, have, new, signed, options, emit)
        if updated is None:
            how, updated = "snapshot", _update_by_snapshot(feed, folder, new, signed, options)
        have = updated
    if have.pending and options.exec is not None:
        _run_exec(options, have, folder, stop)
    return SyncResult(signed.list, signed.session, signed.version, signed.entries, how, feed.received)


def _keep_snapshot(folder: Folder, have: State, new: State, options: Options) -> State:
    """Keeps the snapshot, which is the signed one; makes its rendering if that is missing, damaged or old.

    Saves the state if it has changed: the same content may have a newer version number.
    """
    kept = replace(new, pending=have.pending, rendered=have.rendered)
    if not folder.rendering_matches(kept, options.format):
        return folder.render(replace(kept, pending=new.pending), options.format)
    if kept != have:
        folder.save(kept)
    return kept


def _update_by_diff(
    feed: FeedClient, folder: Folder, have: State, new: State, signed: SignedVersion, options: Options, emit: Emit
) -> State | None:
    """Fetches the diff and applies it. Returns None, and changes nothing, if the caller must fetch the snapshot."""
    response = feed.open(f"/diffs/{have.version}-{new.version}", {"Accept-Encoding": "zstd"})
    if response.status != 200:
        discard(response)
        if response.status >= 500:  # a snapshot costs the server less than a diff: it may still be served
            emit(f"the diff is not available ({feed.status_error(response.status)}): taking the snapshot")
        elif response.status not in (404, 410):
            raise feed.status_error(response.status)
        return None
    try:
        old = _map_file(folder.snapshot)
        chunks = decoded(feed.chunks(response), response.headers.get("Content-Encoding"))
        diff = b"".join(bounded(chunks, len(old) + signed.length + DIFF_SLACK))
        with folder.draft() as (out, path):
            write_verified(apply(ENTRIES, old, diff), out, signed)
            return folder.replace_snapshot(path, new, options.format)
    except (ValueError, LookupError, Mismatch) as error:
        emit(f"the diff does not result in the signed version ({error}): taking the snapshot")
        return None
    finally:
        response.close()


def _update_by_snapshot(feed: FeedClient, folder: Folder, new: State, signed: SignedVersion, options: Options) -> State:
    """Fetches the snapshot. Raises SyncError if it is not the signed one."""
    response = feed.open(f"/targets/{signed.sha256}.{signed.list}.ndjson", {"Accept-Encoding": "zstd"})
    if response.status != 200:
        discard(response)
        raise feed.status_error(response.status)
    try:
        with folder.draft() as (out, path):
            write_verified(decoded(feed.chunks(response), response.headers.get("Content-Encoding")), out, signed)
            return folder.replace_snapshot(path, new, options.format)
    except (ValueError, Mismatch) as error:
        raise SyncError(
            f"{feed.base}: the snapshot is not the signed one ({error}): the local version stays in place; "
            f"try again, or call the publisher"
        ) from None
    finally:
        response.close()


def _map_file(path: Path) -> Buffer:
    """Maps a file. The mapping ends with the last reference to it."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else b""


def _run_exec(options: Options, state: State, folder: Folder, stop: threading.Event) -> None:
    """Runs --exec, then clears `pending` in the state. Raises SyncError if it fails; the next sync repeats it."""
    assert options.exec is not None
    rendered = options.dir / f"{options.list}.{options.format or 'ndjson'}"
    variables = {
        "BLOCKLISTD_LIST": options.list,
        "BLOCKLISTD_VERSION": str(state.version),
        "BLOCKLISTD_FILE": str(rendered.absolute()),
    }
    if failure := run_command(options.exec, variables, stop):
        raise SyncError(
            f"version {state.version} is in place, but --exec {failure}: the next sync runs it again; correct the "
            "command, or run `blocklistd sync` once more"
        )
    folder.clear_pending(state)


def watch(options: Options, emit: Emit, stop: threading.Event, done: Callable[[SyncResult], None]) -> None:
    """Syncs at each new version until `stop` is set. Errors are emitted, and followed by another attempt with back-off.

    `done` is called with each new version.
    """
    seen: tuple[str, int] | None = None
    fruitless = 0  # consecutive rounds without a new version, each shorter than CLIENT_BACKOFF_MAX
    failures = _FailureReports(options, emit)
    while not stop.is_set():
        began = time.monotonic()
        is_new = failed = False
        try:
            result = sync_once(options, emit, stop)
            failures.succeeded(result)
            is_new = (result.session, result.version) != seen
            if is_new:
                done(result)
                seen = (result.session, result.version)
            _wait_for_change(options, result, stop)
        except SyncError as error:
            failed = True
            if not stop.is_set():
                failures.report(error)
        was_long = time.monotonic() - began > CLIENT_BACKOFF_MAX
        fruitless = int(failed) if is_new or was_long else fruitless + 1
        if fruitless:
            stop.wait(min(CLIENT_BACKOFF_MAX, 2.0 ** min(fruitless, 8) / 2) * random.uniform(0.5, 1.0))


class _FailureReports:
    """Emits each failed attempt, and the first successful one after failures."""

    def __init__(self, options: Options, emit: Emit) -> None:
        self._where = f"{options.url.rstrip('/')}, list {options.list}"
        self._emit = emit
        self._failed = 0
        self._began = 0.0

    def report(self, error: SyncError) -> None:
        """Emits the error, and counts it."""
        if not self._failed:
            self._began = time.monotonic()
        self._failed += 1
        self._emit(str(error))

    def succeeded(self, result: SyncResult) -> None:
        """Emits a line if attempts failed before this one."""
        if self._failed:
            spent = time.monotonic() - self._began
            lasted = f"{spent / 60:.0f} min" if spent >= 120 else f"{spent:.0f} s"
            attempts = f"{self._failed} failed attempt{'s' * (self._failed > 1)} in {lasted}"
            self._emit(f"{self._where}: synced again after {attempts}: version {result.version} is in place")
        self._failed = 0


def _wait_for_change(options: Options, result: SyncResult, stop: threading.Event) -> None:
    """Waits until the feed reports another version, `stop` is set, or CLIENT_REFRESH seconds have passed.

    It returns after CLIENT_REFRESH so that the next sync refreshes the metadata, or finds it expired. The long polls
    run in a thread of their own, so that `stop` ends the wait at once. Raises SyncError.
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


def _poll(options: Options, result: SyncResult, stop: threading.Event) -> None:
    """Sends status requests, long polls from the second on, until the status differs from the result."""
    feed = FeedClient(options.url, options.list, _token(options), options.ca, stop)
    end = time.monotonic() + CLIENT_REFRESH
    etag = ""
    try:
        while not stop.is_set() and time.monotonic() < end:
            sent_at, is_long_poll = time.monotonic(), bool(etag)
            query = f"?wait={MAX_WAIT}" if is_long_poll else ""
            headers = {"If-None-Match": etag} if is_long_poll else {}
            response = feed.open(query, headers, wait=MAX_WAIT if is_long_poll else 0)
            if response.status == 200:
                status = _status(feed, feed.chunks(response))
                if (status.get("session"), status.get("version")) != (result.session, result.version):
                    return
                etag = response.headers.get("ETag", "")
            else:
                discard(response)
                if response.status != 304:
                    raise feed.status_error(response.status)
            if is_long_poll or not etag:  # a mirror or proxy may answer a long poll at once: don't repeat it at once
                stop.wait(max(0.0, sent_at + CLIENT_POLL_INTERVAL - time.monotonic()))
    finally:
        feed.close()


def _status(feed: FeedClient, chunks: Iterator[bytes]) -> dict[str, Any]:
    """Parses the answer to a status request. It is not signed, and only triggers a sync. Raises SyncError."""
    try:
        status = orjson.loads(b"".join(bounded(chunks, MAX_STATUS)))
    except ValueError:
        status = None
    if not isinstance(status, dict):
        raise SyncError(f"{feed.base}: the answer is no status of a list: check the address")
    return status


def _group(name: str | None) -> int | None:
    """The gid of the group. Raises SyncError."""
    try:
        return None if name is None else grp.getgrnam(name).gr_gid
    except KeyError:
        raise SyncError(f"--group {name}: there is no such group: expected one of /etc/group") from None


def _token(options: Options) -> str | None:
    """Reads the token file; at each call, so that a new token is used at once. Raises SyncError."""
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
