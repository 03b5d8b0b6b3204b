"""The id of a state_dir, for a database outside it: the database names files that only this state_dir has.

On the disk: the file `state-id` in the state_dir, a UUID. The database has the same id from the first start on
(Database.take_over).
"""

from __future__ import annotations

import uuid
from pathlib import Path

from blocklistd.errors import StoreError, store_errors
from blocklistd.store.small_files import replace_file


def state_id(state_dir: Path) -> str:
    """Reads the id; makes the file if there is none. Raises StoreError if the file has other content."""
    path = state_dir / "state-id"
    with store_errors(path):
        try:
            text = path.read_text(errors="replace").strip()
        except FileNotFoundError:
            text = str(uuid.uuid4())
            replace_file(path, f"{text}\n".encode())
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise StoreError(f"{path}: expected a UUID: restore the file from a backup") from None
