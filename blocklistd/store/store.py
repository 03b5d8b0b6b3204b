"""Where the state is: one value that opens it, in the serving process and in each job."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blocklistd.errors import StoreError, store_errors
from blocklistd.store.database import Database
from blocklistd.store.files import Disk, SealedFiles, is_read_only


@dataclass(frozen=True, slots=True)
class Store:
    """A state_dir as one daemon sees it: `epoch` is that daemon's (database.py). `read_only`: its file system was
    read-only when the daemon started; nothing is written until the next start."""

    state_dir: Path
    epoch: int = 0
    read_only: bool = field(default=False, kw_only=True)
    disk: Disk = field(default_factory=Disk, compare=False, repr=False)

    @classmethod
    def found(cls, state_dir: Path) -> Store:
        """A store without an epoch, which finds out whether the state_dir is read-only."""
        try:
            return cls(state_dir, read_only=is_read_only(state_dir))
        except OSError:  # it does not exist yet, or is not ours: the next step raises this
            return cls(state_dir)

    @property
    def database(self) -> Path:
        return self.state_dir / "blocklistd.sqlite"

    @property
    def sealed(self) -> SealedFiles:
        return SealedFiles(self.state_dir / "sealed", self.disk)

    @property
    def diffs(self) -> Path:
        return self.state_dir / "diffs"

    @property
    def ixfr(self) -> Path:
        return self.state_dir / "ixfr"

    @property
    def work(self) -> Path:
        return self.state_dir / "work"

    @property
    def evidence(self) -> Path:
        return self.state_dir / "evidence"

    def prepare(self) -> None:
        """Makes the state_dir: it may be passed through, for what is public in it; everything else is the daemon's own.

        Raises StoreError where that can't be done.
        """
        with store_errors(self.state_dir):
            if not self.state_dir.exists():
                self.state_dir.mkdir(mode=0o700, parents=True)
            if stat.S_IMODE(self.state_dir.stat().st_mode) != 0o711:
                self.state_dir.chmod(0o711)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the state_dir for this daemon. Raises StoreError where another has it, or it can't be opened."""
        if self.read_only:
            flags = os.O_RDONLY
            if not self.database.exists():
                raise StoreError(f"{self.state_dir}: read-only, and nothing in it to serve: mount it read-write")
        else:
            self.prepare()
            flags = os.O_RDWR | os.O_CREAT
        with store_errors(self.state_dir):
            descriptor = os.open(self.state_dir / "lock", flags | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode(errors="replace").strip() or "?"
                raise StoreError(
                    f"{self.state_dir} is in use by another daemon (pid {holder}): stop it, or give this one its own "
                    f"state_dir"
                ) from None
            if not self.read_only:
                with store_errors(self.state_dir):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def opened(self) -> Iterator[tuple[Database, SealedFiles]]:
        """The database and the sealed files, for the length of one job."""
        # nobody hears what a job logs
        database = Database(self.database, self.epoch, keeps_head=False, read_only=self.read_only)
        try:
            yield database, self.sealed
        finally:
            database.close()
