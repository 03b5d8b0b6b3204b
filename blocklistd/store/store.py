"""The state_dir: paths, the lock of the daemon, and opening the state in the daemon and in each job.

On the disk, in the state_dir:

    lock                 locked by the running daemon; contains its pid
    blocklistd.sqlite    the database (database.py)
    audit-head           the newest line of the audit (audit.py)
    sealed/              sealed files and their compressed renderings (files.py)
    diffs/, ixfr/        rendered differences of versions and of serials (render.py, ixfr.py)
    exports/             renderings of snapshots for other programs (render.py)
    evidence/            bodies as they arrived (evidence.py)
    root/                versions of root.json (signing/keys.py)
    work/                files of running jobs
    reserve              room for a start on a full disk (upkeep.py)
    replaced-TIME/       the state before a restore; restoring/, .restoring/: during one (restores.py)

Order of calls in a daemon: `found`, then everything else inside a `locked` block. Jobs call `opened` only.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blocklistd.errors import StoreError, store_errors
from blocklistd.store.backends import Backend, Postgresql, Sqlite
from blocklistd.store.database import Database
from blocklistd.store.files import Disk, SealedFiles, is_read_only


@dataclass(frozen=True, slots=True)
class Store:
    """A state_dir and the `epoch` of the daemon that uses it (database.py). `read_only`: its file system was read-only
    when the daemon started; nothing is written until the next start. `url`: of the PostgreSQL database; None: the
    database is a file of SQLite in the state_dir."""

    state_dir: Path
    epoch: int = 0
    read_only: bool = field(default=False, kw_only=True)
    url: str | None = field(default=None, kw_only=True)
    disk: Disk = field(default_factory=Disk, compare=False, repr=False)

    @classmethod
    def found(cls, state_dir: Path, url: str | None = None) -> Store:
        """The store of a state_dir, without an epoch; checks whether the file system is read-only."""
        try:
            return cls(state_dir, read_only=is_read_only(state_dir), url=url)
        except OSError:  # it does not exist yet, or may not be read: `locked` makes it or raises the error
            return cls(state_dir, url=url)

    @property
    def database(self) -> Path:
        """The path of the database of SQLite."""
        return self.state_dir / "blocklistd.sqlite"

    @property
    def backend(self) -> Backend:
        """The database, wherever it is."""
        return Sqlite(self.database) if self.url is None else Postgresql(self.url, self.state_dir)

    @property
    def sealed(self) -> SealedFiles:
        """The sealed files."""
        return SealedFiles(self.state_dir / "sealed", self.disk)

    @property
    def diffs(self) -> Path:
        """The folder of rendered diffs between versions."""
        return self.state_dir / "diffs"

    @property
    def ixfr(self) -> Path:
        """The folder of rendered differences between serials."""
        return self.state_dir / "ixfr"

    @property
    def exports(self) -> Path:
        """The folder of snapshots in the formats of other programs."""
        return self.state_dir / "exports"

    @property
    def work(self) -> Path:
        """The folder for files of running jobs."""
        return self.state_dir / "work"

    @property
    def evidence(self) -> Path:
        """The folder of kept bodies."""
        return self.state_dir / "evidence"

    @property
    def making(self) -> Path:
        """The folder in which a restore makes the new state."""
        return self.state_dir / ".restoring"

    @property
    def restoring(self) -> Path:
        """The folder that exists while a restore exchanges the state."""
        return self.state_dir / "restoring"

    def prepare(self) -> None:
        """Makes the state_dir with mode 0711: other users reach the public socket in it and can't list it.

        Raises StoreError.
        """
        with store_errors(self.state_dir):
            if not self.state_dir.exists():
                self.state_dir.mkdir(mode=0o700, parents=True)
            if stat.S_IMODE(self.state_dir.stat().st_mode) != 0o711:
                self.state_dir.chmod(0o711)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the state_dir for this daemon. Raises StoreError if another daemon has it, or it can't be opened."""
        if self.read_only:
            flags = os.O_RDONLY
            if self.url is None and not self.database.exists():
                raise StoreError(f"{self.state_dir}: read-only, and nothing in it to serve: mount it read-write")
        else:
            self.prepare()
            flags = os.O_RDWR | os.O_CREAT
        with store_errors(self.state_dir):
            descriptor = os.open(self.state_dir / "lock", flags | os.O_CLOEXEC, 0o600)
        try:
            self._lock(descriptor)
            if not self.read_only:
                with store_errors(self.state_dir):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def require_unused(self) -> None:
        """Raises StoreError if a daemon has the state_dir. Changes nothing."""
        try:
            descriptor = os.open(self.state_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self.state_dir}: {error.strerror}: run this as the user of the daemon") from None
        try:
            self._lock(descriptor)
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "?"
            raise StoreError(
                f"{self.state_dir} is in use by another daemon (pid {holder}): stop it, or give this one its own "
                f"state_dir"
            ) from None

    @contextmanager
    def opened(self) -> Iterator[tuple[Database, SealedFiles]]:
        """Opens the database and the sealed files for one job. The job does not advance the audit's head file: the
        daemon does it after the job, since a job's log lines, with a failure to write it, are lost."""
        database = Database(self.backend, self.epoch, keeps_head=False, read_only=self.read_only)
        try:
            yield database, self.sealed
        finally:
            database.close()
