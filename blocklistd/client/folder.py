"""The subscriber's folder on the disk.

    LIST.ndjson     the snapshot
    LIST.FORMAT     its rendering, if a format was requested
    LIST.excepted.ndjson    its copy without locally excepted entries, if such were given and no format
    state.json      the version of both, with their SHA-256
    metadata/       the trusted TUF metadata (client/trust.py)
    .lock           locked while a sync runs, with its process in it
    .part-SHA256    the first part of a snapshot whose download was cut; the next sync continues it
    .new-*          a file that is not complete yet; deleted by the sync, or by the next one
Each file is written beside its place, synced to the disk, and renamed. The order is snapshot, rendering, state. After a
crash in between, the SHA-256 in the state differs from that of the snapshot (`snapshot_matches`) or of the rendering
(`rendering_matches`), and the next sync fetches or renders again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, TypeGuard

from blocklistd.client.exceptions import EXCEPTED, copy_without, digest_of
from blocklistd.client.state import State
from blocklistd.errors import SyncError
from blocklistd.lines.exceptions import NO_EXCEPTIONS, Excepted
from blocklistd.outputs import OUTPUTS
from blocklistd.times import rfc3339, utc_now

FILE_MODE: Final = 0o640  # mode of a file
FOLDER_MODE: Final = 0o750  # mode of a folder


class Folder:
    """The folder of one list. Raises SyncError for errors of the file system; the present files then stay in place.

    `group` is the gid of a group that may read all files. None: the group that new files get by default.
    Order of calls: `locked` around all others; `replace_snapshot` after an update, `render` for a rendering alone,
    `clear_pending` after --exec.
    """

    def __init__(self, path: Path, list_name: str, group: int | None = None) -> None:
        self.path = path
        self.snapshot = path / f"{list_name}.ndjson"
        self.metadata = path / "metadata"
        self._state = path / "state.json"
        self._lock = path / ".lock"
        self._locked = 0
        self._list = list_name
        self._group = group

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the folder if there is none, and locks it. Raises SyncError while another sync has the lock."""
        with _errors(self.path):
            if not self.path.exists():
                self.path.mkdir(parents=True)
                self._open_to_group(self.path, FOLDER_MODE)
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(lock, 256, 0).decode(errors="replace").strip()
                which = f" ({holder})" if holder.isprintable() and holder else ""
                text = f"{self.path} is in use by another sync{which}: wait for it, or use another --dir"
                raise SyncError(text) from None
            with _errors(self.path):
                os.ftruncate(lock, 0)
                os.pwrite(
                    lock, f"process {os.getpid()} on {socket.gethostname()}, since {rfc3339(utc_now())}\n".encode(), 0
                )
                for leftover in self.path.glob(".new-*"):
                    leftover.unlink(missing_ok=True)
            self._locked = os.fstat(lock).st_ino
            yield
        finally:
            os.close(lock)

    def is_in_place(self) -> bool:
        """Whether the locked folder is still there: somebody may have deleted it while `sync --watch` ran."""
        with suppress(OSError):
            return self._lock.stat().st_ino == self._locked
        return False

    def state(self) -> State | None:
        """Reads state.json; None if it is missing or can't be parsed. Raises SyncError if it is another list's."""
        try:
            state = State.parse(self._state.read_bytes())
        except (OSError, ValueError, TypeError):
            return None
        if state.list != self._list:
            raise SyncError(f"{self.path} holds the list {state.list}: use another --dir for {self._list}")
        return state

    def snapshot_matches(self, state: State) -> bool:
        """Whether the snapshot's SHA-256 is the one in the state."""
        return _digest(self.snapshot) == state.sha256

    def rendering_matches(self, state: State, rendering: str | None, excepted: Excepted = NO_EXCEPTIONS) -> bool:
        """Whether the rendering's SHA-256 is the one in the state, and the exceptions are those that it was made with.
        True for None and "ndjson", the snapshot itself."""
        if not _is_file(rendering):
            return True
        made_with = state.exceptions.get(rendering, "")
        return made_with == digest_of(excepted) and state.rendered.get(rendering) == _digest(self._rendering(rendering))

    @contextmanager
    def draft(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Opens a new file, and yields it with its path. It is deleted after the block unless it was renamed."""
        path = self.path / f".new-{secrets.token_hex(8)}"
        with _errors(self.path):
            try:
                with open(path, "xb") as file:
                    self._open_to_group(path, FILE_MODE)
                    yield file, path
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def part(self, sha256: str) -> Iterator[tuple[BinaryIO, Path]]:
        """Opens the first part of the snapshot with this SHA-256, and yields it with its path. It stays after the
        block; parts of other snapshots are deleted."""
        path = self.path / f".part-{sha256}"
        with _errors(self.path):
            for other in self.path.glob(".part-*"):
                if other != path:
                    other.unlink(missing_ok=True)
            with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE), "r+b") as file:
                self._open_to_group(path, FILE_MODE)
                yield file, path

    def share_metadata(self) -> None:
        """Makes the trusted metadata readable for the group. python-tuf creates these files."""
        with _errors(self.metadata):
            for path in (self.metadata, *self.metadata.rglob("*")):
                if not path.is_symlink():
                    self._open_to_group(path, FOLDER_MODE if path.is_dir() else FILE_MODE)

    def _open_to_group(self, path: Path, mode: int) -> None:
        if self._group is not None:
            os.chown(path, -1, self._group)
        path.chmod(mode)

    def replace_snapshot(
        self, draft: Path, state: State, rendering: str | None, excepted: Excepted = NO_EXCEPTIONS
    ) -> State:
        """Replaces the snapshot by the draft, then makes the rendering and saves the state. Returns the new state."""
        with _errors(self.path):
            _rename_durably(draft, self.snapshot)
        return self.render(state, rendering, excepted)

    def render(self, state: State, rendering: str | None, excepted: Excepted = NO_EXCEPTIONS) -> State:
        """Makes the rendering, if one is requested, without the excepted entries; then saves the state with its
        SHA-256. Returns that state."""
        if _is_file(rendering):
            with self.draft() as (out, path), open(self.snapshot, "rb") as snapshot:
                try:
                    made = self._write(rendering, snapshot, excepted, out)
                except ValueError as error:
                    raise SyncError(
                        f"{self.snapshot} can't be rendered as {rendering}: {error}: use another --format"
                    ) from None
                out.flush()
                rendered = {**state.rendered, rendering: _digest(path)}
                _rename_durably(path, self._rendering(rendering))
            state = replace(
                state,
                rendered=rendered,
                omitted={**state.omitted, rendering: made.omitted},
                excepted={**state.excepted, rendering: made.excepted},
                exceptions={**state.exceptions, rendering: digest_of(excepted)},
            )
        self.save(state)
        return state

    def _write(self, rendering: str, snapshot: BinaryIO, excepted: Excepted, out: BinaryIO) -> _Missing:
        """Writes a rendering. Raises ValueError for a line that is not canonical."""
        if rendering == EXCEPTED:
            return _Missing(0, copy_without(snapshot, excepted, out))
        if not excepted:
            return _Missing(OUTPUTS[rendering](snapshot, out), 0)
        with self.draft() as (rest, path):
            count = copy_without(snapshot, excepted, rest)
            rest.flush()
            with open(path, "rb") as content:
                return _Missing(OUTPUTS[rendering](content, out), count)

    def save(self, state: State) -> None:
        """Writes state.json."""
        with self.draft() as (out, path):
            out.write(state.dump())
            out.flush()
            _rename_durably(path, self._state)

    def _rendering(self, rendering: str) -> Path:
        return self.path / f"{self._list}.{rendering}"

    def clear_pending(self, state: State) -> State:
        """Saves that --exec has succeeded. Returns the new state."""
        without_pending = replace(state, pending=False)
        self.save(without_pending)
        return without_pending


@dataclass(frozen=True, slots=True)
class _Missing:
    """The number of entries that a rendering can't express, and of those that local exceptions take out."""

    omitted: int
    excepted: int


def _is_file(rendering: str | None) -> TypeGuard[str]:
    """Whether a rendering is a file beside the snapshot."""
    return rendering == EXCEPTED or rendering in OUTPUTS


def _digest(path: Path) -> str:
    """The SHA-256 of a file, in hex; "" if it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _rename_durably(draft: Path, final: Path) -> None:
    """Renames the draft to its place, with fsync of the file before and of the folder after."""
    with open(draft, "rb") as file:
        os.fsync(file.fileno())
    os.rename(draft, final)
    folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Turns OSError into SyncError."""
    try:
        yield
    except OSError as error:
        raise SyncError(
            f"{path}: {error.strerror}: the files stay as they are; check the space and the permissions there"
        ) from error
