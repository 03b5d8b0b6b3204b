"""The id of a state_dir, for a database outside it: the database names files that only this state_dir has.

On the disk: the file `state-id` in the state_dir, a UUID. The database has the same id from the first start on
(Database.take_over).
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from blocklistd.errors import StoreError, store_errors


def state_id(state_dir: Path) -> str:
    """Reads the id; makes the file if there is none. Raises StoreError if the file has other content."""
    path = state_dir / "state-id"
    with store_errors(path):
        try:
            text = path.read_text(errors="replace").strip()
        except FileNotFoundError:
            return _make(path)
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise StoreError(f"{path}: expected a UUID: restore the file from a backup") from None


def _make(path: Path) -> str:
    made = str(uuid.uuid4())
    new = path.with_name(f".{path.name}.new")
    with open(new, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(f"{made}\n")
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    return made
