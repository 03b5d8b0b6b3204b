"""A disk that fails, or loses power, at a step of the test's choosing.

`FaultyDisk` works on the real file system and records what is durable: a file's bytes after its fsync, its name after
the fsync of its folder. `crash()` undoes everything else, which is the worst effect of a power cut.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from blocklistd.store.files import Disk


class PowerCut(BaseException):
    """The power fails. No Exception, so that the code under test does not catch it and continue."""


class FaultyDisk(Disk):
    """A disk whose steps in `fail_at` fail with ENOSPC, or with a power cut.

    `fail_at` is from the name of a method, or "any" for all methods, to the number of the call, from 1.
    """

    def __init__(self, fail_at: Mapping[str, int] | None = None, *, power: bool = False) -> None:
        self._fail_at = dict(fail_at or {})
        self._power = power
        self.steps: Counter[str] = Counter()
        self._unsynced: dict[Path, int] = {}  # files whose bytes may be lost
        self._unnamed: dict[Path, Path] = {}  # renames that are not durable: new name to old name
        self._names: dict[int, Path] = {}

    def _step(self, name: str) -> None:
        self.steps[name] += 1
        self.steps["any"] += 1
        if self._fail_at.get(name) == self.steps[name] or self._fail_at.get("any") == self.steps["any"]:
            if self._power:
                raise PowerCut(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def create(self, path: Path) -> BinaryIO:
        self._step("create")
        file = super().create(path)
        self._unsynced[path] = 0
        self._names[file.fileno()] = path
        return file

    def write(self, file: BinaryIO, data: bytes | memoryview) -> None:
        try:
            self._step("write")
        except (OSError, PowerCut):
            super().write(file, memoryview(data)[: len(data) // 2])  # a torn write
            raise
        super().write(file, data)

    def fsync(self, file: BinaryIO) -> None:
        self._step("fsync")
        super().fsync(file)
        self._unsynced.pop(self._names.get(file.fileno(), Path()), None)

    def rename(self, old: Path, new: Path) -> None:
        self._step("rename")
        replaces_durable_name = (
            new.exists() and new not in self._unnamed
        )  # after a power cut it names the one file or the other
        super().rename(old, new)
        if not replaces_durable_name:
            self._unnamed[new] = old
        if old in self._unsynced:
            self._unsynced[new] = self._unsynced.pop(old)

    def fsync_folder(self, folder: Path) -> None:
        self._step("fsync_folder")
        super().fsync_folder(folder)
        self._unnamed = {new: old for new, old in self._unnamed.items() if new.parent != folder}

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._unsynced.pop(path, None)

    def crash(self) -> None:
        """Makes the disk as it is after a power cut: without unsynced bytes, with the old names of unsynced renames."""
        for path in self._unsynced:
            if path.exists():
                os.truncate(path, 0)
        for new, old in self._unnamed.items():
            if new.exists():
                new.rename(old)
        self._unsynced.clear()
        self._unnamed.clear()
