"""Makes damaged files and full disks."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.peers import peer, unchecked


def flip_a_bit(path: Path, before_end: int | None = None) -> None:
    """Flips one bit of a file in place: in the middle, or `before_end` bytes before its end."""
    with open(path, "r+b") as file:
        size = path.stat().st_size
        file.seek(size // 2 if before_end is None else size - before_end)
        octet = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([octet ^ 1]))


def fill(folder: Path, but: int = 0) -> None:
    """Fills the disk of the folder until `but` bytes are free.

    It first fills the disk completely: a program that writes meanwhile fails too, so the free space is known.
    """
    with open(folder / "ballast", "ab", buffering=0) as ballast:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while ballast.write(b"x" * size):
                    pass
        ballast.truncate(ballast.tell() - but)


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A new folder with a file system of its own of `size` bytes."""
    peer("mount", "mount")
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False).returncode:
        unchecked("a tmpfs can't be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
