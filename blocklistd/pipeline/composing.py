"""Compose a change: evaluate its entries under the list's rules, and seal the delta from the live version.

A small change is composed key by key, only for the keys (type, value) that it touches. A change that touches more than
1/FULL_SHARE of the entries is composed in full: all keys are streamed, without a Python object for each line. Both ways
make the same bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final, NamedTuple

from blocklistd.compose.compose import ComposedChunk, Find, ListRules, compose, compose_all
from blocklistd.errors import DamagedError
from blocklistd.jobs.spread import in_processes, processes, spread
from blocklistd.lines.delta import ENTRIES, DeltaPart, apply, between, render
from blocklistd.lines.patched import PatchedLines
from blocklistd.lines.snapshot import blocks
from blocklistd.model import Candidate, Change, Policy, Sha256, SourceId
from blocklistd.store.asserted import OpenAssertion, differing_lines, files_of, open_assertion
from blocklistd.store.files import SealedFiles, drop_page_cache
from blocklistd.store.lists import ListState
from blocklistd.store.verified import Verified

FULL_SHARE: Final = 16  # a change that touches more than 1/16 of the lines of the larger side is composed in full
FEW: Final = 2_000  # touched lines that are allowed in addition: a small list is composed key by key
LINE_BYTES: Final = 100  # typical length of a line, to estimate the number of lines of a file
SUFFIXES: Final = 20  # suffixes that a candidate shows to the reviewer
_HOSTS: Final = {
    b"host": re.compile(rb'"value":"([^"]*)[^\n]*\n'),
    b"domain": re.compile(rb'"value":"([^"]*)[^\n]*\n'),
    b"url": re.compile(rb'"value":"https?://(\[[^\]]*\]|[^/:"]*)[^\n]*\n'),
}
"""For each type, finds the hosts in lines that have only this type."""
_REMOVE: Final = b'{"remove":'
_REMOVED_HOSTS: Final = {
    kind: re.compile(rb'%b{"type":"%b",%b' % (_REMOVE, kind, hosts.pattern)) for kind, hosts in _HOSTS.items()
}
"""The same, but only in the lines of a delta that remove an entry."""
_CHANGED: Final = re.compile(rb'(?m)^{"remove":({"type":"[^"]*","value":"[^"]*")[^\n]*\n({"add":\1[^\n]*\n)')
"""The two lines of a changed entry. They have the same key; the line that adds follows the one that removes."""
_COUNTS: Final = ("added", "removed", "changed")
_BLOCK: Final = 1 << 20  # bytes of a delta that one task counts


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A sealed snapshot; `length` is in bytes."""

    digest: Sha256
    length: int


@dataclass(frozen=True, slots=True)
class Composed:
    """A composed change, with the counts of its entries.

    - `delta`: the sealed delta from the live version; None if there is no live version or nothing changes.
    - `withheld`: counts, by rule, of all asserted entries that the list withholds with this change.
    - `snapshot`: the snapshot after this change; None if composing did not have to write it.
    """

    delta: Sha256 | None
    added: int
    removed: int
    changed: int
    withheld: dict[str, int]
    snapshot: Snapshot | None = None

    @classmethod
    def from_candidate(cls, files: SealedFiles, verified: Verified, candidate: Candidate) -> Composed:
        """The composed change of a candidate, from its files. A damaged snapshot is ignored: the delta can make it."""
        snapshot = None
        if candidate.snapshot is not None and verified.check(candidate.snapshot):
            snapshot = Snapshot(candidate.snapshot, files.path(candidate.snapshot).stat().st_size)
        counts = candidate.added, candidate.removed, candidate.changed
        return cls(candidate.delta, *counts, candidate.withheld, snapshot)

    @property
    def alters(self) -> bool:
        """Whether the change adds, removes or changes an entry of the list."""
        return bool(self.added or self.removed or self.changed)

    def with_delta(self, files: SealedFiles, verified: Verified) -> Composed:
        """Adds the delta of a first version, which adds every entry. It is an empty file if there are no entries."""
        assert self.snapshot is not None
        if not self.added:
            return replace(self, delta=self.snapshot.digest)
        return replace(self, delta=delta_between(files, verified, None, self.snapshot.digest).delta)


def compose_change(files: SealedFiles, verified: Verified, state: ListState, change: Change) -> Composed:
    """Composes a change on the live version of `state`. Raises DamagedError where a file that it needs is missing or
    damaged."""
    live = state.live.sha256 if state.live else None
    verified.require(live, *(digest for entries in change.sources.values() for digest in files_of(files, entries)))
    rules = rules_of(state, change.policy)
    with ExitStack() as stack:
        asserted = {
            source: stack.enter_context(open_assertion(files, change.sources[source]))
            for source in change.policy.sources
            if source in change.sources
        }
        live_lines = stack.enter_context(files.map(live))
        touched = None
        if state.live and state.policy == change.policy and state.withheld is not None:
            touched = _touched(files, verified, state, change, asserted, stack)
        if touched is None or state.withheld is None:
            return _compose_in_full(files, verified, state, asserted, rules)
        finders = [entries.find for _, entries in asserted.values()]
        found = compose(live_lines, touched.lines, finders, rules, touched.accepted)
        part = render(ENTRIES, found.removes, found.adds)
    sealed = seal_delta(files, verified, [part]) if part.data else Composed(None, 0, 0, 0, {})
    return replace(sealed, withheld=_sum(state.withheld, found.withheld))


