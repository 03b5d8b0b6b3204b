"""Raw first: what a changed body asserts, from what the last one did and the lines that differ between the two.

Nothing else of the body is parsed or canonicalised. Several raw lines can be one entry, so it goes only with the last
of them; where what is known of the last body does not fit, there is no answer, and all of the new one has to be read.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from blocklistd.lines.keys import Buffer, type_and_value
from blocklistd.lines.overlay import Overlay
from blocklistd.sources.intake.canonical import Canonical, Notes, Reading, by_key
from blocklistd.sources.intake.changes import Hunk, hunks, unordered
from blocklistd.sources.intake.chunks import Reader

MANY_SHARE: Final = 8  # of the records: if more lines differ, all of the body is read
FEW: Final = 10_000  # lines that are always followed one by one
_SCAN: Final = 1 << 20  # bytes counted at a time


@dataclass(frozen=True, slots=True)
class Base:
    """The last body that was read, and what it was found to assert. `types` counts entries."""

    body: Buffer
    asserted: Overlay
    notes: Notes
    records: int
    types: Counter[str]
    dropped_attributes: int


@dataclass(frozen=True, slots=True)
class Revised:
    """What the new body asserts, `changes` lines of it other than the last one did."""

    canonical: Canonical
    asserted: Overlay
    changes: int


def revise(base: Base, base_start: int, body: Buffer, start: int, read: Reader) -> Revised | None:
    """None where what the new body asserts can't be known from the differences. `base_start` and `start`: offsets at
    which the lines begin that can be read each for itself."""
    found = hunks(base.body, body, base_start, start)
    rejects: list[tuple[int, str]] | None
    if found is not None:
        gone = read(b"".join(base.body[hunk.old_start : hunk.old_end] for hunk in found))
        come = read(b"".join(body[hunk.new_start : hunk.new_end] for hunk in found))
        rejects = _renumbered(base, base_start, body, start, found, gone, come)
    else:
        apart = unordered(base.body, body, base_start, start)
        if apart is None or base.notes.rejects:
            return None
        if sum(map(len, apart)) > base.records // MANY_SHARE + FEW:
            return None  # most of it is another: following each line would cost more than reading all of it
        gone, come = (read(b"\n".join(lines)) for lines in apart)
        rejects = None if come.rejects else []
    if rejects is None:
        return None
    following = _follow(base, gone, come)
    if following is None:
        return None
    removes, adds, types, multiples = following
    canonical = Canonical(
        records=base.records + len(come.lines) + len(come.rejects) - len(gone.lines) - len(gone.rejects),
        types=types,
        dropped_attributes=base.dropped_attributes + come.dropped - gone.dropped,
        notes=Notes(multiples, rejects),
    )
    return Revised(canonical, base.asserted.revised(removes, adds), len(removes) + len(adds))


def _follow(
    base: Base, gone: Reading, come: Reading
) -> tuple[list[bytes], list[bytes], Counter[str], list[str]] | None:
    """The asserted lines that go and come, the entries by type after it, and the keys of several records."""
    if base.notes.multiples is None:
        return None
    multiples = by_key(base.notes.multiples)
    leaving, coming = by_key(gone.lines), by_key(come.lines)
    removes: list[bytes] = []
    adds: list[bytes] = []
    types = Counter(base.types)
    for key in leaving.keys() | coming.keys():
        standing = base.asserted.find(key)
        before = multiples.pop(key, [standing.decode()] if standing is not None else [])
        after = list(before)
        for line in leaving.get(key, ()):
            if line not in after:
                return None
            after.remove(line)
        after = sorted(after + coming.get(key, []))
        old, new = min(before, default=None), min(after, default=None)
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
    return removes, adds, +types, sorted(line for group in multiples.values() for line in group)


def _renumbered(
    base: Base, base_start: int, body: Buffer, start: int, found: list[Hunk], gone: Reading, come: Reading
) -> list[tuple[int, str]] | None:
    """(line number, reason) of the refused records of the new body; None where those of the last body do not fit."""
    if not (base.notes.rejects or come.rejects):
        return []
    known, arriving = deque(sorted(base.notes.rejects)), deque(sorted(come.rejects))
    rejects: list[tuple[int, str]] = []
    lost = 0
    i, j = base_start, start
    old, new = (text[:at].count(b"\n") for text, at in ((base.body, i), (body, j)))  # lines above, with no mark in them
    told = 0  # lines of the hunks above, as `come` numbers them
    end = Hunk(len(base.body), len(base.body), len(body), len(body))
    for hunk in [*found, end]:
        same = _count(base.body, i, hunk.old_start)
        goes, comes = _count(base.body, hunk.old_start, hunk.old_end), _count(body, hunk.new_start, hunk.new_end)
        while known and known[0][0] <= old + same:
            number, code = known.popleft()
            rejects.append((number - old + new, code))
        while known and known[0][0] <= old + same + goes:
            known.popleft()
            lost += 1
        while arriving and arriving[0][0] <= told + comes:
            number, code = arriving.popleft()
            rejects.append((number - told + new + same, code))
        old, new, told = old + same + goes, new + same + comes, told + comes
        i, j = hunk.old_end, hunk.new_end
    return sorted(rejects) if lost == len(gone.rejects) and not arriving else None


def _count(body: Buffer, start: int, end: int) -> int:
    """Lines, the last one with or without its newline."""
    count = sum(body[at : min(at + _SCAN, end)].count(b"\n") for at in range(start, end, _SCAN))
    return count + (end > start and body[end - 1 : end] != b"\n")
