"""Which sealed files are known to match the SHA-256 in their names. No other file is read for a result or sent.

A file is hashed once, and its stat fingerprint (inode, size, mtime, ctime) kept in memory: as long as that is the same,
nothing has written the file. A fingerprint is never stored: a new process believes no file that it has not read. Jobs
are given the fingerprints of the files that they read, and answer with those that they verified or wrote.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from blocklistd.errors import DamagedError, JobError
from blocklistd.model import Sha256
from blocklistd.store.files import SealedFiles

Fingerprints = Mapping[Sha256, str]
"""By digest, `files.fingerprint` of the file when its content was right."""


class Verified:
    """The sealed files that this process has verified. `fingerprints` may be replaced by newer ones at any time."""

    def __init__(self, files: SealedFiles, fingerprints: Fingerprints | None = None) -> None:
        self._files = files
        self.fingerprints: dict[Sha256, str] = dict(fingerprints or {})
        self._sealing: dict[object, tuple[float, float]] = {}

    def check(self, digest: Sha256) -> bool:
        """Whether the file is what its name says; it is read only where that is not known."""
        before = self._files.fingerprint(digest)
        if before is not None and self.fingerprints.get(digest) == before:
            return True
        self.fingerprints.pop(digest, None)
        if before is None or not self._files.intact(digest):
            return False
        self.fingerprints[digest] = before  # from before the reading: a write during it shows at the next look
        return True

    def suspects(self) -> list[Sha256]:
        """The files that were right and have been written, replaced or removed since: one stat for each."""
        return [
            digest for digest, known in self.fingerprints.copy().items() if self._files.fingerprint(digest) != known
        ]

    def require(self, *digests: Sha256 | None) -> None:
        """Raises DamagedError for the first file that is missing or not what its name says."""
        for digest in digests:
            if digest and not self.check(digest):
                raise DamagedError(digest)

    @contextmanager
    def reading(self, digests: Iterable[Sha256]) -> Iterator[None]:
        """Verifies these files before the block and again after it. The block may read them. Raises DamagedError."""
        digests = list(digests)
        self.require(*digests)
        try:
            yield
        except (ValueError, JobError):  # perhaps because of that
            self.require(*digests)
            raise
        self.require(*digests)

    def wrote(self, digest: Sha256) -> None:
        """This process has just sealed the file."""
        found = self._files.fingerprint(digest)
        if found is not None:
            self.fingerprints[digest] = found

    def of(self, digests: Iterable[Sha256 | None]) -> dict[Sha256, str]:
        """The fingerprints of these files, as far as they are known: for a job."""
        known = ((digest, self.fingerprints.get(digest)) for digest in digests if digest)
        return {digest: found for digest, found in known if found is not None}

    def learn(self, fingerprints: Fingerprints) -> None:
        """Adds the fingerprints of files that a job has verified or written."""
        self.fingerprints.update(fingerprints)

    def forget(self, digests: Iterable[Sha256]) -> None:
        """Drops the fingerprints of files that no row names any more."""
        for digest in digests:
            self.fingerprints.pop(digest, None)

    # -- for the sweep ---------------------------------------------------------------------------------------------

    @contextmanager
    def sealing(self) -> Iterator[None]:
        """A block in which files are sealed, perhaps by jobs, and then named by rows: the sweep spares them."""
        key = object()
        self._sealing[key] = time.monotonic(), time.time()
        try:
            yield
        finally:
            del self._sealing[key]

    def sealing_for(self) -> float:
        """Seconds since the oldest of these blocks began that has not ended; 0.0 if there is none.

        Files have times of the wall clock, so the seconds by which that was set meanwhile, in either direction, are
        added.
        """
        if not self._sealing:
            return 0.0
        began, wall = min(self._sealing.values())
        took = time.monotonic() - began
        return took + abs(time.time() - wall - took)
