"""A zone's three sealed files: names of its list's entries, rules made from the names, and DNS messages of the rules.

`make_zone_files` reads the list's whole snapshot. `update_zone_files` takes the files of the serial before, and the
entries that were added and removed since. Both make the same files; the second can leave the messages, most of its
work, to `compile_zone_file`. These functions verify no file: the caller does, before and after the call
(store/verified.py).
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
from blocklistd.lines.delta import RULES, DeltaPart, between, render
from blocklistd.lines.ids import Ids
from blocklistd.lines.snapshot import lines, splice
from blocklistd.model import Sha256
from blocklistd.rpz.rules import entries_of, longest_rule, names, rules_in_blocks, update_rules
from blocklistd.rpz.shards import spread
from blocklistd.rpz.wire import Action, compile_rules, recompile, wire_name
from blocklistd.store.files import SealedFiles, fingerprint_of

BLOCK: Final = 1 << 14  # lines written at once
READ: Final = 1 << 20  # bytes read at once


@dataclass(frozen=True, slots=True)
class Ruling:
    """Which entries of a list are in a zone (`categories`, and `shard` of `shards`), and the `action` of its rules."""

    zone: str
    categories: tuple[str, ...]
    action: Action
    shards: int = 1
    shard: int = 0

    @property
    def selection(self) -> tuple[tuple[str, ...], int]:
        """What decides, for all zones of one list, which names are together in a zone or in its shards."""
        return tuple(sorted(self.categories)), self.shards

    def names(self, entries: Iterable[bytes]) -> list[list[bytes]]:
        """The sorted names of the selected entries, for each shard."""
        found = names(entries, self.categories)
        return [found] if self.shards == 1 else spread(found, self.shards)


@dataclass(frozen=True, slots=True)
class ZoneFiles:
    """The three sealed files and their counts. `wire` is the same as `rules` while the messages are not compiled.
    `records`: rules. `covered`: names without a rule of their own, since a listed parent domain covers them. `omitted`:
    ids of entries, once for each rule whose name is too long."""

    names: Sha256
    rules: Sha256
    wire: Sha256
    records: int
    covered: int
    omitted: Sequence[str]


@dataclass(frozen=True, slots=True)
class RulesDelta:
    """The digest of the sealed delta between the rules of two serials, and how many rules it removes and adds."""

    digest: Sha256
    removed: int
    added: int


@dataclass(frozen=True, slots=True)
class _Rules:
    """The files of names and rules of a zone that omits none. `longest`: the bytes of the longest rule, or of the
    longest that was added. `removed`, `added`: the difference from the rules before, if there were any."""

    names: Sha256
    rules: Sha256
    records: int
    covered: int
    longest: int
    removed: Sequence[bytes] = ()
    added: Sequence[bytes] = ()


class SharedFiles:
    """What zones of one list have in common that are made one after another. All with the same selection read the
    snapshot once, and have the same names and rules if these fit into each; only the messages differ."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._shards: list[list[bytes]] = []
        self._rules: dict[tuple[object, ...], _Rules] = {}

    def names(self, files: SealedFiles, ruling: Ruling, snapshot: Sha256) -> list[bytes]:
        """The names of a zone. Raises StoreError."""
        key = (snapshot, ruling.selection)
        if key != self._key:
            with files.map(snapshot) as content:
                self._key, self._shards = key, ruling.names(lines(content))
        return self._shards[ruling.shard]

    def rules(self, ruling: Ruling, *origin: object) -> _Rules | None:
        """The rules that another zone made from the same origin, if they fit into this zone."""
        found = self._rules.get((ruling.selection, ruling.shard, *origin))
        return found if found is not None and found.longest <= longest_rule(ruling.zone) else None

    def keep(self, made: _Rules, ruling: Ruling, *origin: object) -> None:
        """Offer the rules of a zone to the next zones."""
        self._rules[ruling.selection, ruling.shard, *origin] = made


def make_zone_files(
    files: SealedFiles, ruling: Ruling, snapshot: Sha256, ids: Ids, shared: SharedFiles | None = None
) -> ZoneFiles:
    """Makes all files from the list's snapshot; `ids` makes the ids of the list's entries. `shared`: of the zones of
    this list.

    Sorts the names in memory; writes rules and messages as they are made. Raises StoreError.
    """
    shared = shared or SharedFiles()
    known = shared.rules(ruling, snapshot)
    if known is not None:
        wire = compile_zone_file(files, ruling, known.rules)
        return ZoneFiles(known.names, known.rules, wire, known.records, known.covered, [])
    found = shared.names(files, ruling, snapshot)
    starts = range(0, len(found), BLOCK)
    sealed_names = _seal(files, (_block(found[at : at + BLOCK]) for at in starts))
    records = covered = longest = 0
    omitted: list[bytes] = []
    with files.create() as rules_draft, files.create() as wire_draft:

        def written() -> Iterator[bytes]:
            nonlocal records, covered, longest
            for block in rules_in_blocks(found, ruling.zone, BLOCK):
                rules_draft.write(_block(block.lines))
                records += len(block.lines)
                covered += block.covered
                longest = max(longest, *map(len, block.lines), 0)
                omitted.extend(block.omitted)
                yield from block.lines

        for message in compile_rules(written(), wire_name(ruling.zone), ruling.action):
            wire_draft.write(message)
    assert rules_draft.sealed is not None
    assert wire_draft.sealed is not None
    if not omitted:
        shared.keep(_Rules(sealed_names, rules_draft.sealed, records, covered, longest), ruling, snapshot)
    return ZoneFiles(
        names=sealed_names,
        rules=rules_draft.sealed,
        wire=wire_draft.sealed,
        records=records,
        covered=covered,
        omitted=_ids(omitted, ids),
    )


