"""What a source asserts, as the store has it: a sealed file of canonical lines, or a sealed overlay of such a file.

Either is found by the SHA-256 of what is in it: that of an overlay costs no reading of its base. An overlay keeps its
base from being swept. The same lines have one name as long as they have one base, since an overlay of it can then be
written in one way only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blocklistd.errors import DamagedError, ParseError, StoreError, store_errors
from blocklistd.lines.overlay import Overlay, base_of
from blocklistd.lines.snapshot import few_changed_lines
from blocklistd.model import Sha256
from blocklistd.store.files import SealedFiles, drop_page_cache, mapped

_EARLY: Final = 16  # of the limit: if most lines differ up to there, so will the others
_FEW: Final = 2_000  # lines that are always compared
_HEADER: Final = 200  # bytes that hold the first line of an overlay

Opened = tuple[Sha256 | None, Overlay]
"""Lines as an overlay, and the digest of its base; none of nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the lines are: the file of the base, its digest, and the overlay, if it is one."""

    base: Sha256
    file: Path
    overlay: Path | None


def place(files: SealedFiles, digest: Sha256) -> Place | None:
    """None where it is not there, or an overlay without its base."""
    path = files.path(digest)
    if not path.exists():
        return None
    base = _base(files, path)
    if base is None:
        return Place(digest, path, None)
    return Place(base, files.path(base), path) if files.path(base).exists() else None


def _base(files: SealedFiles, path: Path) -> Sha256 | None:
    """The base of a file that is an overlay."""
    with store_errors(files.root), open(path, "rb") as file, suppress(ValueError):
        return Sha256(base_of(file.readline(_HEADER)))
    return None


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


def differing(before: Opened, after: Opened, limit: int) -> list[bytes] | None:
    """All lines that only one of two has; with other bases, also some that both have. None if they are more than
    `limit`."""
    if before[0] == after[0]:
        found = list(before[1].differing(after[1]))
        return found if len(found) <= limit else None
    changed = few_changed_lines(before[1].base, after[1].base, limit, early=limit // _EARLY + _FEW)
    for buffer in (before[1].base, after[1].base):
        drop_page_cache(buffer)
    return None if changed is None else [*changed[0], *changed[1], *before[1].lines(), *after[1].lines()]


def files_of(files: SealedFiles, digest: Sha256 | None) -> list[Sha256]:
    """The sealed files that hold these entries: one, or an overlay and its base. Raises DamagedError if one is gone."""
    if digest is None:
        return []
    found = place(files, digest)
    if found is None:
        raise DamagedError(digest)
    return [digest] if found.overlay is None else [digest, found.base]


def adopt(files: SealedFiles, path: Path, earlier: Sha256 | None = None) -> Sha256:
    """Seals lines that someone less trusted wrote, or an overlay of the same base as `earlier` is or has; the digest is
    computed here. That of an overlay without a change is its base's.

    Raises ParseError for an overlay that does not fit its base, and for one where lines were expected.
    """
    base = _base(files, path)
    try:
        if earlier is not None:
            with opened(files, earlier) as (below, before):
                written = path.read_bytes()
                after = Overlay.read(before.base, written)
                if base is None or base != below or b"".join(after.write(base)) != written:
                    raise ValueError("another base, or another way to write it")
                before.check(after)
            if not len(after):
                return base
        else:
            with mapped(path) as lines:
                if base is not None or lines.find(b"\0") >= 0:
                    raise ValueError("not lines")
    except ValueError:
        raise ParseError("the intake job's answer does not fit what the source asserted: it is not used") from None
    return files.adopt(path)


def lines_digest(files: SealedFiles, digest: Sha256) -> str:
    """The SHA-256 of the lines themselves. Raises StoreError, or ValueError where an overlay does not fit its base."""
    seen = hashlib.sha256()
    with opened(files, digest) as (_, overlay):
        for piece in overlay.pieces():
            seen.update(piece)
    return seen.hexdigest()


def bases(files: SealedFiles, digests: Collection[Sha256]) -> set[Sha256]:
    """What is below those that are overlays, whether it is there or not."""
    return {below for digest in digests if (below := _base_of(files, digest)) is not None}


def _base_of(files: SealedFiles, digest: Sha256) -> Sha256 | None:
    path = files.path(digest)
    return _base(files, path) if path.exists() else None
