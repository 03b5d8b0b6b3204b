"""Scratch files: sealed files of a dry run, in a folder of their own beside the sealed files of the state.

A dry run seals what a pull would seal, and leaves nothing: its files are in the work folder, which is removed after it.
It reads the sealed files of the state as well, and never writes, renames or removes one of them.
"""

from __future__ import annotations

from pathlib import Path

from blocklistd.model import Sha256
from blocklistd.store.files import SealedFiles


class ScratchFiles(SealedFiles):
    """Sealed files in the folder `root`, on top of those of the state. Call `prepare` once before all else."""

    def __init__(self, root: Path, below: SealedFiles) -> None:
        super().__init__(root, below.disk)
        self._below = below

    def path(self, digest: Sha256) -> Path:
        """The path of the scratch file with this digest; if there is none, that of the sealed file of the state."""
        scratch = self.target(digest)
        return scratch if scratch.exists() else self._below.path(digest)

    def target(self, digest: Sha256) -> Path:
        """The path to which a new scratch file is renamed: always in the scratch folder."""
        return self.root / digest[:2] / digest
