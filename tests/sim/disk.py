"""A disk that fails, or loses power, at a step of the test's choosing.

`FaultyDisk` works on the real file system and keeps account of what is durable: a file's bytes once it was synced, a
name once its folder was. `crash()` undoes everything that was not, as a power cut would at its worst.
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
    """Not an Exception: nothing that the product catches may go on after it."""


class FaultyDisk(Disk):
    """`fail_at` names steps by method and count (from 1), or by `any`; each fails with ENOSPC, or cuts the power."""

    def __init__(self, fail_at: Mapping[str, int] | None = None, *, power: bool = False) -> None:
        self._fail_at = dict(fail_at or {})
        self._power = power
        self.steps: Counter[str] = Counter()
        self._unsynced: dict[Path, int] = {}  # files whose bytes may be lost
        self._unnamed: dict[Path, Path] = {}  # new name → old name, not yet durable
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
        given = new.exists() and new not in self._unnamed  # after a power cut it names the one file or the other
        super().rename(old, new)
        if not given:
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
        """What is left after the power comes back: unsynced bytes are gone, unsynced names were never given."""
        for path in self._unsynced:
            if path.exists():
                os.truncate(path, 0)
        for new, old in self._unnamed.items():
            if new.exists():
                new.rename(old)
        self._unsynced.clear()
        self._unnamed.clear()
