"""From a change to its sealed delta: the keys that it touches one by one, or, where these are many, the whole list.

Both ways make the same bytes (tests/property/test_versions.py). A change that touches more than one in SHARE of the
larger side goes the way of a first load, in a stream: nothing holds an object for each line of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

from blocklistd.compose.compose import Find, Piece, Rules, compose, compose_all
from blocklistd.errors import DamagedError
from blocklistd.jobs.spread import in_processes, processes, spread
from blocklistd.lines.delta import ENTRIES, Part, apply, between, render
from blocklistd.lines.overlay import Overlay
from blocklistd.lines.snapshot import blocks
from blocklistd.model import Candidate, Change, Policy, Sha256, SourceId
from blocklistd.store.asserted import Opened, differing, files_of, opened
from blocklistd.store.files import SealedFiles, drop_page_cache
from blocklistd.store.lists import ListState
from blocklistd.store.verified import Verified

SHARE: Final = 16  # of the larger side's lines: a change that touches more of them is composed as a whole
FEW: Final = 2_000  # lines that are always composed one by one
LINE: Final = 100  # bytes of a line, for an estimate of how many there are
SUFFIXES: Final = 20  # that a reviewer is shown
_HOSTS: Final = {
    b"host": re.compile(rb'"value":"([^"]*)[^\n]*\n'),
    b"domain": re.compile(rb'"value":"([^"]*)[^\n]*\n'),
    b"url": re.compile(rb'"value":"https?://(\[[^\]]*\]|[^/:"]*)[^\n]*\n'),
}
"""Find the hosts in whole lines of a type."""
_REMOVE: Final = b'{"remove":'
_REMOVED_HOSTS: Final = {
    kind: re.compile(rb'%b{"type":"%b",%b' % (_REMOVE, kind, hosts.pattern)) for kind, hosts in _HOSTS.items()
}
"""The same for the lines of a delta that remove, among others."""
_CHANGED: Final = re.compile(rb'(?m)^{"remove":({"type":"[^"]*","value":"[^"]*")[^\n]*\n({"add":\1[^\n]*\n)')
"""The two lines of an entry whose attributes change: they have the same key and follow each other."""
_MOVED: Final = ("added", "removed", "changed")
_BLOCK: Final = 1 << 20  # bytes of a delta whose suffixes are counted at a time


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A sealed snapshot; `length` is in bytes."""

    digest: Sha256
    length: int


