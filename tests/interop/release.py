"""The release of Debian whose name servers the tests run: this machine's, or the next one's in a root of its own
(`make interop-next`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.peers import peer, unchecked


@dataclass(frozen=True, slots=True)
class Release:
    """`root`: the folder to change the root to before a program is run, or None. `versions`: of each program."""

    root: Path | None
    versions: Mapping[str, str]

    def command(self, program: str, package: str) -> list[str]:
        """The beginning of a command line that runs `program`, which is an absolute path."""
        if self.root is None:
            return [peer(program, package)]
        if not (self.root / program.lstrip("/")).exists():
            unchecked(f"{program} is not in {self.root}: add the package {package} in tests/interop-next")
        return ["chroot", str(self.root), program]

    def software(self, program: str) -> str:
        """The program with its version, as `subscriber add --software` expects it."""
        return f"{program}:{self.versions[program]}"


ROOT: Final = "PEERS_ROOT"
"""The environment variable with the folder of another release."""
BOOKWORM: Final = Release(None, {"bind": "9.18", "knot": "3.2", "nsd": "4.6", "powerdns": "4.8", "unbound": "1.17"})
TRIXIE: Final = {"bind": "9.20", "knot": "3.4", "nsd": "4.12", "powerdns": "5.2", "unbound": "1.26"}


def tested() -> Release:
    """The release that this run of the tests is for."""
    root = os.environ.get(ROOT)
    return Release(Path(root), TRIXIE) if root else BOOKWORM
