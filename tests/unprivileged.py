"""What refuses a file that one may not look at, also where the tests run as root."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final


def open_to_all(folder: Path) -> None:
    """Other users may go to a folder of a test, and read in it."""
    for path in (folder, *folder.parents):
        if path == Path(tempfile.gettempdir()):
            return
        path.chmod(0o755)


UNPRIVILEGED: Final = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"] if os.geteuid() == 0 else []
)
"""Before a command: it has no more rights to files than their modes give."""
