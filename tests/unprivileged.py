"""Runs commands without root's right to read every file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final


def open_to_all(folder: Path) -> None:
    """Gives other users read access to the folder of a test."""
    for path in (folder, *folder.parents):
        if path == Path(tempfile.gettempdir()):
            return
        path.chmod(0o755)


UNPRIVILEGED: Final = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"] if os.geteuid() == 0 else []
)
"""A command prefix: the command then has only the rights that the modes of files give."""