@dataclass(frozen=True, slots=True)
class Composed:
    """A change that was composed. `delta` is the sealed delta from the live version, None if there is no live version
    or nothing changes. `snapshot` is the version that it leads to, where composing has written it. `withheld` counts,
    by rule, all asserted entries that this version leaves out."""

    delta: Sha256 | None
    added: int
    removed: int
    changed: int
    withheld: dict[str, int]
    snapshot: Snapshot | None = None

    @classmethod
    def of(cls, files: SealedFiles, verified: Verified, candidate: Candidate) -> Composed:
        """What a candidate was made from; a snapshot that is damaged is left out, since the delta leads to it."""
        snapshot = None
        if candidate.snapshot is not None and verified.check(candidate.snapshot):
            snapshot = Snapshot(candidate.snapshot, files.path(candidate.snapshot).stat().st_size)
        counts = candidate.added, candidate.removed, candidate.changed
        return cls(candidate.delta, *counts, candidate.withheld, snapshot)

    @property
    def alters(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def with_delta(self, files: SealedFiles, verified: Verified) -> Composed:
        """With the delta of a first version, which adds every entry; an empty file if there are none."""
        assert self.snapshot is not None
        if not self.added:
            return replace(self, delta=self.snapshot.digest)
        return replace(self, delta=delta_between(files, verified, None, self.snapshot.digest).delta)


def compose_change(files: SealedFiles, verified: Verified, state: ListState, change: Change) -> Composed:
    """Composes a change on the live version. Raises DamagedError where a file that it needs is not right."""
    live = state.live.sha256 if state.live else None
    verified.require(live, *(digest for entries in change.sources.values() for digest in files_of(files, entries)))
    rules = rules_of(state, change.policy)
    with ExitStack() as stack:
        now = {
            source: stack.enter_context(opened(files, change.sources[source]))
            for source in change.policy.sources
            if source in change.sources
        }
        old = stack.enter_context(files.map(live))
        touched = None
        if state.live and state.policy == change.policy and state.withheld is not None:
            touched = _touched(files, verified, state, change, now, stack)
        if touched is None or state.withheld is None:
            return _compose_all(files, verified, state, now, rules)
        finders = [entries.find for _, entries in now.values()]
        found = compose(old, touched.lines, finders, rules, touched.accepted)
        part = render(ENTRIES, found.removes, found.adds)
    sealed = seal_delta(files, verified, [part]) if part.data else Composed(None, 0, 0, 0, {})
    return replace(sealed, withheld=_sum(state.withheld, found.withheld))


def _sum(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    counts = {rule: before.get(rule, 0) + more.get(rule, 0) for rule in sorted({*before, *more})}
    return {rule: count for rule, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class Touched:
    """The lines that sources assert and did not before, or the reverse. `accepted` finds a line in what each source
    asserted before."""

    lines: list[bytes]
    accepted: list[Find]


def rules_of(state: ListState, policy: Policy) -> Rules:
    """What composing a list under that policy goes by."""
    return Rules(state.ids, policy.types, policy.allow_public_suffix, policy.allow_ip)


def _touched(
    files: SealedFiles,
    verified: Verified,
    state: ListState,
    change: Change,
    now: dict[SourceId, Opened],
    stack: ExitStack,
) -> Touched | None:
    """The touched lines; None where they are too many, or where a file of what a source asserted before is damaged or
    gone. The files stay open until `stack` is left."""
    assert state.live is not None
    size = max([state.live.entries, *(len(entries.base) // LINE for _, entries in now.values())])
    limit = size // SHARE + FEW
    touched: list[bytes] = []
    finders: list[Find] = []
    for source in {*state.accepted, *change.sources}:
        accepted = state.accepted.get(source)
        if accepted == change.sources.get(source):
            finders += [now[source][1].find] if source in now else []
            continue
        try:
            verified.require(*files_of(files, accepted))
            before = stack.enter_context(opened(files, accepted))
            found = differing(before, now.get(source, (None, Overlay(b""))), limit - len(touched))
        except (DamagedError, ValueError):
            return None
        if found is None:
            return None
        touched += found
        finders.append(before[1].find)
    return Touched(touched, finders)


def _compose_all(
    files: SealedFiles, verified: Verified, state: ListState, now: dict[SourceId, Opened], rules: Rules
) -> Composed:
    """Evaluates every key: writes the snapshot, and the delta from the live one, if there is one."""
    snapshot, entries, withheld = write_snapshot(files, verified, [found for _, found in now.values()], rules)
    if state.live is None:
        return Composed(None, entries, 0, 0, withheld, snapshot)
    sealed = delta_between(files, verified, state.live.sha256, snapshot.digest)
    return replace(sealed, withheld=withheld, snapshot=snapshot)


def write_snapshot(
    files: SealedFiles, verified: Verified, sources: Iterable[Overlay], rules: Rules
) -> tuple[Snapshot, int, dict[str, int]]:
    """The snapshot of what the sources assert, its entries, and what is withheld by rule."""
    entries = 0
    withheld: Counter[str] = Counter()

    def elsewhere(work: Callable[[int], Piece], parts: int) -> Iterator[Piece]:
        def answer(part: int) -> tuple[dict[str, Any], bytes]:
            piece = work(part)
            return {"entries": piece.entries, "withheld": piece.withheld}, piece.data

        with spread(answer, min(parts, processes())) as answers:
            for figures, data in answers(parts):
                yield Piece(data, **figures)

    with files.create() as draft:
        for piece in compose_all([source.read_all() for source in sources], rules, elsewhere):
            draft.write(piece.data)
            entries += piece.entries
            withheld.update(piece.withheld)
    assert draft.sealed is not None
    verified.wrote(draft.sealed)
    return Snapshot(draft.sealed, draft.length), entries, dict(withheld)


def delta_between(files: SealedFiles, verified: Verified, old: Sha256 | None, new: Sha256) -> Composed:
    """The sealed delta from one verified snapshot, or from nothing, to another, with its figures."""
    with files.map(old) as before, files.map(new) as after:
        return seal_delta(files, verified, between(ENTRIES, before, after, in_processes))


def apply_delta(files: SealedFiles, verified: Verified, old: Sha256 | None, delta: Sha256 | None) -> Snapshot:
    """Seals the snapshot that a verified delta leads to from a verified snapshot, or from nothing. Raises ValueError
    where the delta does not fit."""
    with files.map(old) as before, files.map(delta) as changes, files.create() as draft:
        for piece in apply(ENTRIES, before, changes, in_processes):
            draft.write(piece)
    assert draft.sealed is not None
    verified.wrote(draft.sealed)
    return Snapshot(draft.sealed, draft.length)


def seal_delta(files: SealedFiles, verified: Verified, parts: Iterable[Part]) -> Composed:
    """The parts as one sealed delta with its figures; no file where they are empty."""
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
    """How many entries a delta adds, removes and changes under each last label: enough to see that a country was hit by
    mistake. Without `has_changes` no entry in it has changed attributes.

    Not longer suffixes: two labels can be an entry's whole name, and so can one, which is counted under the root.
    """
    with files.map(delta) as content:
        edges = blocks(content, _BLOCK)
        for number in range(1, len(edges) - 1) if has_changes else ():  # both lines of a changed entry are in one block
            if pair := _CHANGED.match(content, content.rfind(b"\n", 0, edges[number] - 1) + 1):
                edges[number] = max(edges[number], pair.end())

        def count(number: int) -> tuple[dict[str, Any], bytes]:
            found = count_suffixes(content[edges[number] : edges[number + 1]], has_changes=has_changes)
            return {what: dict(figures) for what, figures in found.items()}, b""

        total: dict[str, Counter[str]] = {what: Counter() for what in _MOVED}
        parts = len(edges) - 1
        with spread(count, min(parts, processes())) as answers:
            for figures, _ in answers(parts):
                for what, found in figures.items():
                    total[what].update(found)
        drop_page_cache(content)
    most = sum(total.values(), Counter[str]()).most_common(SUFFIXES)
    return {suffix: {what: total[what][suffix] for what in _MOVED} for suffix, _ in most}


def count_suffixes(delta: bytes, *, has_changes: bool = True) -> dict[str, Counter[str]]:
    """The entries that a delta adds, removes and changes, each by the last label of their host; other kinds by their
    type, addresses as `address`. Without `has_changes` no entry in it has changed attributes.

    Expressions over many lines at once: a reviewer waits for a million of them.
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
        # with its dot, which tells a label below the root from the last of several
        ends = Counter([host[host.rfind(b".") :] for host in hosts_of[kind].findall(lines)])
        for end, hosts in ends.items():
            if end[1:].isdigit() or end.endswith(b"]"):  # of the canonical names none ends in digits only
                count["address"] += hosts
            else:
                count[end[1:].decode() if end.startswith(b".") else "."] += hosts
    return count


def _by_type(delta: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Whole lines with their type."""
    lines = delta.count(b"\n")
    for kind in (b"url", b"domain", b"host"):
        if lines and delta.count(b':{"type":"%b",' % kind) == lines:
            yield kind, delta
            return
    for kind, run in groupby(delta.splitlines(keepends=True), lambda line: line.split(b'"', 6)[5]):
        yield kind, b"".join(run)
