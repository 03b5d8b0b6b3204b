"""A snapshot: sorted lines, each ending in a newline (`LC_ALL=C sort -c` accepts it). Pure functions on buffers.

The cost of a change grows with the change: the bytes between two changed lines are copied, or compared, as one range.
Offsets are in bytes from the beginning of the buffer, and always of the beginning of a line, or of the buffer's end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Final, NamedTuple

from blocklistd.lines.keys import Buffer

_FIRST: Final = 1 << 8  # bytes compared at once after a difference, doubled while the two buffers agree
_LARGEST: Final = 1 << 20  # bytes compared or copied at once, at most
_BLOCK: Final = 1 << 16  # bytes split into lines at once


def lines(buffer: Buffer, start: int = 0) -> Iterator[bytes]:
    """Yield each line from offset `start` on, without its newline."""
    while start < len(buffer):
        end = buffer.find(b"\n", start + _BLOCK) + 1 or len(buffer)
        found = buffer[start:end].split(b"\n")
        if not found[-1]:
            found.pop()
        yield from found
        start = end


def blocks(buffer: Buffer, size: int, start: int = 0) -> list[int]:
    """Offsets that split a buffer into blocks of complete lines, of about `size` bytes: `start`, that of each following
    block, and the length of the buffer."""
    found = [start]
    while found[-1] < len(buffer):
        end = buffer.find(b"\n", found[-1] + size)
        found.append(end + 1 if end >= 0 else len(buffer))
    return found


def position(
    buffer: Buffer,
    searched: bytes,
    low: int = 0,
    key: Callable[[bytes], bytes] | None = None,
    near: int | None = None,
) -> int:
    """The offset of the first line, from offset `low` on, that sorts at or after `searched`; the length of the buffer
    if there is none. Binary search, like bisect.bisect_left.

    `key`: the function by which the lines are sorted; None if they are sorted bytewise. `near`: the probable distance
    from `low` in bytes; the search then begins there, and looks at half as many lines if the distance is right. Raises
    ValueError if the last line has no newline.
    """
    high = len(buffer)
    while near is not None and low + near < high:
        start = buffer.find(b"\n", low + near) + 1
        end = buffer.find(b"\n", start)
        if not start or end < 0:
            break
        line = buffer[start:end]
        if (line if key is None else key(line)) >= searched:
            high = start
            break
        low = end + 1
        near = 2 * near + 1
    while low < high:
        middle = buffer.rfind(b"\n", low, (low + high) // 2) + 1 or low
        end = buffer.find(b"\n", middle)
        if end < 0:
            raise ValueError("the last line is cut short")
        line = buffer[middle:end]
        if (line if key is None else key(line)) < searched:
            low = end + 1
        elif middle == low:
            return low
        else:
            high = middle
    return low


def find(buffer: Buffer, key: bytes) -> bytes | None:
    """The first line that begins with `key`, without its newline; None if there is none. `key` is a key
    (lines.keys.key_of) or a prefix of keys."""
    start = position(buffer, key)
    return buffer[start : buffer.find(b"\n", start)] if buffer[start : start + len(key)] == key else None


class Edit(NamedTuple):
    """Replaces the bytes of a buffer from offset `start` to before offset `end` by `replacement`."""

    start: int
    end: int
    replacement: bytes


def edits(old: Buffer, removes: Sequence[bytes], adds: Sequence[bytes]) -> list[Edit]:
    """The edits, in order, that remove the lines `removes` from the snapshot `old` and add the lines `adds`. Both are
    sorted, without newlines.

    Raises ValueError if a line to remove is missing, a line to add is present, or either argument is not sorted.
    """
    _check_order(removes)
    _check_order(adds)
    found: list[Edit] = []
    at = 0
    changed = sorted([*((line, 0) for line in removes), *((line, 1) for line in adds)])
    for number, (line, adding) in enumerate(changed):
        at = position(old, line, at, near=(len(old) - at) // (len(changed) - number + 1))
        there = old[at : at + len(line) + 1] == line + b"\n"
        if there == bool(adding):
            raise ValueError("a line to add is already present" if adding else "a line to remove is missing")
        if adding:
            found.append(Edit(at, at, line + b"\n"))
        else:
            found.append(Edit(at, at + len(line) + 1, b""))
            at += len(line) + 1
    return found


def splice(old: Buffer, removes: Sequence[bytes], adds: Sequence[bytes]) -> Iterator[bytes | memoryview]:
    """Yield the snapshot `old` without the lines `removes` and with the lines `adds`, in chunks. Raises ValueError as
    `edits`, before the first chunk."""
    return apply_edits(old, edits(old, removes, adds))


def apply_edits(old: Buffer, changes: Iterable[Edit]) -> Iterator[bytes | memoryview]:
    """Yield the buffer with its edits applied, in chunks. Unchanged chunks are views of the buffer, not copies."""
    view = memoryview(old)
    at = 0
    for change in changes:
        yield from _unchanged(view, at, change.start)
        yield change.replacement
        at = change.end
    yield from _unchanged(view, at, len(old))


def _unchanged(view: memoryview, start: int, end: int) -> Iterator[memoryview]:
    for at in range(start, end, _LARGEST):
        yield view[at : min(at + _LARGEST, end)]


def _check_order(changed: Sequence[bytes]) -> None:
    if any(a >= b for a, b in pairwise(changed)):
        raise ValueError("the lines of a change are out of order")


def changed_lines(old: Buffer, new: Buffer) -> tuple[list[bytes], list[bytes]]:
    """The lines that only `old` has, and the lines that only `new` has, each sorted and without newlines.

    Raises ValueError as `position` does.
    """
    found = few_changed_lines(old, new, len(old) + len(new))
    assert found is not None, "there are no more lines than bytes"
    return found


def few_changed_lines(
    old: Buffer, new: Buffer, limit: int, early: int | None = None
) -> tuple[list[bytes], list[bytes]] | None:
    """`changed_lines`, or None if there are more than `limit` such lines.

    With `early`: None also as soon as more than `early` lines were found and they are most of the bytes read so far.
    Equal ranges are compared in blocks that grow while they agree: for 1,000,000 lines with few changes this costs
    little more than reading them. Raises ValueError as `position`.
    """
    removed: list[bytes] = []
    added: list[bytes] = []
    i = j = differing = 0
    old_size, new_size = len(old), len(new)
    while i < old_size and j < new_size:
        count = len(removed) + len(added)
        if count > limit or (early is not None and count > early and differing > (i + j) // 2):
            return None
        same = common_prefix(old, i, new, j)
        if same:
            # back to the beginning of the line in which they differ
            start = old.rfind(b"\n", i, i + same) + 1
            if start > i:
                j += start - i
                i = start
                continue
        a_end, b_end = old.find(b"\n", i), new.find(b"\n", j)
        if a_end < 0 or b_end < 0:
            raise ValueError("the last line is cut short")
        a, b = old[i:a_end], new[j:b_end]
        if a <= b:
            i = a_end + 1
        if b <= a:
            j = b_end + 1
        if a < b:
            removed.append(a)
            differing += len(a)
        elif b < a:
            added.append(b)
            differing += len(b)
    for found, rest in ((removed, lines(old, i)), (added, lines(new, j))):
        found += islice(rest, limit + 1)
    return (removed, added) if len(removed) + len(added) <= limit else None


def common_prefix(old: Buffer, i: int, new: Buffer, j: int) -> int:
    """The number of equal bytes from offset `i` of `old` and offset `j` of `new` on."""
    start, block = i, _FIRST
    while True:
        a, b = old[i : i + block], new[j : j + block]
        if a != b or not a:
            break
        i += len(a)
        j += len(a)
        block = min(block * 2, _LARGEST)
    low, high = 0, min(len(a), len(b))
    while low < high:  # binary search for the longest common prefix of the two blocks
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return i - start + low
