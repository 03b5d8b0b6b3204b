"""A zone's compiled messages as they are served."""

from __future__ import annotations

import hashlib
import os
import weakref
from pathlib import Path
from typing import Final

from blocklistd.errors import DamagedError, store_errors
from blocklistd.model import Sha256
from blocklistd.store.files import fingerprint_of

READ: Final = 1 << 20  # bytes read at once


class CompiledFile:
    """A zone's compiled messages as they are served: an open file whose SHA-256 was verified.

    It is read and not mapped: the pages of a mapping count as memory of the process. It stays readable after the file
    is removed. `fingerprint`: of the open file when it was verified. It is compared with that of the same open file,
    whatever file has the name by now. States: verified → changed, when `is_unchanged` returns False; changed →
    verified, when `is_intact` then returns True.
    """

    def __init__(self, path: Path, digest: Sha256, fingerprint: str | None = None) -> None:
        """Opens the file; reads and verifies it unless it has the `fingerprint` of a verified file. Raises DamagedError
        if it is missing or damaged, StoreError if it can't be read."""
        self.digest = digest
        self._path = path
        try:
            with store_errors(path.parent):
                self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except Exception as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise DamagedError(digest) from error
            raise
        weakref.finalize(self, os.close, self._descriptor)
        self.fingerprint = self._current()
        self._size = os.fstat(self._descriptor).st_size
        if self.fingerprint != fingerprint and not self.is_intact():
            raise DamagedError(digest)

    def __len__(self) -> int:
        return self._size

    def read(self, at: int, into: memoryview) -> None:
        """Fills `into` with the bytes from offset `at` on. They are right if the file `is_unchanged` after that. Raises
        DamagedError if the file is too short, StoreError if it can't be read."""
        with store_errors(self._path):
            size = os.preadv(self._descriptor, [into], at)
        if size != len(into):  # a read of a file is complete, except at its end
            raise DamagedError(self.digest)

    def is_unchanged(self) -> bool:
        """Whether the file was not written since it was verified. Costs one fstat(2)."""
        return self._current() == self.fingerprint

    def is_intact(self) -> bool:
        """Reads the file; returns whether it matches its digest. If so, it counts as unchanged again."""
        before = self._current()
        size = os.fstat(self._descriptor).st_size
        if size != self._size:
            return False
        hash = hashlib.sha256()
        for start in range(0, size, READ):
            hash.update(os.pread(self._descriptor, READ, start))
        if hash.hexdigest() != self.digest:
            return False
        self.fingerprint = before
        return True

    def _current(self) -> str:
        return fingerprint_of(os.fstat(self._descriptor))
