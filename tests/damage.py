"""Damage to a file of the store, as a failing disk does it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def flip_a_bit(path: Path, before_end: int | None = None) -> None:
    """In place, the size stays: in the middle, or so many bytes before the end."""
    with open(path, "r+b") as file:
        size = path.stat().st_size
        file.seek(size // 2 if before_end is None else size - before_end)
        octet = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([octet ^ 1]))


def fill(folder: Path, but: int = 0) -> None:
    """The disk of the folder is full, but for so many bytes. A writer that goes on meanwhile meets it too, so
    what is free at last is known."""
    with open(folder / "ballast", "ab", buffering=0) as ballast:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while ballast.write(b"x" * size):
                    pass
        ballast.truncate(ballast.tell() - but)
