"""The entries that a source asserts: a sealed file of canonical lines, or a sealed patch of such a file, its base.

Each is named by the SHA-256 of its own bytes, so computing the digest of a patch does not read its base. While a row
names a patch, its base is kept too (`bases`). Each patch has one canonical form, so on the same base the same lines
always have the same digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blocklistd.errors import DamagedError, ParseError, StoreError, store_errors
from blocklistd.lines.patched import PatchedLines, base_of
from blocklistd.lines.snapshot import few_changed_lines
from blocklistd.model import Sha256
from blocklistd.store.files import SealedFiles, drop_page_cache, map_file
from blocklistd.store.verified import Verified

_EARLY: Final = 16  # after limit / 16 lines: give up if most of them differ, since the rest then differ too
_FEW: Final = 2_000  # lines that are always compared before that
_HEADER: Final = 200  # bytes that contain the first line of a patch

OpenAssertion = tuple[Sha256 | None, PatchedLines]
"""The digest of the base, None where there are no lines; and the lines, as a patch of that base."""


@dataclass(frozen=True, slots=True)
class AssertedFiles:
    """The files of an assertion: the base's digest and path, and the patch's path, None if there is no patch."""

    base: Sha256
    file: Path
    patch: Path | None


def locate(files: SealedFiles, digest: Sha256) -> AssertedFiles | None:
    """The files of the assertion with this digest. None if its file, or the base of its patch, is missing."""
    path = files.path(digest)
    if not path.exists():
        return None
    base = _base(files, path)
    if base is None:
        return AssertedFiles(digest, path, None)
    return AssertedFiles(base, files.path(base), path) if files.path(base).exists() else None


def _base(files: SealedFiles, path: Path) -> Sha256 | None:
    """The base's digest if the file is a patch, else None."""
    with store_errors(files.root), open(path, "rb") as file, suppress(ValueError):
        return Sha256(base_of(file.readline(_HEADER)))
    return None


@contextmanager
def open_assertion(files: SealedFiles, digest: Sha256 | None) -> Iterator[OpenAssertion]:
    """Opens the lines for reading; no lines for no digest. Raises StoreError if they are missing or damaged."""
    if digest is None:
        yield None, PatchedLines(b"")
        return
    found = locate(files, digest)
    if found is None:
        raise StoreError(
            f"{files.path(digest)}: a source's entries are missing: "
            "run `blocklistd source pull` for it, which reads the whole body again"
        )
    with files.map(found.base) as base:
        if found.patch is None:
            yield found.base, PatchedLines(base)
        else:
            try:
                patch = PatchedLines.read(base, found.patch.read_bytes())
            except ValueError:
                raise StoreError(
                    f"{found.patch}: a source's entries are damaged: "
                    "run `blocklistd source pull` for it, which reads the whole body again"
                ) from None
            yield found.base, patch


def differing_lines(before: OpenAssertion, after: OpenAssertion, limit: int) -> list[bytes] | None:
    """The lines that only one of the two has; if their bases differ, also some that both have. None if there are more
    than `limit`."""
    if before[0] == after[0]:
        found = list(before[1].differing(after[1]))
        return found if len(found) <= limit else None
    changed = few_changed_lines(before[1].base, after[1].base, limit, early=limit // _EARLY + _FEW)
    for buffer in (before[1].base, after[1].base):
        drop_page_cache(buffer)
    return None if changed is None else [*changed[0], *changed[1], *before[1].lines(), *after[1].lines()]


def files_of(files: SealedFiles, digest: Sha256 | None) -> list[Sha256]:
    """The digests of the sealed files with these entries: one, or a patch and its base.

    Raises DamagedError if one is missing.
    """
    if digest is None:
        return []
    found = locate(files, digest)
    if found is None:
        raise DamagedError(digest)
    return [digest] if found.patch is None else [digest, found.base]


def is_intact(files: SealedFiles, verified: Verified, digest: Sha256 | None) -> bool:
    """Whether the files with these entries match their digests. No digest: there is no file."""
    try:
        return all(verified.check(one) for one in files_of(files, digest))
    except DamagedError:
        return False


def adopt(files: SealedFiles, path: Path, earlier: Sha256 | None = None) -> Sha256:
    """Seals the file that the intake job wrote; returns its digest, computed here.

    Without `earlier` the file has to contain lines. With `earlier` it has to be a patch of the same base; for a patch
    without changes the base's digest is returned. Raises ParseError for any other file.
    """
    base = _base(files, path)
    try:
        if earlier is not None:
            with open_assertion(files, earlier) as (below, before):
                written = path.read_bytes()
                after = PatchedLines.read(before.base, written)
                if base is None or base != below or b"".join(after.write(base)) != written:
                    raise ValueError("not a canonical patch of this base")
                before.check(after)
            if not len(after):
                return base
        else:
            with map_file(path) as lines:
                if base is not None or lines.find(b"\0") >= 0:
                    raise ValueError("not lines")
    except ValueError:
        raise ParseError(
            "the intake job wrote a file that does not fit the source's entries: it is not used; pull again"
        ) from None
    return files.adopt(path)


def lines_digest(files: SealedFiles, digest: Sha256) -> str:
    """The SHA-256 of the lines, in hex. Raises StoreError, or ValueError if a patch does not fit its base."""
    seen = hashlib.sha256()
    with open_assertion(files, digest) as (_, patch):
        for chunk in patch.chunks():
            seen.update(chunk)
    return seen.hexdigest()


def bases(files: SealedFiles, digests: Collection[Sha256]) -> set[Sha256]:
    """The bases of those of the files that are patches, whether the bases exist or not."""
    return {below for digest in digests if (below := _base_of(files, digest)) is not None}


def _base_of(files: SealedFiles, digest: Sha256) -> Sha256 | None:
    path = files.path(digest)
    return _base(files, path) if path.exists() else None
