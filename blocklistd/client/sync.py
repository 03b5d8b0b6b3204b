"""Keeps a verified copy of a list in a folder: first the snapshot, then diffs.

The steps of one sync, `sync_once`:
    1. lock the folder and read its state
    2. fetch and verify the metadata: which version is signed
    3. refuse a lower version than the present one of the same session
    4. if the session is new or the snapshot is missing: fetch the snapshot; if the version is newer: fetch a diff, and
       the snapshot if that fails; else keep the files, if they are intact
    5. write snapshot, rendering and state (client/folder.py), in this order
       the rendering is also made again if the local exceptions in force are others than those that it was made with
    6. apply: run --exec if the rendering changed, or if it failed last time; probe the resolver; send the receipt
All bytes are compared with the signed length and SHA-256 before they replace the present ones. An error before the end
of step 5 leaves the present files in place; an error in step 6 leaves the new ones, and what is to do in the state.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from blocklistd.client.download import Progress, VersionDownload, map_file
from blocklistd.client.exceptions import read_exceptions
from blocklistd.client.execute import run_command
from blocklistd.client.folder import Folder
from blocklistd.client.mirrors import Emit, Mirrors
from blocklistd.client.options import Options, SyncResult, read_given
from blocklistd.client.report import deliver, receipt_for
from blocklistd.client.state import ProbeResult, State
from blocklistd.client.trust import SignedVersion
from blocklistd.errors import SyncError
from blocklistd.times import rfc3339, utc_now


def no_progress(here: int, length: int) -> None:
    """Shows nothing of a download."""


def sync_once(
    options: Options, emit: Emit, stop: threading.Event | None = None, progress: Progress = no_progress
) -> SyncResult:
    """Updates the folder to the newest signed version. Raises SyncError; see the module for what stays in place then.

    Setting `stop` (from another thread) ends the sync with SyncError.
    """
    options.check()
    folder = Folder(options.dir, options.list, options.gid())
    with folder.locked():
        return sync_locked(options, folder, emit, stop or threading.Event(), progress)


def sync_locked(
    options: Options, folder: Folder, emit: Emit, stop: threading.Event, progress: Progress = no_progress
) -> SyncResult:
    """`sync_once` in a folder that is locked already."""
    mirrors = Mirrors(options, stop)
    try:
        return _Sync(options, mirrors, folder, emit, stop, progress).run()
    finally:
        mirrors.close()


class _Sync:
    """One sync; `run` once."""

    def __init__(
        self,
        options: Options,
        mirrors: Mirrors,
        folder: Folder,
        emit: Emit,
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self._options = options
        self._mirrors = mirrors
        self._folder = folder
        self._emit = emit
        self._stop = stop
        self._progress = progress
        self._excepted = read_exceptions(options.exceptions, utc_now())

    def run(self) -> SyncResult:
        options, folder, base = self._options, self._folder, self._mirrors.publisher.base
        have = folder.state()
        try:
            newest = self._mirrors.newest(options.list, read_given(options.root), folder.metadata, self._emit)
        except SyncError:
            if have is not None and not self._stop.is_set():
                self._except_again(have)
            raise
        folder.share_metadata()
        signed = newest.signed
        if signed is None:
            raise SyncError(f"{base}: the list has no version yet: try again later")
        if have is not None and have.session == signed.session and signed.version < have.version:
            raise SyncError(
                f"{base}: version {signed.version} is signed, but the local version is {have.version}, and a list "
                f"never goes back: the local version stays in place; call the publisher; or, if somebody has changed "
                f"{folder.path / 'state.json'} by hand, delete that file alone, and sync again"
            )
        download = VersionDownload(newest.feeds, folder, signed, self._emit, self._progress)
        how, state = self._update(have, signed, download)
        rendering = options.rendering or ""
        omitted, excepted = state.omitted.get(rendering, 0), state.excepted.get(rendering, 0)
        if omitted and how != "unchanged":
            self._emit(
                f"{omitted} of {state.entries} entries can't be expressed in {self._options.format}: omitted there"
            )
        if have is None or excepted != have.excepted.get(rendering, 0):
            self._say_excepted(state)
        self._apply(state)
        return SyncResult(
            *(signed.list, signed.session, signed.version, signed.entries, how, self._mirrors.received),
            excepted=excepted if options.exceptions is not None else None,
        )

    def _update(self, have: State | None, signed: SignedVersion, download: VersionDownload) -> tuple[str, State]:
        """Brings the folder to the signed version. Returns how, and the state."""
        pending = self._options.exec is not None or (have is not None and have.pending)
        receipt = have.receipt if have is not None else None
        new = State(
            *(signed.list, signed.session, signed.version, signed.entries, signed.sha256, pending),
            verified=rfc3339(utc_now()),
            receipt=receipt,
        )
        folder, rendering, excepted = self._folder, self._options.rendering, self._excepted
        if have is not None and have.session == signed.session and folder.snapshot.exists():
            if have.sha256 != signed.sha256:
                made = download.by_diff(have, lambda path: folder.replace_snapshot(path, new, rendering, excepted))
                if made is not None:
                    return "diff", made
            elif folder.snapshot_matches(have):
                return "unchanged", self._keep(have, new)
        return "snapshot", folder.replace_snapshot(download.snapshot(), new, rendering, excepted)

    def _keep(self, have: State, new: State) -> State:
        """Keeps the snapshot, which is the signed one; makes its rendering if that is missing, damaged or old."""
        kept = replace(
            new,
            pending=have.pending,
            rendered=have.rendered,
            omitted=have.omitted,
            exceptions=have.exceptions,
            excepted=have.excepted,
        )
        if not self._folder.rendering_matches(kept, self._options.rendering, self._excepted):
            return self._folder.render(replace(kept, pending=new.pending), self._options.rendering, self._excepted)
        self._folder.save(kept)
        return kept

    def _except_again(self, have: State) -> None:
        """While no feed can be reached: makes the rendering again if the exceptions in force have changed, and runs
        --exec. The receipt follows with the next sync that reaches the feed."""
        options, folder = self._options, self._folder
        if folder.rendering_matches(have, options.rendering, self._excepted) or not folder.snapshot_matches(have):
            return
        pending = have.pending or options.exec is not None
        state = folder.render(replace(have, pending=pending), options.rendering, self._excepted)
        self._say_excepted(state)
        if options.exec is not None:
            failure = self._run_exec(options.exec, state)
            if failure:
                self._emit(f"--exec {failure}: the next sync runs it again")
            else:
                folder.clear_pending(state)

    def _say_excepted(self, state: State) -> None:
        excepted, rendering = state.excepted.get(self._options.rendering or "", 0), self._options.rendering
        if self._options.exceptions is not None:
            self._emit(
                f"{excepted} of {state.entries} entries are withheld from {state.list}.{rendering} by local exceptions"
            )

    # -- step 6 --------------------------------------------------------------------------------------------------------

    def _apply(self, state: State) -> None:
        """Runs --exec if it is due, probes the resolver, and sends the receipt. Raises SyncError if the version is not
        applied, or not effective."""
        failure = ""
        if state.pending and self._options.exec is not None:
            failure = self._run_exec(self._options.exec, state)
            if self._stop.is_set() and failure:
                raise SyncError(
                    f"version {state.version} is in place, but --exec {failure}: run `blocklistd sync` once more"
                )
            state = replace(state, pending=bool(failure))
            if not failure:
                self._folder.save(state)
        elif state.pending:
            failure = "has not succeeded since the last change, and this sync does not run it"
        found = self._probe(state) if not failure else ProbeResult(None, "")
        self._report(state, failure and f"--exec {failure}", found)
        if failure and self._options.exec is not None:
            raise SyncError(
                f"version {state.version} is in place, but --exec {failure}: the next sync runs it again; correct the "
                "command, or run `blocklistd sync` once more"
            )
        if found.is_failure:
            raise SyncError(
                f"version {state.version} is in place, but --probe {self._options.probe} failed: {found.why}"
            )

    def _run_exec(self, command: str, state: State) -> str:
        """Runs --exec. Returns "" if it succeeds, else a phrase for a message."""
        options = self._options
        rendered = options.dir / f"{options.list}.{options.rendering or 'ndjson'}"
        variables = {
            "BLOCKLISTD_LIST": options.list,
            "BLOCKLISTD_VERSION": str(state.version),
            "BLOCKLISTD_FILE": str(rendered.absolute()),
        }
        return run_command(command, variables, options.exec_timeout, self._stop)

    def _probe(self, state: State) -> ProbeResult:
        """Probes the resolver, unless the last receipt has the proof for this version already. `why` is "" if there is
        nothing to complain of."""
        last, options = state.receipt, self._options
        if options.probe is None:
            return ProbeResult(None, "")
        if last is not None and (last.session, last.version, last.probe) == (state.session, state.version, "blocked"):
            return ProbeResult("blocked", "")
        from blocklistd.client.probe import Resolver, probe  # most syncs need no dnspython

        resolver = Resolver.parse(options.probe, options.probe_stops)
        return probe(resolver, map_file(self._folder.snapshot), options.probe_control, self._stop, self._excepted)

    def _report(self, state: State, failure: str, found: ProbeResult) -> None:
        """Sends the receipt, unless it was taken before, and saves it. One that was taken, but could not be saved, is
        sent again, which changes nothing."""
        if not self._options.receipts:
            return
        made = receipt_for(self._options, state, failure, found.outcome, utc_now())
        sent = deliver(self._mirrors.publisher, made, self._emit)
        if sent != state.receipt:
            self._folder.save(replace(state, receipt=sent))
