"""Finds the differences of two bodies, as ranges of complete lines. Pure: nothing is parsed.

Most hotlines keep the order of their lines. So two bodies are compared from the beginning. After each difference, both
are searched for the nearest lines from which they are equal again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from blocklistd.lines.keys import Buffer
from blocklistd.lines.snapshot import common_prefix

_NEAR: Final = 8  # lines of each body searched after a difference, at first
_FAR: Final = 4096  # lines of each body searched after a difference, at most
_ALIKE: Final = 2  # consecutive lines that must be equal to end a difference
_SHARE: Final = 8  # 1/8 of the bytes of a body may be in differences
_SAMPLE: Final = 6  # lines of one body that are searched in the other
_ALWAYS: Final = 4 << 20  # bytes of bodies that are always compared as sets of lines
_LINE: Final = 100  # bytes of memory that a line needs besides its text: an object, and slots in a list and a set
UNORDERED_MEMORY: Final = 1536 << 20  # bytes of memory that the lines of two bodies may need
UNORDERED: Final = 512 << 20  # bytes of two bodies that may be compared as sets of lines


@dataclass(frozen=True, slots=True)
class Hunk:
    """One difference: bytes `old_start` to `old_end` of the old body were replaced by bytes `new_start` to `new_end` of
    the new body. Both ranges are complete lines; one of them may be empty."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


def hunks(old: Buffer, new: Buffer, i: int = 0, j: int = 0) -> list[Hunk] | None:
    """All differences of two bodies from offsets `i` and `j` on, in order; None if they are too many to be followed."""
    found: list[Hunk] = []
    bound = max(len(old), len(new)) // _SHARE + (1 << 16)
    while i < len(old) or j < len(new):
        same = common_prefix(old, i, new, j)
        if i + same == len(old) and j + same == len(new):
            break
        # back to the beginning of the line in which they differ
        line_start = old.rfind(b"\n", i, i + same) + 1
        if line_start > i:
            i, j = line_start, j + line_start - i
        ends = _end_of_difference(old, i, new, j)
        if ends is None:
            return None
        found.append(Hunk(i, ends[0], j, ends[1]))
        bound -= ends[0] - i + ends[1] - j
        if bound < 0:
            return None
        i, j = ends
    return found


def _end_of_difference(old: Buffer, i: int, new: Buffer, j: int) -> tuple[int, int] | None:
    """The nearest offsets after `i` and `j` from which the bodies are equal again, or both end; None if not found."""
    if i == len(old) or j == len(new):
        return len(old), len(new)
    reach = _NEAR
    while reach <= _FAR:
        old_lines, new_lines = _lines(old, i, reach), _lines(new, j, reach)
        old_offsets, new_offsets = _offsets(old_lines, i), _offsets(new_lines, j)
        best = _nearest(old_lines, new_lines)
        if best is not None:
            return old_offsets[best[0]], new_offsets[best[1]]
        if old_offsets[-1] == len(old) and new_offsets[-1] == len(new):
            return len(old), len(new)
        reach *= 8
    return None


def _nearest(a: list[bytes], b: list[bytes]) -> tuple[int, int] | None:
    """The indexes (x, y) with the smallest sum such that _ALIKE lines from a[x] and from b[y] on are equal."""
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
    """Up to `count` lines from offset `start` on, newlines included."""
    found: list[bytes] = []
    while start < len(body) and len(found) < count:
        end = body.find(b"\n", start) + 1 or len(body)
        found.append(body[start:end])
        start = end
    return found


def _offsets(lines: list[bytes], start: int) -> list[int]:
    """The offset of each line, and of the end of the last one."""
    offsets = [start]
    for line in lines:
        offsets.append(offsets[-1] + len(line))
    return offsets


def unordered(old: Buffer, new: Buffer, i: int = 0, j: int = 0) -> tuple[list[bytes], list[bytes]] | None:
    """The lines that only `old` has, and those that only `new` has, from offsets `i` and `j` on; for bodies whose
    lines are in another order each time. A line that both have, but one more often, is returned once for each surplus
    occurrence.

    None if the bodies are too large for that, or obviously have little in common.
    """
    if len(old) + len(new) > UNORDERED:
        return None
    before, after = old[i:], new[j:]
    if _have_little_in_common(before, after):
        return None
    if len(before) + len(after) + _LINE * (before.count(b"\n") + after.count(b"\n")) > UNORDERED_MEMORY:
        return None
    old_lines = _split(before)
    del before  # as large as the body
    new_lines = _split(after)
    del after
    removed, new_set = set(old_lines), set(new_lines)
    if len(removed) == len(old_lines) and len(new_set) == len(new_lines):  # no line occurs twice
        added = new_set - removed
        removed -= new_set
        return list(removed), list(added)
    old_counts, new_counts = Counter(old_lines), Counter(new_lines)
    return list((old_counts - new_counts).elements()), list((new_counts - old_counts).elements())


def _have_little_in_common(old: bytes, new: bytes) -> bool:
    """Whether most lines differ, judged by the sizes and by a sample of lines: cheaper than comparing all lines."""
    small, large = sorted((len(old), len(new)))
    if large <= _ALWAYS:
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
