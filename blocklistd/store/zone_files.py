"""A zone's sealed files: the names that its list gives it, the rules of these, and the rules compiled.

`make` reads the whole list. `follow` takes the files of the serial before and what has changed in the list since. Both
make the same files. Nothing here verifies a file: the caller does, before and after (store/verified.py).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import Final

from blocklistd.errors import DamagedError, store_errors
from blocklistd.jobs.spread import in_processes
from blocklistd.lines.delta import RULES, Part, between, render
from blocklistd.lines.ids import Ids
from blocklistd.lines.snapshot import lines, splice
from blocklistd.model import Sha256
from blocklistd.rpz.rules import entries_of, names, revise, rules_in_blocks
from blocklistd.rpz.wire import Action, compile_rules, recompile, wire_name
from blocklistd.store.files import SealedFiles, fingerprint_of

BLOCK: Final = 1 << 14  # lines written at once
READ: Final = 1 << 20  # bytes read at once


@dataclass(frozen=True, slots=True)
class Ruling:
    """Which entries of a list are in a zone, and what its records say."""

    zone: str
    categories: tuple[str, ...]
    action: Action


@dataclass(frozen=True, slots=True)
class ZoneFiles:
    """The sealed files and their figures. `omitted` are ids of entries, once for each rule that does not fit."""

    names: Sha256
    rules: Sha256
    wire: Sha256
    records: int
    covered: int
    omitted: Sequence[str]


@dataclass(frozen=True, slots=True)
class RulesDelta:
    """The sealed delta between the rules of two serials, and how many rules it removes and adds."""

    digest: Sha256
    removed: int
    added: int


def make(files: SealedFiles, ruling: Ruling, snapshot: Sha256, ids: Ids) -> ZoneFiles:
    """Makes all files from the list's snapshot; `ids` are the list's.

    The names are sorted in memory; rules and messages are written while they are made.
    """
    with files.map(snapshot) as content:
        found = names(lines(content), ruling.categories)
    starts = range(0, len(found), BLOCK)
    sealed_names = _seal(files, (_block(found[at : at + BLOCK]) for at in starts))
    records = covered = 0
    omitted: list[bytes] = []
    with files.create() as rules_draft, files.create() as wire_draft:

        def written() -> Iterator[bytes]:
            nonlocal records, covered
            for block in rules_in_blocks(found, ruling.zone, BLOCK):
                rules_draft.write(_block(block.lines))
                records += len(block.lines)
                covered += block.covered
                omitted.extend(block.omitted)
                yield from block.lines

        for message in compile_rules(written(), wire_name(ruling.zone), ruling.action):
            wire_draft.write(message)
    assert rules_draft.sealed is not None
    assert wire_draft.sealed is not None
    return ZoneFiles(
        names=sealed_names,
        rules=rules_draft.sealed,
        wire=wire_draft.sealed,
        records=records,
        covered=covered,
        omitted=_ids(omitted, ids),
    )


def follow(
    files: SealedFiles,
    ruling: Ruling,
    before: ZoneFiles,
    removes: Iterable[bytes],
    adds: Iterable[bytes],
    ids: Ids,
) -> tuple[ZoneFiles, Part]:
    """Makes the files from those of the serial before and the entries removed and added since; the rules' delta too.

    It costs about as much for each changed entry as `make` does for forty entries.
    """
    gone, come = (names(entries, ruling.categories) for entries in (removes, adds))
    both = set(gone) & set(come)  # an entry with other attributes has the same name
    gone, come = ([name for name in some if name not in both] for some in (gone, come))
    if not gone and not come:
        return before, Part(b"")
    with ExitStack() as stack:
        old_names = stack.enter_context(files.map(before.names))
        now = _seal(files, splice(old_names, gone, come))
        found = revise(old_names, stack.enter_context(files.map(now)), [*gone, *come], ruling.zone)
        removed, added = sorted(found.removes), sorted(found.adds)
        omitted = Counter(before.omitted)
        omitted.update(_ids(found.omitted, ids))
        omitted.subtract(_ids(found.omitted_before, ids))
        rules, wire = before.rules, before.wire
        if removed or added:
            old_rules, compiled = (stack.enter_context(files.map(digest)) for digest in (rules, wire))
            rules = _seal(files, splice(old_rules, removed, added))
            new_rules = stack.enter_context(files.map(rules))
            changed = list(merge(removed, added))
            wire = _seal(files, recompile(compiled, new_rules, changed, wire_name(ruling.zone), ruling.action))
    made = ZoneFiles(
        names=now,
        rules=rules,
        wire=wire,
        records=before.records + len(added) - len(removed),
        covered=before.covered + found.covered,
        omitted=sorted(omitted.elements()),
    )
    return made, render(RULES, removed, added)


@contextmanager
def rules_between(files: SealedFiles, before: Sha256, after: Sha256) -> Iterator[Iterator[Part]]:
    """The delta between two files of rules, part by part, computed on all cores where there are several parts."""
    with files.map(before) as old, files.map(after) as new:
        yield between(RULES, old, new, in_processes)


def seal_delta(files: SealedFiles, parts: Iterable[Part]) -> RulesDelta:
    """Writes a delta of rules as a sealed file."""
    removed = added = 0
    with files.create() as draft:
        for part in parts:
            draft.write(part.data)
            removed += part.removed
            added += part.added
    assert draft.sealed is not None
    return RulesDelta(draft.sealed, removed, added)


def _ids(omitted: list[bytes], ids: Ids) -> list[str]:
    return sorted(ids.of(kind, value) for kind, value in entries_of(omitted))


def _block(found: list[bytes]) -> bytes:
    return b"\n".join(found) + b"\n" if found else b""


def _seal(files: SealedFiles, pieces: Iterable[bytes | memoryview]) -> Sha256:
    with files.create() as draft:
        for piece in pieces:
            draft.write(piece)
    assert draft.sealed is not None
    return draft.sealed


class CompiledFile:
    """A zone's compiled messages as they are served: an open file, mapped, whose SHA-256 was verified.

    The file stays readable after its name is gone. `fingerprint` is that of the open file when it was verified, so what
    is compared is what is sent, whatever stands under the name by now.
    """

    def __init__(self, path: Path, digest: Sha256, fingerprint: str | None = None) -> None:
        """Opens the file, and reads it unless `fingerprint` says that it was verified. Raises DamagedError if it is
        missing or damaged, StoreError where it can't be read."""
        self.digest = digest
        try:
            with store_errors(path.parent):
                self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except Exception as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise DamagedError(digest) from error
            raise
        weakref.finalize(self, os.close, self._descriptor)
        self.fingerprint = self._current()
        self._size = os.fstat(self._descriptor).st_size
        if self.fingerprint != fingerprint and not self.is_intact():
            raise DamagedError(digest)
        mapped = mmap.mmap(self._descriptor, self._size, access=mmap.ACCESS_READ) if self._size else b""
        self.content = memoryview(mapped)

    def is_unchanged(self) -> bool:
        """Whether nothing has touched the file since it was verified: one fstat."""
        return self._current() == self.fingerprint

    def is_intact(self) -> bool:
        """Reads the file; whether it is what its name says. If so, it counts as unchanged again."""
        before = self._current()
        size = os.fstat(self._descriptor).st_size
        if size != self._size:
            return False
        hash = hashlib.sha256()
        for start in range(0, size, READ):
            hash.update(os.pread(self._descriptor, READ, start))  # not the mapping: it may be cut short meanwhile
        if hash.hexdigest() != self.digest:
            return False
        self.fingerprint = before
        return True

    def _current(self) -> str:
        return fingerprint_of(os.fstat(self._descriptor))
