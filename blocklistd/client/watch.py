"""`sync --watch`: syncs at each new version, for as long as it takes.

After each sync it waits by long poll for another version, for at most CLIENT_REFRESH seconds, then syncs again: so the
metadata is refreshed, or found to be expired. After an error it syncs again with back-off and jitter, up to
CLIENT_BACKOFF_MAX seconds, or after what Retry-After says. The copy stays in use all the time; each line about an error
says how long ago the copy was verified to be the newest version.

The folder stays locked. `stop` ends the watch, `hurry` ends a pause or a wait at once.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import orjson

from blocklistd.client.coding import bounded
from blocklistd.client.download import Progress
from blocklistd.client.exceptions import Outlook
from blocklistd.client.failures import RefusedRequest, age_text
from blocklistd.client.feed import FeedClient, discard
from blocklistd.client.folder import Folder
from blocklistd.client.mirrors import Emit
from blocklistd.client.options import Options, SyncResult
from blocklistd.client.sync import no_progress, sync_locked
from blocklistd.errors import SyncError
from blocklistd.limits import (
    CLIENT_BACKOFF_MAX,
    CLIENT_POLL_INTERVAL,
    CLIENT_RECEIPT_RETRY,
    CLIENT_REFRESH,
    CLIENT_REPEAT,
    MAX_STATUS,
    MAX_WAIT,
)
from blocklistd.times import utc_now

_TURN = 0.2  # seconds until `stop` and `hurry` are looked at


def watch(
    options: Options,
    emit: Emit,
    stop: threading.Event,
    done: Callable[[SyncResult], None],
    hurry: threading.Event | None = None,
    progress: Progress = no_progress,
) -> bool:
    """Syncs until `stop` is set. Returns whether the last attempt succeeded: if not, the copy may be old.

    Errors are emitted, and followed by another attempt. `done` is called with each new version. Raises SyncError if it
    can't begin: an option is wrong, or another sync has the folder.
    """
    options.check()
    folder = Folder(options.dir, options.list, options.gid())
    watching = _Watch(options, folder, emit, stop, done, hurry or threading.Event(), progress)
    while not stop.is_set():
        with folder.locked():
            watching.run()
    return watching.finish()


class _Watch:
    def __init__(
        self,
        options: Options,
        folder: Folder,
        emit: Emit,
        stop: threading.Event,
        done: Callable[[SyncResult], None],
        hurry: threading.Event,
        progress: Progress,
    ) -> None:
        self._options = options
        self._folder = folder
        self._stop = stop
        self._done = done
        self._hurry = hurry
        self._progress = progress
        self._reports = _FailureReports(options, folder, emit)
        self._seen: tuple[str, int] | None = None
        self._fruitless = 0  # consecutive rounds without a new version, each shorter than CLIENT_BACKOFF_MAX

    def run(self) -> None:
        """Syncs until `stop` is set, or the folder is no longer the locked one."""
        while not self._stop.is_set() and self._folder.is_in_place():
            began = time.monotonic()
            is_new = failed = False
            asked = 0.0
            try:
                outlook = Outlook.of(self._options.exceptions, utc_now())
                result = sync_locked(self._options, self._folder, self._reports.line, self._stop, self._progress)
                self._reports.succeeded(result)
                is_new = (result.session, result.version) != self._seen
                if is_new:
                    self._done(result)
                    self._seen = (result.session, result.version)
                self._wait_for_change(result, outlook)
            except SyncError as error:
                failed = True
                asked = error.retry_after if isinstance(error, RefusedRequest) else 0.0
                if not self._stop.is_set():
                    self._reports.failed(error)
            was_long = time.monotonic() - began > CLIENT_BACKOFF_MAX
            self._fruitless = int(failed) if is_new or was_long else self._fruitless + 1
            if self._fruitless:
                backoff = min(CLIENT_BACKOFF_MAX, 2.0 ** min(self._fruitless, 8) / 2) * random.uniform(0.5, 1.0)
                self._pause(max(asked, backoff))
            self._hurry.clear()

    def finish(self) -> bool:
        """Emits how old the copy is, if the last attempt failed. Returns whether it succeeded."""
        return self._reports.finish()

    def _pause(self, seconds: float) -> None:
        """Waits so many seconds, or until `stop` or `hurry` is set."""
        end = time.monotonic() + seconds
        while not self._hurry.is_set() and (rest := end - time.monotonic()) > 0 and not self._stop.is_set():
            self._stop.wait(min(rest, _TURN))

    def _wait_for_change(self, result: SyncResult, outlook: Outlook) -> None:
        """Waits until the feed reports another version, the local exceptions change, `stop` or `hurry` is set, or it is
        time to sync again.

        The long polls run in a thread of their own, so that `stop` ends the wait at once. Raises SyncError; with
        mirrors, which may have a newer version, it waits instead until they can be asked again.
        """
        state = self._folder.state()
        is_sent = not self._options.receipts or state is None or state.receipt is None or state.receipt.taken
        seconds = CLIENT_REFRESH if is_sent else CLIENT_RECEIPT_RETRY
        over, ended = threading.Event(), threading.Event()
        failures: list[SyncError] = []

        def poll() -> None:
            try:
                _poll(self._options, result, over, seconds)
            except SyncError as error:
                failures.append(error)
            finally:
                ended.set()

        threading.Thread(target=poll, daemon=True, name="long poll").start()
        while not (ended.is_set() or self._stop.is_set() or self._hurry.is_set() or outlook.is_over(utc_now())):
            ended.wait(_TURN)
        over.set()
        if failures and not self._options.mirrors:
            raise failures[0]
        if failures:
            self._reports.line(f"{failures[0]}; asking the mirrors from time to time")
            self._pause(CLIENT_BACKOFF_MAX * random.uniform(0.5, 1.0))


class _FailureReports:
    """Emits failed attempts with the age of the copy, and the first successful one after failures. The same line is
    emitted again after CLIENT_REPEAT seconds only, so that days without the feed don't fill a log."""

    def __init__(self, options: Options, folder: Folder, emit: Emit) -> None:
        self._where = f"{options.url.rstrip('/')}, list {options.list}"
        self._folder = folder
        self._emit = emit
        self._failed = 0
        self._began = 0.0
        self._emitted: dict[str, float] = {}

    def line(self, text: str) -> None:
        """Emits a line unless it was emitted a short while ago."""
        if self._is_due(text):
            self._emit(text)

    def failed(self, error: SyncError) -> None:
        """Counts a failed attempt, and emits it."""
        if not self._failed:
            self._began = time.monotonic()
        self._failed += 1
        if self._is_due(str(error)):
            self._emit(f"{error} ({self._copy()})")

    def succeeded(self, result: SyncResult) -> None:
        """Emits a line if attempts failed before this one."""
        if self._failed:
            attempts = f"{self._failed} failed attempt{'s' * (self._failed > 1)}"
            lasted = age_text(time.monotonic() - self._began)
            self._emit(
                f"{self._where}: synced again after {attempts} in {lasted}: version {result.version} is in place"
            )
            self._emitted.clear()
        self._failed = 0

    def finish(self) -> bool:
        """Emits the age of the copy if the last attempt failed. Returns whether it succeeded."""
        if self._failed:
            lasted = age_text(time.monotonic() - self._began)
            self._emit(f"{self._where}: stopped while syncs failed, for {lasted}: {self._copy()}")
        return not self._failed

    def _is_due(self, text: str) -> bool:
        now = time.monotonic()
        if text in self._emitted and now < self._emitted[text] + CLIENT_REPEAT:
            return False
        if len(self._emitted) > 1000:
            self._emitted.clear()
        self._emitted[text] = now
        return True

    def _copy(self) -> str:
        """The version in the folder and its age."""
        try:
            state = self._folder.state()
            if state is None:
                return "there is no local version"
            age = (utc_now() - datetime.fromisoformat(state.verified)).total_seconds()
        except (SyncError, ValueError, TypeError):  # TypeError: `verified` has no time zone
            return "the age of the local version is not known"
        return f"the local version {state.version} was the newest one {age_text(age)} ago"


def _poll(options: Options, result: SyncResult, over: threading.Event, seconds: float) -> None:
    """Sends status requests, long polls from the second on, until the status differs from the result, `over` is set,
    or so many seconds have passed."""
    feed = FeedClient(options.url, options.list, options.access(), over)
    end = time.monotonic() + seconds
    etag = ""
    try:
        while not over.is_set() and time.monotonic() < end:
            sent_at, is_long_poll = time.monotonic(), bool(etag)
            wait = max(1, min(MAX_WAIT, round(end - sent_at)))
            query = f"?wait={wait}" if is_long_poll else ""
            headers = {"If-None-Match": etag} if is_long_poll else {}
            response = feed.open(query, headers, wait=wait if is_long_poll else 0)
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
                over.wait(max(0.0, sent_at + CLIENT_POLL_INTERVAL - time.monotonic()))
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
