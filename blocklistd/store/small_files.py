"""Small files of the state_dir beside the database: each is replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

from blocklistd.errors import store_errors


def replace_file(path: Path, body: bytes) -> None:
    """Replaces the file atomically: after a power cut it has either the old or the new content. Raises StoreError."""
    new = path.with_name(f".{path.name}.new")
    with store_errors(path):
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
