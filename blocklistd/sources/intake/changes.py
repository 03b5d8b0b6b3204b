"""Where two bodies differ, as ranges of whole lines. Pure: nothing is parsed, and no order is assumed.

Bodies mostly come in the order of the last one. So they are compared at the same place, and behind each difference a
place is looked for from which they go on alike.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from blocklistd.lines.keys import Buffer
from blocklistd.lines.snapshot import agreement

_NEAR: Final = 8  # lines of each body looked at behind a difference, at first
_FAR: Final = 4096  # and at most
_ALIKE: Final = 2  # lines in a row that must be the same for two bodies to go on alike
_SHARE: Final = 8  # of a body's bytes, one in so many may lie in differences
_SAMPLE: Final = 6  # lines of a body that are looked for in the other
_WHOLE: Final = 4 << 20  # bytes of a body whose lines are always held
_LINE: Final = 100  # bytes that a line needs beside its own: an object, and its places in a list and a set
UNORDERED_MEMORY: Final = 1536 << 20  # bytes that the lines of two bodies may need
UNORDERED: Final = 512 << 20  # bytes of two bodies whose lines may be held in memory to compare them as sets


@dataclass(frozen=True, slots=True)
class Hunk:
    """Bytes `old_start` to `old_end` of the old body stand where `new_start` to `new_end` of the new one do."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


def hunks(old: Buffer, new: Buffer, i: int = 0, j: int = 0) -> list[Hunk] | None:
    """All differences of two bodies from `i` and `j` on, in order; None where they are too many to be worth it."""
    found: list[Hunk] = []
    bound = max(len(old), len(new)) // _SHARE + (1 << 16)
    while i < len(old) or j < len(new):
        same = agreement(old, i, new, j)
        if i + same == len(old) and j + same == len(new):
            break
        # back to the beginning of the line in which they part
        back = old.rfind(b"\n", i, i + same) + 1
        if back > i:
            i, j = back, j + back - i
        ends = _resumed(old, i, new, j)
        if ends is None:
            return None
        found.append(Hunk(i, ends[0], j, ends[1]))
        bound -= ends[0] - i + ends[1] - j
        if bound < 0:
            return None
        i, j = ends
    return found


def _resumed(old: Buffer, i: int, new: Buffer, j: int) -> tuple[int, int] | None:
    """The nearest places behind `i` and `j` from which the bodies go on alike, or where both end."""
    if i == len(old) or j == len(new):
        return len(old), len(new)
    reach = _NEAR
    while reach <= _FAR:
        a, b = _lines(old, i, reach), _lines(new, j, reach)
        a_ends, b_ends = _ends(a, i), _ends(b, j)
        whole = a_ends[-1] == len(old) and b_ends[-1] == len(new)
        best = _nearest(a, b)
        if best is not None:
            return a_ends[best[0]], b_ends[best[1]]
        if whole:
            return len(old), len(new)
        reach *= 8
    return None


def _nearest(a: list[bytes], b: list[bytes]) -> tuple[int, int] | None:
    """(x, y) with the smallest sum such that `_ALIKE` lines from a[x] and b[y] on are the same."""
    places: dict[tuple[bytes, ...], int] = {}
    for x in range(len(a) - _ALIKE + 1):
        places.setdefault(tuple(a[x : x + _ALIKE]), x)
    best: tuple[int, int] | None = None
    for y in range(len(b) - _ALIKE + 1):
        if best is not None and y >= sum(best):
            break
        x = places.get(tuple(b[y : y + _ALIKE]), -1)
        if x >= 0 and (best is None or x + y < sum(best)):
            best = x, y
    return best


def _lines(body: Buffer, start: int, count: int) -> list[bytes]:
    """So many lines from `start` on, ends included, as far as there are."""
    found: list[bytes] = []
    while start < len(body) and len(found) < count:
        end = body.find(b"\n", start) + 1 or len(body)
        found.append(body[start:end])
        start = end
    return found


def _ends(lines: list[bytes], start: int) -> list[int]:
    """Where each line begins, and where the last one ends."""
    ends = [start]
    for line in lines:
        ends.append(ends[-1] + len(line))
    return ends


def unordered(old: Buffer, new: Buffer, i: int = 0, j: int = 0) -> tuple[list[bytes], list[bytes]] | None:
    """The lines that only `old` has and that only `new` has, as often as they are there; for bodies whose order says
    nothing. None where they are too large for that, or obviously have little in common."""
    if len(old) + len(new) > UNORDERED:
        return None
    before, after = old[i:], new[j:]
    if _have_little_in_common(before, after):
        return None
    if len(before) + len(after) + _LINE * (before.count(b"\n") + after.count(b"\n")) > UNORDERED_MEMORY:
        return None
    a = _split(before)
    del before  # as large as the body
    b = _split(after)
    del after
    gone, come = set(a), set(b)
    if len(gone) == len(a) and len(come) == len(b):  # no line twice
        fresh = come - gone
        gone -= come
        return list(gone), list(fresh)
    counted_a, counted_b = Counter(a), Counter(b)
    return list((counted_a - counted_b).elements()), list((counted_b - counted_a).elements())


def _have_little_in_common(old: bytes, new: bytes) -> bool:
    """Whether most lines are others, by the sizes and by some lines of `new`: cheaper than to hold all lines."""
    small, large = sorted((len(old), len(new)))
    if large <= _WHOLE:
        return False
    if small < large // 2:
        return True
    for number in range(_SAMPLE):
        start = new.find(b"\n", number * len(new) // _SAMPLE)
        line = new[start : new.find(b"\n", start + 1) + 1] if start >= 0 else b""
        if len(line) > 1 and line in old:
            return False
    return True


def _split(body: bytes) -> list[bytes]:
    lines = body.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines
