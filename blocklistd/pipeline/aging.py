"""Since when the sources of a list have asserted its entries: kept up to date by each change of the list.

Only lists with a `lifetime` have these ages. They belong to the accepted entries of the sources (`list_sources`), not
to what a source offers: a truncated body that a guard holds does not begin any life again.

- The first version, and a source that is new in the list: all entries since then, without a file.
- A later change: the entries that the source has added since its accepted ones are asserted since now, and an entry
  that it has dropped is forgotten. A small change of a source writes a patch of its file.
- A list that gets a `lifetime` later: its live entries since they are live, as far as the statistics know; all others
  since now. So nothing ends too early.
- If a file is lost, ages begin again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from datetime import datetime

from blocklistd.change import Change
from blocklistd.lines.keys import key_of
from blocklistd.model import Sha256
from blocklistd.pipeline.composing import FEW, FULL_SHARE, LINE_BYTES
from blocklistd.pipeline.list_rules import NO_AGES, ChangeAges, terms_of
from blocklistd.store.ages import StoredAges, follow, open_ages, update
from blocklistd.store.asserted import OpenAssertion, differing_lines, files_of, is_intact, open_assertion
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import ListState
from blocklistd.store.verified import Verified


def ages_of(
    files: SealedFiles,
    verified: Verified,
    state: ListState,
    change: Change,
    now: datetime,
    kept: Mapping[bytes, bytes],
) -> ChangeAges:
    """The ages of a list with a change. `kept`: as in EntryAges. Seals files; writes no row. Raises StoreError."""
    if not terms_of(change.policy):
        return NO_AGES
    intact = {name: is_intact(files, verified, stored.file) for name, stored in state.ages.items()}
    before = {name: stored for name, stored in state.ages.items() if intact[name]}
    after = {}
    for source, entries in change.sources.items():
        accepted = state.accepted.get(source)
        if source in before and accepted is not None:
            if accepted == entries:
                after[source] = before[source]
            else:
                after[source] = _followed(files, verified, before[source], accepted, entries, now)
        elif accepted is not None and source not in intact:
            after[source] = _first_ages(files, verified, state, entries, now)
        else:
            after[source] = StoredAges(None, now)
    return ChangeAges(before, after, kept, all(intact.values()))


def _followed(
    files: SealedFiles, verified: Verified, ages: StoredAges, accepted: Sha256, entries: Sha256, now: datetime
) -> StoredAges:
    """The ages of a source's new entries. If the accepted entries are lost, ages begin again."""
    verified.require(*files_of(files, entries))
    if not is_intact(files, verified, accepted):
        return StoredAges(None, now)
    with ExitStack() as stack:
        old, new = (stack.enter_context(open_assertion(files, digest)) for digest in (accepted, entries))
        known = stack.enter_context(open_ages(files, ages.file, ages.since))
        moved = _moved(old, new)
        if moved is not None:
            left, came = moved
            file = update(files, known, left, came, now) if left or came else ages.file
        else:
            file = follow(files, known, old[1].read_all(), new[1].read_all(), now)
        if file is not None:
            verified.wrote(file)
        return StoredAges(file, ages.since)


def _moved(old: OpenAssertion, new: OpenAssertion) -> tuple[Collection[bytes], Collection[bytes]] | None:
    """The keys that only one of the two has; None if the change is large."""
    limit = max(len(old[1].base), len(new[1].base)) // LINE_BYTES // FULL_SHARE + FEW
    lines = differing_lines(old, new, limit)
    if lines is None:
        return None
    keys = sorted(set(map(key_of, lines)))
    left = [key for key in keys if new[1].find(key) is None and old[1].find(key) is not None]
    came = [key for key in keys if old[1].find(key) is None and new[1].find(key) is not None]
    return left, came


def _first_ages(files: SealedFiles, verified: Verified, state: ListState, entries: Sha256, now: datetime) -> StoredAges:
    """The ages in a list that had no `lifetime` before: those of its live entries, if they are known."""
    if state.live is None or state.live_since is None or not is_intact(files, verified, state.live_since.file):
        return StoredAges(None, now)
    verified.require(*files_of(files, entries))
    with ExitStack() as stack:
        live = stack.enter_context(files.map(state.live.sha256))
        (_, asserted) = stack.enter_context(open_assertion(files, entries))
        known = stack.enter_context(open_ages(files, state.live_since.file, state.live_since.since))
        file = follow(files, known, live, asserted.read_all(), now)
    if file is not None:
        verified.wrote(file)
    return StoredAges(file, state.live_since.since)
