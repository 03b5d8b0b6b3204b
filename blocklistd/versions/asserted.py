"""What a source asserts, as the store has it: a sealed file of canonical lines, or an overlay of another such file.

Either is found by the SHA-256 of the lines. An overlay stands beside where the file would be, and keeps its base from
being swept.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blocklistd.errors import ParseError, StoreError, store_errors
from blocklistd.model import Sha256
from blocklistd.outputs.overlay import Overlay, base_of
from blocklistd.outputs.snapshot import changed_lines
from blocklistd.versions.files import SealedFiles

SUFFIX: Final = ".overlay"

Opened = tuple[Sha256 | None, Overlay]
"""Lines as an overlay, and the digest of its base; none of nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the lines are: the file of the base, its digest, and the overlay, if it is one."""

    base: Sha256
    file: Path
    overlay: Path | None


def place(files: SealedFiles, digest: Sha256) -> Place | None:
    """None where neither is there, or an overlay that names no base."""
    if files.path(digest).exists():
        return Place(digest, files.path(digest), None)
    overlay = files.path(digest).with_name(digest + SUFFIX)
    if not overlay.exists():
        return None
    try:
        with store_errors(files.root), open(overlay, "rb") as file:
            base = Sha256(base_of(file.readline()))
    except ValueError:
        return None
    return Place(base, files.path(base), overlay) if files.path(base).exists() else None


@contextmanager
def opened(files: SealedFiles, digest: Sha256 | None) -> Iterator[Opened]:
    """The lines; nothing at all for no digest.

    Raises StoreError where they are missing or damaged.
    """
    if digest is None:
        yield None, Overlay(b"")
        return
    found = place(files, digest)
    if found is None:
        raise StoreError(f"{files.path(digest)}: what a source asserted is missing: it is read anew at its next pull")
    with files.map(found.base) as base:
        if found.overlay is None:
            yield found.base, Overlay(base)
        else:
            try:
                overlay = Overlay.read(base, found.overlay.read_bytes())
            except ValueError:
                raise StoreError(f"{found.overlay}: what a source asserted is damaged") from None
            yield found.base, overlay


def differing(before: Opened, after: Opened) -> list[bytes]:
    """All lines that only one of two has; with other bases, also some that both have."""
    if before[0] == after[0]:
        return list(before[1].differing(after[1]))
    gone, come = changed_lines(before[1].base, after[1].base)
    for buffer in (before[1].base, after[1].base):
        if isinstance(buffer, mmap.mmap):  # all of it was read, and will not be again: what is mapped counts as ours
            buffer.madvise(mmap.MADV_DONTNEED)
    return [*gone, *come, *before[1].lines(), *after[1].lines()]


def adopt(files: SealedFiles, path: Path, base: Sha256) -> Sha256:
    """Seals an overlay that someone less trusted wrote; the digest of the lines is computed here.

    Raises ParseError where it does not fit its base.
    """
    digest = hashlib.sha256()
    with files.map(base) as lines:
        try:
            written = path.read_bytes()
            if base_of(written) != base:
                raise ValueError("another base")
            for piece in Overlay.read(lines, written).pieces():
                digest.update(piece)
        except ValueError:
            raise ParseError("the intake job's answer does not fit what the source asserted: it is not used") from None
    name = Sha256(digest.hexdigest())
    files.take(path, files.path(name).with_name(name + SUFFIX))
    return name


def intact(files: SealedFiles, digest: Sha256) -> bool:
    """Whether the lines are there and have that digest."""
    found = place(files, digest)
    if found is None or found.overlay is None:
        return files.intact(digest)
    try:
        with opened(files, digest) as (_, overlay):
            seen = hashlib.sha256()
            for piece in overlay.pieces():
                seen.update(piece)
    except (StoreError, ValueError):
        return False
    return seen.hexdigest() == digest


def discard(files: SealedFiles, digest: Sha256) -> None:
    """Puts away what is not what its name says, so that nothing builds on it."""
    for path in (files.path(digest), files.path(digest).with_name(digest + SUFFIX)):
        files.disk.unlink(path)


def bases(files: SealedFiles, digests: Collection[Sha256]) -> set[Sha256]:
    """What is below those that are overlays."""
    found = (place(files, digest) for digest in digests)
    return {place.base for place in found if place is not None and place.overlay is not None}