def _sum(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    counts = {rule: before.get(rule, 0) + more.get(rule, 0) for rule in sorted({*before, *more})}
    return {rule: count for rule, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class Touched:
    """The lines that a source asserts either now or in the live version, but not in both. `accepted`: for each source,
    finds a line in its accepted entries."""

    lines: list[bytes]
    accepted: list[Find]


def rules_of(state: ListState, policy: Policy) -> ListRules:
    """The rules for composing a list under a policy."""
    return ListRules(state.ids, policy.types, policy.allow_public_suffix, policy.allow_ip)


def _touched(
    files: SealedFiles,
    verified: Verified,
    state: ListState,
    change: Change,
    asserted: dict[SourceId, OpenAssertion],
    stack: ExitStack,
) -> Touched | None:
    """The touched lines. None if they are too many, or if a file of a source's accepted entries is missing or damaged:
    the change is then composed in full. The files stay open until `stack` is closed."""
    assert state.live is not None
    size = max([state.live.entries, *(len(entries.base) // LINE_BYTES for _, entries in asserted.values())])
    limit = size // FULL_SHARE + FEW
    touched: list[bytes] = []
    finders: list[Find] = []
    for source in {*state.accepted, *change.sources}:
        accepted = state.accepted.get(source)
        if accepted == change.sources.get(source):
            finders += [asserted[source][1].find] if source in asserted else []
            continue
        try:
            verified.require(*files_of(files, accepted))
            before = stack.enter_context(open_assertion(files, accepted))
            found = differing_lines(before, asserted.get(source, (None, PatchedLines(b""))), limit - len(touched))
        except (DamagedError, ValueError):
            return None
        if found is None:
            return None
        touched += found
        finders.append(before[1].find)
    return Touched(touched, finders)


def _compose_in_full(
    files: SealedFiles, verified: Verified, state: ListState, asserted: dict[SourceId, OpenAssertion], rules: ListRules
) -> Composed:
    """Evaluates every key. Seals the snapshot, and the delta from the live snapshot, if there is one."""
    written = write_snapshot(files, verified, [entries for _, entries in asserted.values()], rules)
    if state.live is None:
        return Composed(None, written.entries, 0, 0, written.withheld, written.snapshot)
    sealed = delta_between(files, verified, state.live.sha256, written.snapshot.digest)
    return replace(sealed, withheld=written.withheld, snapshot=written.snapshot)


class WrittenSnapshot(NamedTuple):
    """A new snapshot, the number of its entries, and the counts of withheld entries by rule."""

    snapshot: Snapshot
    entries: int
    withheld: dict[str, int]


def write_snapshot(
    files: SealedFiles, verified: Verified, sources: Iterable[PatchedLines], rules: ListRules
) -> WrittenSnapshot:
    """Seals the snapshot of the entries that the sources assert, under the rules. `sources`: in order of precedence."""
    entries = 0
    withheld: Counter[str] = Counter()

    def spread_chunks(work: Callable[[int], ComposedChunk], parts: int) -> Iterator[ComposedChunk]:
        def encoded(part: int) -> tuple[dict[str, Any], bytes]:
            chunk = work(part)
            return {"entries": chunk.entries, "withheld": chunk.withheld}, chunk.data

        with spread(encoded, min(parts, processes())) as results:
            for figures, data in results(parts):
                yield ComposedChunk(data, **figures)

    with files.create() as draft:
        for chunk in compose_all([source.read_all() for source in sources], rules, spread_chunks):
            draft.write(chunk.data)
            entries += chunk.entries
            withheld.update(chunk.withheld)
    assert draft.sealed is not None
    verified.wrote(draft.sealed)
    return WrittenSnapshot(Snapshot(draft.sealed, draft.length), entries, dict(withheld))


def delta_between(files: SealedFiles, verified: Verified, old: Sha256 | None, new: Sha256) -> Composed:
    """Seals the delta between two verified snapshots. `old`: None for an empty one. `withheld` is not counted."""
    with files.map(old) as before, files.map(new) as after:
        return seal_delta(files, verified, between(ENTRIES, before, after, in_processes))


def apply_delta(files: SealedFiles, verified: Verified, old: Sha256 | None, delta: Sha256 | None) -> Snapshot:
    """Applies a verified delta to a verified snapshot, and seals the result. `old`: None for an empty snapshot.
    `delta`: None for no change.

    Raises ValueError where the delta does not fit the snapshot.
    """
    with files.map(old) as before, files.map(delta) as changes, files.create() as draft:
        for chunk in apply(ENTRIES, before, changes, in_processes):
            draft.write(chunk)
    assert draft.sealed is not None
    verified.wrote(draft.sealed)
    return Snapshot(draft.sealed, draft.length)


def seal_delta(files: SealedFiles, verified: Verified, parts: Iterable[DeltaPart]) -> Composed:
    """Seals the parts as one delta, and adds up their counts. Without any change, `delta` is None."""
    removed = added = changed = 0
    with files.create() as draft:
        for part in parts:
            draft.write(part.data)
            removed, added, changed = removed + part.removed, added + part.added, changed + part.changed
    assert draft.sealed is not None
    if not (removed or added or changed):
        return Composed(None, 0, 0, 0, {})
    verified.wrote(draft.sealed)
    return Composed(draft.sealed, added, removed, changed, {})


def suffixes_of(files: SealedFiles, delta: Sha256, *, has_changes: bool = True) -> dict[str, dict[str, int]]:
    """For each of the most frequent last labels, the numbers of entries that a delta adds, removes and changes, under
    `added`, `removed` and `changed`. They show a reviewer, for example, that a change affects the names of one country.
    `has_changes`: False promises that no entry of the delta has changed attributes.

    Suffixes have one label, since two labels can be the complete name of an entry. A name of one label is counted
    under the root (`.`).
    """
    with files.map(delta) as content:
        edges = blocks(content, _BLOCK)
        # keep both lines of a changed entry in one block
        for number in range(1, len(edges) - 1) if has_changes else ():
            if both := _CHANGED.match(content, content.rfind(b"\n", 0, edges[number] - 1) + 1):
                edges[number] = max(edges[number], both.end())

        def count(number: int) -> tuple[dict[str, Any], bytes]:
            found = count_suffixes(content[edges[number] : edges[number + 1]], has_changes=has_changes)
            return {change: dict(by_label) for change, by_label in found.items()}, b""

        total: dict[str, Counter[str]] = {change: Counter() for change in _COUNTS}
        parts = len(edges) - 1
        with spread(count, min(parts, processes())) as results:
            for counts, _ in results(parts):
                for change, by_label in counts.items():
                    total[change].update(by_label)
        drop_page_cache(content)
    most = sum(total.values(), Counter[str]()).most_common(SUFFIXES)
    return {suffix: {change: total[change][suffix] for change in _COUNTS} for suffix, _ in most}


def count_suffixes(delta: bytes, *, has_changes: bool = True) -> dict[str, Counter[str]]:
    """Counts the entries that a delta adds, removes and changes, by the last label of their host. Addresses are counted
    as `address`, entries without a host by their type. `has_changes`: as in `suffixes_of`.

    It works by regular expressions over many lines, for speed: a reviewer waits for a million lines.
    """
    total, lines, removes = _count(delta, _HOSTS), delta.count(b"\n"), delta.count(_REMOVE)
    removed = total if removes == lines else _count(delta, _REMOVED_HOSTS) if removes else Counter[str]()
    changed = Counter[str]()
    if has_changes and 0 < removes < lines:
        changed = _count(b"".join([pair[2] for pair in _CHANGED.finditer(delta)]), _HOSTS)
    return {"added": total - removed - changed, "removed": removed - changed, "changed": changed}


def _count(delta: bytes, hosts_of: Mapping[bytes, re.Pattern[bytes]]) -> Counter[str]:
    """Counts lines by last label: with _HOSTS all lines of a delta, with _REMOVED_HOSTS those that remove."""
    count: Counter[str] = Counter()
    for kind, lines in _by_type(delta):
        if kind not in hosts_of:
            count[kind.decode()] += lines.count(b"\n" if hosts_of is _HOSTS else _REMOVE)
            continue
        # the last label with its dot; a name of one label has none
        ends = Counter([host[host.rfind(b".") :] for host in hosts_of[kind].findall(lines)])
        for end, hosts in ends.items():
            if end[1:].isdigit() or end.endswith(b"]"):  # no canonical name ends in a label of digits only
                count["address"] += hosts
            else:
                count[end[1:].decode() if end.startswith(b".") else "."] += hosts
    return count


def _by_type(delta: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Splits a delta into runs of lines of the same type. Yields the type and the lines."""
    lines = delta.count(b"\n")
    for kind in (b"url", b"domain", b"host"):
        if lines and delta.count(b':{"type":"%b",' % kind) == lines:
            yield kind, delta
            return
    for kind, run in groupby(delta.splitlines(keepends=True), lambda line: line.split(b'"', 6)[5]):
        yield kind, b"".join(run)
