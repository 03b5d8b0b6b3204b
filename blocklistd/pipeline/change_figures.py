"""Counts the entries that a delta adds, removes and changes: for the guards, and for the reviewer by category and by
source.

It runs in the commit job, part by part in several processes, since a first load has a million lines. By category only
the delta is read. By source the delta is compared with the entries of each source; a list of one source needs no
comparison.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from blocklistd.change import Change, ChangeKind
from blocklistd.compose.compose import keys_of_tests
from blocklistd.compose.figures import NONE, OTHER, category_name
from blocklistd.compose.guard import Figures
from blocklistd.errors import StoreError
from blocklistd.jobs.spread import Work, processes, spread
from blocklistd.lines.delta import ENTRIES
from blocklistd.lines.keys import Buffer, key_of, keys_of
from blocklistd.lines.patched import PatchedLines
from blocklistd.lines.snapshot import blocks, find, position
from blocklistd.model import Sha256, SourceId
from blocklistd.pipeline.composing import Composed
from blocklistd.pipeline.suffixes import suffixes_of
from blocklistd.store.asserted import open_assertion
from blocklistd.store.entry_versions import change_of
from blocklistd.store.files import SealedFiles, drop_page_cache
from blocklistd.store.lists import ListState

SHOWN: Final = 20  # categories that a candidate shows; the others are added up
CHANGES: Final = ("added", "removed", "changed")
_BLOCK: Final = 1 << 20  # bytes of a delta that one task counts
_LOOK_UP: Final = 2_000  # bytes of a source that are read as fast as one key is looked up
_CATEGORY: Final = re.compile(rb',"category":("[^"\\]*(?:\\.[^"\\]*)*")')
"""No text in a line can imitate it, since a quote inside a text is escaped."""
_REMOVAL: Final = re.compile(rb'(?m)^\{"remove":[^\n]*\n')
_KEY: Final = re.compile(rb'(?m)^\{"(?:add|remove)":(\{"type":"[a-z0-9]+","value":"[^"\\]*(?:\\.[^"\\]*)*")')
_PAIR: Final = re.compile(
    rb'(?m)^(\{"remove":(\{"type":"[a-z0-9]+","value":"[^"\\]*(?:\\.[^"\\]*)*")[^\n]*\n)(\{"add":\2[^\n]*\n)'
)
"""The two lines of a changed entry."""

Table = dict[str, dict[str, int]]
"""The numbers of entries under `added`, `removed` and `changed`, by category, source or last label."""


def guard_figures(
    files: SealedFiles, state: ListState, change: Change, composed: Composed, automatic: tuple[int, int]
) -> Figures:
    """The figures of a composed change, as the guards judge them: without test entries, which only the configuration
    brings. `automatic`: entries added and removed within WINDOW by versions that no person released."""
    was = keys_of_tests(state.policy.tests) if state.policy else ()
    keys = {*was, *keys_of_tests(change.policy.tests)}
    moved: Counter[str | None] = Counter()
    if composed.delta is not None:
        moved.update(change_of(files, composed.delta, key) for key in keys)
    elif composed.snapshot is not None:
        with files.map(composed.snapshot.digest) as snapshot:
            moved["added"] = sum(find(snapshot, key) is not None for key in keys)
    live = None
    if state.live is not None:
        with files.map(state.live.sha256) as snapshot:
            live = state.live.entries - sum(find(snapshot, key) is not None for key in was)
    return Figures(
        live=live,
        added=composed.added - moved["added"],
        removed=0 if change.kind == ChangeKind.ROLLBACK else composed.removed - moved["removed"],
        records=change.records,
        rejected=change.rejected,
        day_added=automatic[0],
        day_removed=automatic[1],
    )


class ChangeFigures(NamedTuple):
    """The figures of a candidate, as Candidate has them."""

    suffixes: Table
    categories: Table
    by_source: Table


def change_figures(files: SealedFiles, state: ListState, change: Change, composed: Composed) -> ChangeFigures:
    """The figures of a composed change of the list of `state`, which has a delta."""
    assert composed.delta is not None
    has_changes = composed.changed > 0
    return ChangeFigures(
        suffixes_of(files, composed.delta, has_changes=has_changes),
        categories_of_delta(files, composed.delta, has_changes=has_changes),
        sources_of_delta(files, state, change, composed),
    )


def categories_of_delta(files: SealedFiles, delta: Sha256, *, has_changes: bool) -> Table:
    """The changes by category: the most frequent ones, then the sum of the others. An entry whose category changes
    counts as removed from one and added to the other."""
    with files.map(delta) as content:
        edges = _edges(content, has_changes=has_changes)

        def count(number: int) -> tuple[dict[str, Any], bytes]:
            found = count_categories(content[edges[number] : edges[number + 1]], has_changes=has_changes)
            return {change: _by_name(by_category) for change, by_category in found.items()}, b""

        total = _sum(count, len(edges) - 1)
        drop_page_cache(content)
    return _most(total)


def count_categories(delta: bytes, *, has_changes: bool) -> dict[str, Counter[bytes]]:
    """Counts the entries of complete lines of a delta, by the JSON text of their category (b"": none)."""
    lines, removals = delta.count(b"\n"), delta.count(ENTRIES.remove)
    total = _categories(delta, lines)
    removed = total if removals == lines else _categories(b"".join(_REMOVAL.findall(delta)), removals)
    added = total - removed if removals else total
    changed: Counter[bytes] = Counter()
    if has_changes and 0 < removals < lines:
        for pair in _PAIR.finditer(delta):
            old, new = (next(iter(_CATEGORY.findall(line)), b"") for line in pair.group(1, 3))
            if old == new:
                changed[new] += 1
    return {"added": added - changed, "removed": removed - changed, "changed": changed}


def _categories(lines: bytes, count: int) -> Counter[bytes]:
    found: Counter[bytes] = Counter(_CATEGORY.findall(lines) if b',"category":' in lines else ())
    found[b""] = count - found.total()
    return +found


def _by_name(counts: Mapping[bytes, int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for written, count in counts.items():
        found[category_name(orjson.loads(written)) if written else NONE] += count
    return dict(found)


def _edges(content: Buffer, *, has_changes: bool) -> list[int]:
    """Offsets of the blocks of a delta; both lines of a changed entry are in one block."""
    edges = blocks(content, _BLOCK)
    for number in range(1, len(edges) - 1) if has_changes else ():
        if both := _PAIR.match(content, content.rfind(b"\n", 0, edges[number] - 1) + 1):
            edges[number] = max(edges[number], both.end())
    return edges


def _sum(count: Work, parts: int) -> dict[str, Counter[str]]:
    total: dict[str, Counter[str]] = {change: Counter() for change in CHANGES}
    with spread(count, min(parts, processes())) as results:
        for counts, _ in results(parts):
            for change, by_name in counts.items():
                total[change].update(by_name)
    return total


def _most(total: Mapping[str, Counter[str]]) -> Table:
    every: Counter[str] = sum((total[change] for change in CHANGES), Counter())
    shown = [name for name, _ in every.most_common(SHOWN)]
    found = {name: {change: total[change][name] for change in CHANGES} for name in shown}
    if rest := every.keys() - set(shown):
        others = found.setdefault(OTHER, dict.fromkeys(CHANGES, 0))
        for change in CHANGES:
            others[change] += sum(total[change][name] for name in rest)
    return found


# -- by source ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asserted:
    """The entries of a source: before the change and with it."""

    before: PatchedLines
    after: PatchedLines


def sources_of_delta(files: SealedFiles, state: ListState, change: Change, composed: Composed) -> Table:
    """The changes by source: added and changed entries by the sources that assert them with the change, removed ones by
    those that asserted them before. An entry counts for each of them. Empty after a rollback, where no source decides,
    and where the entries of a source are lost."""
    if change.basis is not None or state.basis is not None:
        return {}
    before = state.policy.sources if state.policy else ()
    names = list(dict.fromkeys([*change.policy.sources, *before]))
    if len(names) == 1 and not change.policy.tests and not (state.policy and state.policy.tests):
        return {names[0]: {change: getattr(composed, change) for change in CHANGES}}
    assert composed.delta is not None
    with ExitStack() as stack:
        content = stack.enter_context(files.map(composed.delta))
        try:
            sources = {name: _opened(files, stack, state, change, name) for name in names}
        except (StoreError, ValueError):
            return {}
        edges = _edges(content, has_changes=True)

        def count(number: int) -> tuple[dict[str, Any], bytes]:
            part = content[edges[number] : edges[number + 1]]
            return _count_sources(part, sources), b""

        total = _sum(count, len(edges) - 1)
    return {name: {change: total[change][name] for change in CHANGES} for name in names}


def _opened(files: SealedFiles, stack: ExitStack, state: ListState, change: Change, name: SourceId) -> _Asserted:
    was = state.accepted.get(name) if state.policy and name in state.policy.sources else None
    now = change.sources.get(name) if name in change.policy.sources else None
    return _Asserted(*(stack.enter_context(open_assertion(files, digest))[1] for digest in (was, now)))


def _count_sources(part: bytes, sources: Mapping[SourceId, _Asserted]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {change: {} for change in CHANGES}
    if not part:
        return found
    removed = set(_KEY.findall(b"".join(_REMOVAL.findall(part))) if ENTRIES.remove in part else ())
    every = set(_KEY.findall(part))
    added = every - removed
    changed = {pair[2] for pair in _PAIR.finditer(part)} if removed and len(every) < part.count(b"\n") else set()
    removed -= changed
    for change, keys in (("added", added), ("removed", removed), ("changed", changed)):
        for name, asserted in sources.items():
            lines = asserted.before if change == "removed" else asserted.after
            found[change][name] = _count_asserted(lines, keys)
    return found


def _count_asserted(lines: PatchedLines, keys: set[bytes]) -> int:
    """How many of the keys the lines have."""
    if not keys or not (lines.base or lines.adds):
        return 0
    start = position(lines.base, min(keys))
    last = max(keys)
    end = position(lines.base, last, start)
    if len(keys) * _LOOK_UP < end - start:  # few keys in a long range
        return sum(lines.find(key) is not None for key in keys)
    end = lines.base.find(b"\n", end) + 1 or len(lines.base) if lines.base[end : end + len(last)] == last else end
    there = keys.intersection(keys_of(lines.base[start:end]))
    there -= {key_of(line) for line in lines.removes}
    return len(there | (keys & lines.adds.keys()))