def update_zone_files(
    files: SealedFiles,
    ruling: Ruling,
    before: ZoneFiles,
    removes: Iterable[bytes],
    adds: Iterable[bytes],
    ids: Ids,
    shared: SharedFiles | None = None,
    *,
    compiles: bool = True,
) -> tuple[ZoneFiles, DeltaPart]:
    """Makes the files from those of the serial before and the entries removed and added since. Returns them and the
    delta of the rules. `shared`: of the zones of this list, for which `removes` and `adds` are the same. `compiles`:
    False to omit the messages. Raises StoreError.

    A changed entry costs about as much as forty entries in `make_zone_files`.
    """
    shared = shared or SharedFiles()
    origin = before.names, before.rules, before.covered
    known = shared.rules(ruling, *origin) if not before.omitted else None
    omitted = Counter(before.omitted)
    if known is None:
        removed_names, added_names = (ruling.names(entries)[ruling.shard] for entries in (removes, adds))
        in_both = set(removed_names) & set(added_names)  # an entry whose attributes alone changed
        removed_names, added_names = (
            [name for name in some if name not in in_both] for some in (removed_names, added_names)
        )
        if not removed_names and not added_names:
            return before, DeltaPart(b"")
        known = _updated_rules(files, ruling, before, removed_names, added_names, omitted, ids)
        if not before.omitted and not omitted.total():
            shared.keep(known, ruling, *origin)
    wire = before.wire
    if known.removed or known.added:
        changed = list(merge(known.removed, known.added))
        wire = compile_zone_file(files, ruling, known.rules, before.wire, changed) if compiles else known.rules
    made = ZoneFiles(known.names, known.rules, wire, known.records, known.covered, sorted(omitted.elements()))
    return made, render(RULES, known.removed, known.added)


def compile_zone_file(
    files: SealedFiles, ruling: Ruling, rules: Sha256, before: Sha256 | None = None, changed: Sequence[bytes] = ()
) -> Sha256:
    """Makes the file of messages from the file of rules. `before`: the messages of other rules, which differ in the
    `changed` rules (sorted); None: compile all. Raises StoreError."""
    zone = wire_name(ruling.zone)
    with files.map(rules) as content:
        if before is None:
            return _seal(files, compile_rules(lines(content), zone, ruling.action))
        with files.map(before) as compiled:
            return _seal(files, recompile(compiled, content, changed, zone, ruling.action))


def _updated_rules(
    files: SealedFiles,
    ruling: Ruling,
    before: ZoneFiles,
    removed_names: list[bytes],
    added_names: list[bytes],
    omitted: Counter[str],
    ids: Ids,
) -> _Rules:
    """Makes the files of names and rules from those of the serial before, and updates `omitted`."""
    with ExitStack() as stack:
        old_names = stack.enter_context(files.map(before.names))
        new_names = _seal(files, splice(old_names, removed_names, added_names))
        changed = [*removed_names, *added_names]
        found = update_rules(old_names, stack.enter_context(files.map(new_names)), changed, ruling.zone)
        removed, added = sorted(found.removes), sorted(found.adds)
        omitted.update(_ids(found.omitted, ids))
        omitted.subtract(_ids(found.omitted_before, ids))
        rules = before.rules
        if removed or added:
            rules = _seal(files, splice(stack.enter_context(files.map(rules)), removed, added))
    return _Rules(
        names=new_names,
        rules=rules,
        records=before.records + len(added) - len(removed),
        covered=before.covered + found.covered,
        longest=max(map(len, added), default=0),
        removed=removed,
        added=added,
    )


@contextmanager
def rules_between(files: SealedFiles, before: Sha256, after: Sha256) -> Iterator[Iterator[DeltaPart]]:
    """Computes the delta between two files of rules, part by part; several parts on all cores."""
    with files.map(before) as old, files.map(after) as new:
        yield between(RULES, old, new, in_processes)


def seal_delta(files: SealedFiles, parts: Iterable[DeltaPart]) -> RulesDelta:
    """Writes a delta of rules to a sealed file. Raises StoreError."""
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


def _seal(files: SealedFiles, chunks: Iterable[bytes | memoryview]) -> Sha256:
    with files.create() as draft:
        for chunk in chunks:
            draft.write(chunk)
    assert draft.sealed is not None
    return draft.sealed


class CompiledFile:
    """A zone's compiled messages as they are served: an open, mapped file whose SHA-256 was verified.

    It stays readable after the file is removed. `fingerprint`: of the open file when it was verified. It is compared
    with that of the same open file, whatever file has the name by now. States: verified → changed, when `is_unchanged`
    returns False; changed → verified, when `is_intact` then returns True.
    """

    def __init__(self, path: Path, digest: Sha256, fingerprint: str | None = None) -> None:
        """Opens the file; reads and verifies it unless it has the `fingerprint` of a verified file. Raises DamagedError
        if it is missing or damaged, StoreError if it can't be read."""
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
        """Whether the file was not written since it was verified. Costs one fstat(2)."""
        return self._current() == self.fingerprint

    def is_intact(self) -> bool:
        """Reads the file; returns whether it matches its digest. If so, it counts as unchanged again."""
        before = self._current()
        size = os.fstat(self._descriptor).st_size
        if size != self._size:
            return False
        hash = hashlib.sha256()
        for start in range(0, size, READ):
            hash.update(os.pread(self._descriptor, READ, start))  # not the mapping: SIGBUS if the file is truncated
        if hash.hexdigest() != self.digest:
            return False
        self.fingerprint = before
        return True

    def _current(self) -> str:
        return fingerprint_of(os.fstat(self._descriptor))
