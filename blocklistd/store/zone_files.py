"""A zone's three sealed files: names of its list's entries, rules made from the names, and DNS messages of the rules.

`make_zone_files` reads the list's whole snapshot. `update_zone_files` takes the files of the serial before, and the
entries that were added and removed since. Both make the same files. The second has two steps: `change_of_zone` finds
what changes, which takes little time, and `write_changed_files` writes the files, which takes most of it. These
functions verify no file: the caller does, before and after the call (store/verified.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from heapq import merge
from typing import Final

from blocklistd.jobs.spread import in_processes
from blocklistd.lines.delta import RULES, DeltaPart, between, render
from blocklistd.lines.ids import Ids
from blocklistd.lines.snapshot import lines, splice
from blocklistd.model import Sha256
from blocklistd.rpz.rules import entries_of, longest_rule, names, rules_in_blocks, update_rules
from blocklistd.rpz.shards import spread
from blocklistd.rpz.wire import Action, compile_rules, recompile, wire_name
from blocklistd.store.files import SealedFiles

BLOCK: Final = 1 << 14  # lines written at once


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
    """The three sealed files and their counts. `records`: rules. `covered`: names without a rule of their own, since a
    listed parent domain covers them. `omitted`: ids of entries, once for each rule whose name is too long."""

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
class NamesChange:
    """The names that a zone loses and gets, each sorted."""

    removed: Sequence[bytes] = ()
    added: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class ZoneChange:
    """What a change of entries alters in a zone: its names, the sorted rules that are removed and added, the difference
    of `covered`, and `omitted` afterwards."""

    names: NamesChange
    removed: Sequence[bytes]
    added: Sequence[bytes]
    covered: int
    omitted: Sequence[str]

    @property
    def delta(self) -> DeltaPart:
        """The delta of the rules."""
        return render(RULES, self.removed, self.added)

    def applied_to(self, before: ZoneFiles) -> ZoneFiles:
        """The files before, with the counts after the change."""
        records = before.records + len(self.added) - len(self.removed)
        return replace(before, records=records, covered=before.covered + self.covered, omitted=self.omitted)


@dataclass(frozen=True, slots=True)
class _Rules:
    """The files of names and rules of a zone that omits none. `longest`: the bytes of the longest rule."""

    names: Sha256
    rules: Sha256
    records: int
    covered: int
    longest: int


class SharedFiles:
    """What zones of one list have in common that are made one after another. All with the same selection read the
    snapshot once, and have the same names and rules if these fit into each; only the messages differ."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._shards: list[list[bytes]] = []
        self._rules: dict[tuple[object, ...], _Rules] = {}
        self._changes: dict[tuple[object, ...], ZoneChange] = {}
        self._spliced: dict[tuple[object, ...], Sha256] = {}

    def names(self, files: SealedFiles, ruling: Ruling, snapshot: Sha256) -> list[bytes]:
        """The names of a zone. Raises StoreError."""
        key = (snapshot, ruling.selection)
        if key != self._key:
            with files.map(snapshot) as content:
                self._key, self._shards = key, ruling.names(lines(content))
        return self._shards[ruling.shard]

    def rules(self, ruling: Ruling, snapshot: Sha256) -> _Rules | None:
        """The rules that another zone made from the same snapshot, if they fit into this zone."""
        found = self._rules.get((ruling.selection, ruling.shard, snapshot))
        return found if found is not None and found.longest <= longest_rule(ruling.zone) else None

    def keep(self, made: _Rules, ruling: Ruling, snapshot: Sha256) -> None:
        """Offer the rules of a zone to the next zones."""
        self._rules[ruling.selection, ruling.shard, snapshot] = made

    def change(self, ruling: Ruling, before: ZoneFiles) -> ZoneChange | None:
        """The change that another zone with the same files before found, if its rules fit into this zone."""
        found = self._changes.get(_origin(ruling, before))
        is_fit = found is not None and max(map(len, found.added), default=0) <= longest_rule(ruling.zone)
        return found if is_fit and not before.omitted else None

    def keep_change(self, found: ZoneChange, ruling: Ruling, before: ZoneFiles) -> None:
        """Offer the change of a zone to the next zones, unless it omits rules."""
        if not before.omitted and not found.omitted:
            self._changes[_origin(ruling, before)] = found

    def spliced(self, files: SealedFiles, digest: Sha256, removed: Sequence[bytes], added: Sequence[bytes]) -> Sha256:
        """Seal a file of sorted lines without the lines `removed` and with the lines `added`, unless another zone has
        sealed it. Raises StoreError, ValueError."""
        key = digest, tuple(removed), tuple(added)
        if key not in self._spliced:
            with files.map(digest) as content:
                self._spliced[key] = _seal(files, splice(content, removed, added)) if removed or added else digest
        return self._spliced[key]


def _origin(ruling: Ruling, before: ZoneFiles) -> tuple[object, ...]:
    return ruling.selection, ruling.shard, before.names, before.rules, before.covered


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
) -> tuple[ZoneFiles, DeltaPart]:
    """Makes the files from those of the serial before and the entries removed and added since. Returns them and the
    delta of the rules. `shared`: of the zones of this list, for which `removes` and `adds` are the same. Raises
    StoreError.

    A changed entry costs about as much as forty entries in `make_zone_files`.
    """
    shared = shared or SharedFiles()
    change = change_of_zone(files, ruling, before, removes, adds, ids, shared)
    return write_changed_files(files, ruling, before, change, shared), change.delta


def change_of_zone(
    files: SealedFiles,
    ruling: Ruling,
    before: ZoneFiles,
    removes: Iterable[bytes],
    adds: Iterable[bytes],
    ids: Ids,
    shared: SharedFiles,
) -> ZoneChange:
    """Finds what changes in a zone when entries are removed and added. Writes no file. Raises StoreError."""
    known = shared.change(ruling, before)
    if known is not None:
        return known
    names = change_of_names(ruling, removes, adds)
    with files.map(before.names) as old:
        found = update_rules(old, names.removed, names.added, ruling.zone)
    omitted = Counter(before.omitted)
    omitted.update(_ids(found.omitted, ids))
    omitted.subtract(_ids(found.omitted_before, ids))
    made = ZoneChange(names, sorted(found.removes), sorted(found.adds), found.covered, sorted(omitted.elements()))
    shared.keep_change(made, ruling, before)
    return made


def change_of_names(ruling: Ruling, removes: Iterable[bytes], adds: Iterable[bytes]) -> NamesChange:
    """The names that a zone loses and gets when entries are removed and added."""
    removed, added = (ruling.names(entries)[ruling.shard] for entries in (removes, adds))
    in_both = set(removed) & set(added)  # an entry whose attributes alone changed
    return NamesChange(*([name for name in names if name not in in_both] for names in (removed, added)))


def write_changed_files(
    files: SealedFiles,
    ruling: Ruling,
    before: ZoneFiles,
    change: ZoneChange,
    shared: SharedFiles,
    *,
    compiles: bool = True,
) -> ZoneFiles:
    """Writes the files after a change; the counts are those after it, too. `compiles`: False to omit the messages; the
    file of rules is then in their place. Raises StoreError, and ValueError where the change does not fit."""
    wire = before.wire
    names = shared.spliced(files, before.names, change.names.removed, change.names.added)
    rules = shared.spliced(files, before.rules, change.removed, change.added)
    if rules != before.rules:
        changed = list(merge(change.removed, change.added))
        wire = compile_zone_file(files, ruling, rules, before.wire, changed) if compiles else rules
    return replace(change.applied_to(before), names=names, rules=rules, wire=wire)


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
