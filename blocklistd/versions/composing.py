"""From a change to its sealed delta: the keys that it touches one by one, or, where these are many, the whole list.

Both ways make the same bytes (tests/property/test_versions.py). A change that touches more than one in SHARE of the
larger side goes the way of a first load, in a stream: nothing holds an object for each line of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

from blocklistd.errors import DamagedError
from blocklistd.jobs.spread import in_processes, processes, spread
from blocklistd.lines import Buffer, type_and_value
from blocklistd.model import Candidate, Change, Policy, Sha256, SourceId
from blocklistd.outputs.delta import ENTRIES, Part, between, parse, render
from blocklistd.outputs.overlay import Overlay
from blocklistd.versions.asserted import Opened, differing, files_of, opened
from blocklistd.versions.compose import Piece, Rules, compose, compose_all
from blocklistd.versions.files import SealedFiles, drop_page_cache
from blocklistd.versions.lists import ListState
from blocklistd.versions.verified import Verified

SHARE: Final = 16  # of the larger side's lines: a change that touches more of them is composed as a whole
FEW: Final = 2_000  # lines that are always composed one by one
LINE: Final = 100  # bytes of a line, for an estimate of how many there are
SUFFIXES: Final = 20  # that a reviewer is shown
_BLOCK: Final = 1 << 20  # bytes of a delta whose suffixes are counted at a time


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A sealed snapshot; `length` is in bytes."""

    digest: Sha256
    length: int


@dataclass(frozen=True, slots=True)
class Composed:
    """A change that was composed. `delta` is the sealed delta from the live version, None if there is no live version
    or nothing changes. `snapshot` is the version that it leads to, where composing has written it."""

    delta: Sha256 | None
    added: int
    removed: int
    changed: int
    withheld: dict[str, int]
    snapshot: Snapshot | None = None

    @classmethod
    def of(cls, candidate: Candidate) -> Composed:
        """What a candidate was made from."""
        counts = candidate.added, candidate.removed, candidate.changed
        return cls(candidate.delta, *counts, candidate.withheld)

    @property
    def alters(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def with_delta(self, files: SealedFiles, verified: Verified) -> Composed:
        """A first version that is held: its delta adds every entry."""
        assert self.snapshot is not None
        with files.map(self.snapshot.digest) as new:
            return replace(self, delta=_seal(files, verified, between(ENTRIES, b"", new, in_processes)).delta)


def compose_change(files: SealedFiles, verified: Verified, state: ListState, change: Change) -> Composed:
    """Composes a change on the live version. Raises DamagedError where a file that it needs is not right."""
    live = state.live.sha256 if state.live else None
    verified.require(live, *(digest for entries in change.sources.values() for digest in files_of(files, entries)))
    rules = _rules(state, change.policy)
    with ExitStack() as stack:
        now = {
            source: stack.enter_context(opened(files, change.sources[source]))
            for source in change.policy.sources
            if source in change.sources
        }
        old = stack.enter_context(files.map(live))
        touched = (
            _touched(files, verified, state, change, now) if state.live and state.policy == change.policy else None
        )
        if touched is None:
            return _compose_all(files, verified, old if state.live else None, now, rules)
        for _, entries in now.values():
            entries.expect(len(touched))
        found = compose(old, touched, [entries.find for _, entries in now.values()], rules)
        part = render(ENTRIES, found.removes, found.adds)
    sealed = _seal(files, verified, [part]) if part.data else Composed(None, 0, 0, 0, {})
    return replace(sealed, withheld=found.withheld)


def _rules(state: ListState, policy: Policy) -> Rules:
    return Rules(state.secret, policy.types, policy.allow_public_suffix, policy.allow_ip)


def _touched(
    files: SealedFiles, verified: Verified, state: ListState, change: Change, now: dict[SourceId, Opened]
) -> list[bytes] | None:
    """The lines in which what the sources assert differs; None where they are many, or what a source was accepted with
    is damaged or gone."""
    assert state.live is not None
    size = max([state.live.entries, *(len(entries.base) // LINE for _, entries in now.values())])
    limit = size // SHARE + FEW
    touched: list[bytes] = []
    for source in {*state.accepted, *change.sources}:
        accepted = state.accepted.get(source)
        if accepted == change.sources.get(source):
            continue
        try:
            verified.require(*files_of(files, accepted))
            with opened(files, accepted) as before:
                found = differing(before, now.get(source, (None, Overlay(b""))), limit - len(touched))
        except (DamagedError, ValueError):
            return None
        if found is None:
            return None
        touched += found
    return touched


def _compose_all(
    files: SealedFiles, verified: Verified, live: Buffer | None, now: dict[SourceId, Opened], rules: Rules
) -> Composed:
    """Evaluates every key: writes the snapshot, and the delta from the live one, if there is one."""
    snapshot, entries, withheld = write_snapshot(files, verified, [found for _, found in now.values()], rules)
    if live is None:
        return Composed(None, entries, 0, 0, withheld, snapshot)
    with files.map(snapshot.digest) as new:
        sealed = _seal(files, verified, between(ENTRIES, live, new, in_processes))
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


def _seal(files: SealedFiles, verified: Verified, parts: Iterable[Part]) -> Composed:
    """The parts as one sealed delta; no file where they are empty."""
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


def suffixes_of(files: SealedFiles, delta: Sha256) -> dict[str, int]:
    """How many changes of a delta are under each last label: enough to see that a country was hit by mistake.

    Not longer suffixes: two labels can be an entry's whole name, and so can one, which is counted under the root.
    """
    with files.map(delta) as content:
        edges = [0]
        while edges[-1] < len(content):
            edges.append(content.find(b"\n", min(edges[-1] + _BLOCK, len(content) - 1)) + 1 or len(content))

        def count(number: int) -> tuple[dict[str, Any], bytes]:
            removes, adds = parse(ENTRIES, content[edges[number] : edges[number + 1]])
            return dict(count_suffixes([*removes, *adds])), b""

        total: Counter[str] = Counter()
        parts = len(edges) - 1
        with spread(count, min(parts, processes())) as answers:
            for figures, _ in answers(parts):
                total.update(figures)
        drop_page_cache(content)
    return dict(total.most_common(SUFFIXES))


def count_suffixes(entries: Iterable[bytes]) -> Counter[str]:
    """Entries by the last label of their host; other kinds by their type, addresses as `address`."""
    count: Counter[str] = Counter()
    for line in entries:
        kind, value = type_and_value(line)
        if kind not in (b"host", b"domain", b"url"):
            count[kind.decode()] += 1
            continue
        host = value.split(b"/", 3)[2].partition(b":")[0] if kind == b"url" else value
        parent, _, last = host.rpartition(b".")
        if last.isdigit() or host.startswith(b"["):  # of the canonical names none ends in digits only
            count["address"] += 1
        else:
            count[last.decode() if parent else "."] += 1
    return count
