"""Reads a changed body incrementally: the entries of the last body are updated by the lines that differ.

No other line of the body is parsed or canonicalised. Several lines of a body can be one entry, so an entry is removed
only with the last of its lines. If the notes of the last body do not fit the differences, the result is None, and the
complete body must be read.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from blocklistd.lines.keys import Buffer, type_and_value
from blocklistd.lines.patched import PatchedLines
from blocklistd.sources.intake.canonical import Canonical, Notes, Reading, by_key, chosen
from blocklistd.sources.intake.changes import Hunk, hunks, unordered
from blocklistd.sources.intake.chunks import Reader

MANY_SHARE: Final = 8  # if more lines than 1/8 of the records differ, the complete body is read
FEW: Final = 10_000  # differing lines that are always read incrementally
_SCAN: Final = 1 << 20  # bytes counted at a time


@dataclass(frozen=True, slots=True)
class Base:
    """The last body that was read, and the result: its entries, its notes and its figures (as in Canonical)."""

    body: Buffer
    asserted: PatchedLines
    notes: Notes
    records: int
    types: Counter[str]
    dropped_attributes: int


@dataclass(frozen=True, slots=True)
class UpdatedEntries:
    """The entries of the new body, as a patch. `changes`: how many canonical lines were removed and added since the
    last body."""

    canonical: Canonical
    asserted: PatchedLines
    changes: int


class _Difference(NamedTuple):
    """The difference of the asserted lines of two bodies: the lines to remove and to add, the entries by type
    afterwards, and the lines of keys with several records afterwards (Notes.multiples)."""

    removes: list[bytes]
    adds: list[bytes]
    types: Counter[str]
    multiples: list[str]


def update_entries(base: Base, base_start: int, body: Buffer, start: int, read: Reader) -> UpdatedEntries | None:
    """Update the entries of `base` by the lines in which `body` differs; None if the complete body must be read.

    `base_start` and `start`: the offsets, in the two bodies, of the first line that can be read without the others
    (Format.first_independent_line). Raises ParseError, as `read`.
    """
    found = hunks(base.body, body, base_start, start)
    rejects: list[tuple[int, str]] | None
    if found is not None:
        removed = read(b"".join(base.body[hunk.old_start : hunk.old_end] for hunk in found))
        added = read(b"".join(body[hunk.new_start : hunk.new_end] for hunk in found))
        rejects = _renumbered(base, base_start, body, start, found, removed, added)
    else:
        differing = unordered(base.body, body, base_start, start)
        if differing is None or base.notes.rejects:
            return None
        if sum(map(len, differing)) > base.records // MANY_SHARE + FEW:
            return None  # following each line would cost more than reading the complete body
        removed, added = (read(b"\n".join(lines)) for lines in differing)
        rejects = None if added.rejects else []
    if rejects is None:
        return None
    difference = _difference(base, removed, added)
    if difference is None:
        return None
    canonical = Canonical(
        records=base.records + len(added.lines) + len(added.rejects) - len(removed.lines) - len(removed.rejects),
        types=difference.types,
        dropped_attributes=base.dropped_attributes + added.dropped - removed.dropped,
        notes=Notes(difference.multiples, rejects),
    )
    removes, adds = difference.removes, difference.adds
    return UpdatedEntries(canonical, base.asserted.updated(removes, adds), len(removes) + len(adds))


def _difference(base: Base, removed: Reading, added: Reading) -> _Difference | None:
    """The effect of removed and added records on the asserted lines; None if it can't be known from the notes."""
    if base.notes.multiples is None:
        return None
    multiples = by_key(base.notes.multiples)
    removed_lines, added_lines = by_key(removed.lines), by_key(added.lines)
    removes: list[bytes] = []
    adds: list[bytes] = []
    types = Counter(base.types)
    for key in removed_lines.keys() | added_lines.keys():
        asserted = base.asserted.find(key)
        before = multiples.pop(key, [asserted.decode()] if asserted is not None else [])
        after = list(before)
        for line in removed_lines.get(key, ()):
            if line not in after:
                return None
            after.remove(line)
        after = sorted(after + added_lines.get(key, []))
        old, new = chosen(before), chosen(after)
        if old != new:
            kind = type_and_value(key + b"}")[0].decode()
            if old is not None:
                removes.append(old.encode())
                types[kind] -= 1
            if new is not None:
                adds.append(new.encode())
                types[kind] += 1
        if len(after) > 1:
            multiples[key] = after
    return _Difference(removes, adds, +types, sorted(line for group in multiples.values() for line in group))


def _renumbered(
    base: Base, base_start: int, body: Buffer, start: int, found: list[Hunk], removed: Reading, added: Reading
) -> list[tuple[int, str]] | None:
    """(line number, reason) of each reject of the new body; None if the rejects of the last body do not fit.

    Rejects before and between the hunks keep their reason and get a new number; those in hunks come from `added`.
    """
    if not (base.notes.rejects or added.rejects):
        return []
    old_rejects, new_rejects = deque(sorted(base.notes.rejects)), deque(sorted(added.rejects))
    rejects: list[tuple[int, str]] = []
    dropped = 0  # rejects of the last body that were in hunks
    i, j = base_start, start
    # lines above the current offset: in the last body, in the new body, and in the joined hunks that `added` numbers
    old_above, new_above = (text[:at].count(b"\n") for text, at in ((base.body, i), (body, j)))
    hunks_above = 0
    end = Hunk(len(base.body), len(base.body), len(body), len(body))
    for hunk in [*found, end]:
        same = _count(base.body, i, hunk.old_start)
        old_count = _count(base.body, hunk.old_start, hunk.old_end)
        new_count = _count(body, hunk.new_start, hunk.new_end)
        while old_rejects and old_rejects[0][0] <= old_above + same:
            number, code = old_rejects.popleft()
            rejects.append((number - old_above + new_above, code))
        while old_rejects and old_rejects[0][0] <= old_above + same + old_count:
            old_rejects.popleft()
            dropped += 1
        while new_rejects and new_rejects[0][0] <= hunks_above + new_count:
            number, code = new_rejects.popleft()
            rejects.append((number - hunks_above + new_above + same, code))
        old_above += same + old_count
        new_above += same + new_count
        hunks_above += new_count
        i, j = hunk.old_end, hunk.new_end
    return sorted(rejects) if dropped == len(removed.rejects) and not new_rejects else None


def _count(body: Buffer, start: int, end: int) -> int:
    """The number of lines between two offsets; the last one may lack its newline."""
    count = sum(body[at : min(at + _SCAN, end)].count(b"\n") for at in range(start, end, _SCAN))
    return count + (end > start and body[end - 1 : end] != b"\n")
