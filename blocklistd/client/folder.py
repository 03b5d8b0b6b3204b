"""The subscriber's folder: the snapshot, its rendering, the state, each replaced whole and in this order."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from blocklistd.errors import SyncError
from blocklistd.outputs import OUTPUTS


@dataclass(frozen=True, slots=True)
class State:
    """What is in the folder. `pending`: --exec has not succeeded since the last change. `rendered`: the SHA-256 of this
    version's renderings, by format; a file of another format may be left from an older version."""

    list: str
    session: str
    version: int
    entries: int
    sha256: str
    pending: bool = False
    rendered: dict[str, str] = field(default_factory=dict)


FILE: Final = 0o640
FOLDER: Final = 0o750


class Folder:
    """Raises SyncError where the file system refuses; the files that were there then stay.

    `group` is the gid of those who apply the list: they may read all files in it. None: the group that new files get.
    """

    def __init__(self, path: Path, list_name: str, group: int | None = None) -> None:
        self.path = path
        self.snapshot = path / f"{list_name}.ndjson"
        self.metadata = path / "metadata"
        self._state = path / "state.json"
        self._list = list_name
        self._group = group

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One sync a folder."""
        with _errors(self.path):
            if not self.path.exists():
                self.path.mkdir(parents=True)
                self._open_to_group(self.path, FOLDER)
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SyncError(f"{self.path} is in use by another sync: wait for it, or use another --dir") from None
            with _errors(self.path):
                for leftover in self.path.glob(".new-*"):
                    leftover.unlink(missing_ok=True)
            yield
        finally:
            os.close(lock)

    def state(self) -> State | None:
        """What the folder says of itself; None where there is nothing, or nothing that can be read."""
        try:
            state = State(**orjson.loads(self._state.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        if not (isinstance(state.version, int) and isinstance(state.rendered, dict)):
            return None
        if state.list != self._list:
            raise SyncError(f"{self.path} holds the list {state.list}: use another --dir for {self._list}")
        return state

    def holds(self, state: State) -> bool:
        """Whether the snapshot is the one that the state names."""
        return _digest(self.snapshot) == state.sha256

    def renders(self, state: State, rendering: str | None) -> bool:
        """Whether the rendering that is asked for, if any, is the one of the state's version."""
        if rendering is None or rendering not in OUTPUTS:
            return True
        return state.rendered.get(rendering) == _digest(self._rendering(rendering))

    @contextmanager
    def draft(self) -> Iterator[tuple[BinaryIO, Path]]:
        """A new file beside the others; gone after the block, unless it was put in place."""
        path = self.path / f".new-{secrets.token_hex(8)}"
        with _errors(self.path):
            try:
                with open(path, "xb") as file:
                    self._open_to_group(path, FILE)
                    yield file, path
            finally:
                path.unlink(missing_ok=True)

    def share_metadata(self) -> None:
        """The trusted metadata are for the group to read, as all else is."""
        with _errors(self.metadata):
            for path in (self.metadata, *self.metadata.rglob("*")):
                if not path.is_symlink():
                    self._open_to_group(path, FOLDER if path.is_dir() else FILE)

    def _open_to_group(self, path: Path, mode: int) -> None:
        if self._group is not None:
            os.chown(path, -1, self._group)
        path.chmod(mode)

    def put(self, draft: Path, state: State, rendering: str | None) -> State:
        """The snapshot, then its rendering, then the state."""
        with _errors(self.path):
            _settle(draft, self.snapshot)
        return self.render(state, rendering)

    def render(self, state: State, rendering: str | None) -> State:
        """The rendering that is asked for, if any, then the state, which names it."""
        if rendering is not None and rendering in OUTPUTS:
            with self.draft() as (out, path), open(self.snapshot, "rb") as snapshot:
                try:
                    OUTPUTS[rendering](snapshot, out)
                except ValueError as error:
                    raise SyncError(f"{self.snapshot} can't be rendered as {rendering}: {error}") from None
                out.flush()
                rendered = {**state.rendered, rendering: _digest(path)}
                _settle(path, self._rendering(rendering))
            state = replace(state, rendered=rendered)
        self.save(state)
        return state

    def save(self, state: State) -> None:
        with self.draft() as (out, path):
            out.write(orjson.dumps(asdict(state)) + b"\n")
            out.flush()
            _settle(path, self._state)

    def _rendering(self, rendering: str) -> Path:
        return self.path / f"{self._list}.{rendering}"

    def done(self, state: State) -> State:
        """--exec has succeeded."""
        settled = replace(state, pending=False)
        self.save(settled)
        return settled


def _digest(path: Path) -> str:
    """The SHA-256 of a file; nothing where it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _settle(draft: Path, final: Path) -> None:
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
    try:
        yield
    except OSError as error:
        raise SyncError(f"{path}: {error.strerror}: what is there stays in place") from error
