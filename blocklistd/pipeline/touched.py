"""Finds the lines that a small change touches, so that it is composed key by key (composing.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from blocklistd.change import Change, ChangeKind, Policy
from blocklistd.compose.compose import Find, ListRules
from blocklistd.compose.lifetimes import EntryAges, ended_by_age
from blocklistd.errors import DamagedError
from blocklistd.lines.expiry import earliest, expiries
from blocklistd.lines.keys import Buffer
from blocklistd.model import Sha256, SourceId
from blocklistd.pipeline.list_rules import instant_of
from blocklistd.store.asserted import OpenAssertion, differing_lines, files_of, open_assertion
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import ListState
from blocklistd.store.verified import Verified

Origins = Mapping[SourceId | None, Sha256 | None]
"""The sealed entries from which a list is composed, in precedence: of each source (None: it has offered none yet), or
of the basis of a rollback."""


def origins_of(policy: Policy, sources: Mapping[SourceId, Sha256], basis: Sha256 | None) -> Origins:
    """The origins of a list under a policy."""
    if basis is not None:
        return {None: basis}
    return {source: sources.get(source) for source in policy.sources}


@dataclass(frozen=True, slots=True)
class Touched:
    """The lines that a source asserts either now or in the live version, but not in both, and those that have ended
    since. `accepted`: for each source, finds a line in its accepted entries. `next_expiry`: no other line ends
    before."""

    lines: list[bytes]
    accepted: list[Find]
    next_expiry: bytes | None


def touched_lines(
    files: SealedFiles,
    verified: Verified,
    state: ListState,
    change: Change,
    origins: Origins,
    asserted: Sequence[OpenAssertion],
    live: Buffer,
    rules: ListRules,
    limit: int,
    stack: ExitStack,
) -> Touched | None:
    """The touched lines. None if they are more than `limit`, if a file of a source's accepted entries is missing or
    damaged, or if the clock was set back, so that entries may have to come back: the change is then composed in full.
    The files stay open until `stack` is closed."""
    assert state.live is not None
    touched: list[bytes] = []
    finders: list[Find] = []
    accepted = origins_of(change.policy, state.accepted, state.basis)
    for (source, digest), entries in zip(origins.items(), asserted, strict=True):
        if accepted[source] == digest:
            finders.append(entries[1].find)
            continue
        try:
            verified.require(*files_of(files, accepted[source]))
            before = stack.enter_context(open_assertion(files, accepted[source]))
            found = differing_lines(before, entries, limit - len(touched))
        except (DamagedError, ValueError):
            return None
        if found is None:
            return None
        touched += found
        finders.append(before[1].find)
    if change.kind != ChangeKind.EXPIRY:
        return Touched(touched, finders, instant_of(state.next_expiry))
    ended = _ended(touched, finders, state, asserted, rules.now, limit)
    return None if ended is None else _ended_by_age(ended, live, asserted, rules, limit)


def _ended(
    touched: list[bytes],
    finders: list[Find],
    state: ListState,
    asserted: Sequence[OpenAssertion],
    now: bytes | None,
    limit: int,
) -> Touched | None:
    """Adds the lines of the sources that have ended since the last evaluation."""
    since = instant_of(state.evaluated)
    if since is not None and now is not None and since > now:
        return None
    first = None
    for _, lines in asserted:
        for buffer in (lines.base, b"".join(line + b"\n" for line in lines.adds.values())):
            found = expiries(buffer, now, limit - len(touched), since)
            if found is None:
                return None
            touched += found.ended
            first = earliest((first, found.next))
    return Touched(touched, finders, first)


def _ended_by_age(
    found: Touched, live: Buffer, asserted: Sequence[OpenAssertion], rules: ListRules, limit: int
) -> Touched | None:
    """Adds the live entries that have ended by their age."""
    if not isinstance(rules.lifetimes, EntryAges) or rules.now is None:
        return found
    lines, first = list(found.lines), found.next_expiry
    for part in ended_by_age(live, [lines.read_all() for _, lines in asserted], rules.lifetimes, rules.now):
        lines += [one.asserted[0][1] for one in part.ended]
        first = earliest((first, part.next))
        if len(lines) > limit:
            return None
    return replace(found, lines=lines, next_expiry=first)
