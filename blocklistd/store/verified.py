"""Remembers which sealed files match the SHA-256 in their names. Only such files are sent, or read to compute anything.

A file is hashed once, and its stat fingerprint (inode, size, mtime, ctime) is kept in memory. While the fingerprint
stays the same, no program has written the file. States of a file:

    unknown  → verified   `check` reads it and the digest matches; `wrote` and `learn` after a process wrote or read it
    verified → unknown    its fingerprint has changed (`suspects` lists these), or `forget`

Fingerprints are never stored on the disk: a new process trusts no file that it has not read. A job receives the
fingerprints of its input files (`of`) and returns those of the files that it verified or wrote (`learn`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from blocklistd.errors import DamagedError, JobError
from blocklistd.model import Sha256
from blocklistd.store.files import SealedFiles

Fingerprints = Mapping[Sha256, str]
"""For each digest the stat fingerprint (`files.fingerprint`) that the file had when its SHA-256 was verified."""


class Verified:
    """The stat fingerprints of the sealed files that this process has verified."""

    def __init__(self, files: SealedFiles, fingerprints: Fingerprints | None = None) -> None:
        self._files = files
        self.fingerprints: dict[Sha256, str] = dict(fingerprints or {})
        self._sealing: dict[object, tuple[float, float]] = {}
        self._kept: dict[object, set[Sha256]] = {}

    def check(self, digest: Sha256) -> bool:
        """Whether the file matches its digest. Reads the file only if its fingerprint is unknown or has changed."""
        before = self._files.fingerprint(digest)
        if before is not None and self.fingerprints.get(digest) == before:
            return True
        self.fingerprints.pop(digest, None)
        if before is None or not self._files.is_intact(digest):
            return False
        self.fingerprints[digest] = before  # taken before the read: the next check notices a write during it
        return True

    def suspects(self) -> list[Sha256]:
        """The verified files that were written, replaced or removed since. Costs one stat(2) for each."""
        return [
            digest for digest, known in self.fingerprints.copy().items() if self._files.fingerprint(digest) != known
        ]

    def require(self, *digests: Sha256 | None) -> None:
        """Raises DamagedError for the first file that is missing or does not match its digest."""
        for digest in digests:
            if digest and not self.check(digest):
                raise DamagedError(digest)

    @contextmanager
    def reading(self, digests: Iterable[Sha256]) -> Iterator[None]:
        """Verifies the files before and after the block that reads them. Raises DamagedError."""
        digests = list(digests)
        self.require(*digests)
        try:
            yield
        except (ValueError, JobError):  # a damaged file may be the cause: report that instead
            self.require(*digests)
            raise
        self.require(*digests)

    def wrote(self, digest: Sha256) -> None:
        """Counts the file as verified: this process has just sealed it."""
        found = self._files.fingerprint(digest)
        if found is not None:
            self.fingerprints[digest] = found

    def of(self, digests: Iterable[Sha256 | None]) -> dict[Sha256, str]:
        """The known fingerprints of these files, to pass to a job."""
        known = ((digest, self.fingerprints.get(digest)) for digest in digests if digest)
        return {digest: found for digest, found in known if found is not None}

    def news(self, known: Fingerprints) -> dict[Sha256, str]:
        """The fingerprints that are not in `known`: those of the files that a job verified or wrote."""
        return {digest: found for digest, found in self.fingerprints.items() if known.get(digest) != found}

    def learn(self, fingerprints: Fingerprints) -> None:
        """Adds the fingerprints of files that a job verified or wrote."""
        self.fingerprints.update(fingerprints)

    def forget(self, digests: Iterable[Sha256]) -> None:
        """Drops the fingerprints of files that no row names any more."""
        for digest in digests:
            self.fingerprints.pop(digest, None)

    # -- for the sweep ---------------------------------------------------------------------------------------------

    @contextmanager
    def sealing(self) -> Iterator[None]:
        """Wraps work that seals files, perhaps in jobs, and then names them in rows: the sweep keeps these files."""
        key = object()
        self._sealing[key] = time.monotonic(), time.time()
        try:
            yield
        finally:
            del self._sealing[key]

    @contextmanager
    def keeping(self, digests: Iterable[Sha256]) -> Iterator[None]:
        """Wraps work that reads these files without a lock: a row may stop to name them, but the sweep keeps them."""
        key = object()
        self._kept[key] = set(digests)
        try:
            yield
        finally:
            del self._kept[key]

    @property
    def kept(self) -> set[Sha256]:
        """The files of all `keeping` blocks that run now."""
        return set().union(*list(self._kept.values()))

    def sealing_for(self) -> float:
        """Seconds since the start of the oldest `sealing` block that still runs; 0.0 if there is none.

        The times of files come from the wall clock. So the seconds by which the wall clock was set meanwhile, forward
        or back, are added.
        """
        if not self._sealing:
            return 0.0
        began, wall = min(self._sealing.values())
        took = time.monotonic() - began
        return took + abs(time.time() - wall - took)
