"""Deltas: the difference of two sorted files, itself a sorted file. Pure functions on buffers.

A delta has one line for each removed or added item (an entry of a list, or a rule of a zone), ordered by the key of the
item, a removal before the addition of the same key. `Form` defines how a line is written. Entries use the feed's diff
format (docs/feed.md), so the delta of a version is, byte for byte, the diff from the version before:

    {"remove":ENTRY}
    {"add":ENTRY}

Large files are processed in parts of about PART bytes, split at the same key in each file. No function holds more than
a few parts in memory, and several processes can share the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from blocklistd.lines.keys import Buffer, type_and_value
from blocklistd.lines.snapshot import blocks, position, splice

PART: Final = 1 << 20  # bytes of the largest file in one part
NET_PART: Final = 12 << 20  # bytes of all deltas in one part, if there are more than two deltas
_LEAST: Final = 1 << 12  # bytes of the largest delta in one part, at least
SMALL: Final = 1 << 16  # bytes of a delta that is always applied line by line
STREAM_SHARE: Final = 16  # a delta larger than this fraction (1/16) of its file is applied part by part

Spread = Callable[[Callable[[int], "DeltaPart"], int], Iterable["DeltaPart"]]
"""A function of (work, count): yields `work(0)` to `work(count - 1)` in order, perhaps made in several processes."""


@dataclass(frozen=True, slots=True)
class Form:
    """The line format of a delta: `remove` or `add`, the item, `end`, newline."""

    remove: bytes
    add: bytes
    end: bytes
    keys: Callable[[Sequence[bytes]], list[bytes]]
    """Returns the keys of items; a delta is ordered by them."""
    boundary: Callable[[bytes], bytes]
    """Shortens an item so that files of items and deltas, which may order single items differently, split at it."""
    is_plain: Callable[[bytes, int], bool]
    """A function of (text of items, their number): whether bytewise order is the order of their keys, and no key occurs
    twice."""

    def item(self, line: bytes) -> bytes:
        """The item in a line of a delta; the line has no newline. Raises ValueError for any other line."""
        for head in (self.remove, self.add):
            if line.startswith(head) and line.endswith(self.end):
                return line[len(head) : len(line) - len(self.end)]
        raise ValueError("a line of a delta is neither a removal nor an addition")


@dataclass(frozen=True, slots=True)
class DeltaPart:
    """A part of a delta, or of a file of items: complete lines.

    `removed` and `added` count the keys that only the old or only the new side has, `changed` the keys that both have
    with different items.
    """

    data: bytes
    removed: int = 0
    added: int = 0
    changed: int = 0


def _entry_key(line: bytes) -> bytes:
    """Type and value, with the JSON escapes of the value resolved, so that keys sort as (type, value) does."""
    kind, value = type_and_value(line)
    return b'{"type":"%b","value":"%b' % (kind, value)


def _entry_keys(entries: Sequence[bytes]) -> list[bytes]:
    """`_entry_key` of each entry; ten times as fast for an entry without escapes."""
    return [
        _entry_key(line) if b"\\" in line else line[: line.index(b'"', line.index(b'"', 9) + 11)] for line in entries
    ]


def _entry_boundary(line: bytes) -> bytes:
    """The key up to the first `!` or escape. Only a line has a quote after its value; only `!` sorts before a quote."""
    key = _entry_key(line)
    return min(key.partition(b"!")[0], key.partition(b"\\")[0], key=len)


def _entries_are_plain(entries: bytes, count: int) -> bool:
    """Whether each entry has only a type, a value and an id, no escapes, and no character that sorts before a quote."""
    every_one_has_an_id = entries.count(b'"id":"e-') == count
    return every_one_has_an_id and entries.count(b'"') == 12 * count and b"!" not in entries and b"\\" not in entries


def _same(rule: bytes) -> bytes:
    return rule


ENTRIES: Final = Form(b'{"remove":', b'{"add":', b"}", _entry_keys, _entry_boundary, _entries_are_plain)
"""Deltas of lists: items are canonical lines without their newline."""
RULES: Final = Form(b"-", b"+", b"", list, _same, lambda rules, count: True)
"""Deltas of zones: items are rules (rpz.rules), and each is its own key."""


def render(form: Form, removes: Sequence[bytes], adds: Sequence[bytes]) -> DeltaPart:
    """The delta that removes and adds these items, in any order; no item is in both arguments, no key twice in one.

    Raises ValueError for an item that is not of this form.
    """
    removed, added = (dict(zip(form.keys(items), items, strict=True)) for items in (removes, adds))
    keys = sorted([*removed, *(key for key in added if key not in removed)])  # mostly two sorted runs: linear
    remove, add, end = form.remove, form.add, form.end + b"\n"
    if not removed or not added:
        head, only = (add, added) if added else (remove, removed)
        data = head + (end + head).join([only[key] for key in keys]) + end if keys else b""
        return DeltaPart(data, removed=len(removed), added=len(added))
    changed = len(removed) + len(added) - len(keys)
    if changed:
        lines = []
        for key in keys:
            if key in removed:
                lines.append(remove + removed[key])
            if key in added:
                lines.append(add + added[key])
    else:
        lines = [remove + removed[key] if key in removed else add + added[key] for key in keys]
    lines.append(b"")
    return DeltaPart(end.join(lines), len(removed) - changed, len(added) - changed, changed)


def _render_plain(form: Form, removes: list[bytes], adds: list[bytes], old: set[bytes]) -> DeltaPart:
    """`render` for plain items (`Form.is_plain`), without computing keys. `old` contains all items of `removes` and
    none of `adds`."""
    remove, add, end = form.remove, form.add, form.end + b"\n"
    if removes and adds:
        lines = [remove + item if item in old else add + item for item in sorted(removes + adds)]
        lines.append(b"")
        return DeltaPart(end.join(lines), len(removes), len(adds))
    head, items = (add, sorted(adds)) if adds else (remove, sorted(removes))
    return DeltaPart(head + (end + head).join(items) + end if items else b"", len(removes), len(adds))


def _split(form: Form, delta: bytes) -> tuple[list[bytes], list[bytes]]:
    """`parse` for a delta that was verified: faster, without checks."""
    remove, add = len(form.remove), len(form.add)
    lines = delta.split(form.end + b"\n")
    lines.pop()
    # the first octet in which `remove` and `add` differ is enough to tell them apart
    at = next(at for at, octets in enumerate(zip(form.remove, form.add, strict=False)) if octets[0] != octets[1])
    removal = form.remove[at]
    removes = [line[remove:] for line in lines if line[at] == removal]
    return removes, [line[add:] for line in lines if line[at] != removal]


def parse(form: Form, delta: bytes) -> tuple[list[bytes], list[bytes]]:
    """The removed and the added items, each in the order of the delta. Raises ValueError if it is not a delta."""
    if not delta:
        return [], []
    if not delta.endswith(b"\n"):
        raise ValueError("the delta is cut short")
    lines = delta.split(b"\n")
    lines.pop()
    remove, add, end = form.remove, form.add, form.end
    stop = -len(end) or None
    removes = [line[len(remove) : stop] for line in lines if line.startswith(remove)]
    adds = [line[len(add) : stop] for line in lines if line.startswith(add)]
    if len(removes) + len(adds) != len(lines) or delta.count(end + b"\n") != len(lines):
        raise ValueError("a line of a delta is neither a removal nor an addition")
    return removes, adds


def in_turn(work: Callable[[int], DeltaPart], parts: int) -> Iterable[DeltaPart]:
    """A Spread that computes the parts one after another, in this process."""
    return map(work, range(parts))


def between(form: Form, old: Buffer, new: Buffer, spread: Spread = in_turn) -> Iterator[DeltaPart]:
    """Yield the delta from one sorted file of items to another, part by part.

    Raises ValueError if a file is cut short or contains an entry that is not canonical.
    """
    splits = _split_offsets(form, (old, new), (_offset_of_item, _offset_of_item))

    def work(number: int) -> DeltaPart:
        old_part, new_part = _parts((old, new), splits, number)
        if old_part == new_part:
            return DeltaPart(b"")
        if len(splits[0]) > 2:
            _check_escapes(form, old_part, new_part)
        before, after = _lines(old_part), _lines(new_part)
        before_set = set(before)  # the lists keep their order, so that all sorting below is linear
        removes, adds = before, after
        if not before_set.isdisjoint(after):
            after_set = set(after)
            removes = [item for item in before if item not in after_set]
            adds = [item for item in after if item not in before_set]
        if form.is_plain(old_part, len(before)) and form.is_plain(new_part, len(after)):
            return _render_plain(form, removes, adds, before_set)
        return render(form, removes, adds)

    return iter(spread(work, len(splits[0]) - 1))


def apply(
    form: Form, old: Buffer, delta: Buffer, spread: Spread = in_turn, in_one_piece: int | None = None
) -> Iterator[bytes | memoryview]:
    """Yield the file of items that results from applying the delta to `old`, in chunks.

    A delta above `in_one_piece` bytes is never held in memory as a whole. Raises ValueError if the delta does not fit:
    it removes an item that is missing, or adds one that is present.
    """
    if len(delta) <= SMALL or len(delta) < min(len(old) // STREAM_SHARE, in_one_piece or len(old)):
        yield from splice(old, *map(sorted, parse(form, delta[:])))
        return
    splits = _split_offsets(form, (old, delta), (_offset_of_item, offset_of_change))

    def work(number: int) -> DeltaPart:
        old_part, delta_part = _parts((old, delta), splits, number)
        if not delta_part:
            return DeltaPart(old_part)
        if len(splits[0]) > 2:
            _check_escapes(form, old_part, delta_part)
        lines = _lines(old_part)
        removes, adds = _split(form, delta_part)
        removed = set(removes)
        kept = [line for line in lines if line not in removed]
        if len(lines) - len(kept) != len(removes):
            raise ValueError("a line to remove is missing")
        if not set(kept).isdisjoint(adds):
            raise ValueError("a line to add is already present")
        made = sorted(kept + adds)
        return DeltaPart(b"\n".join(made) + b"\n" if made else b"")

    yield from (part.data for part in spread(work, len(splits[0]) - 1))


def net(
    form: Form, deltas: Sequence[Buffer], *, reverse: bool = False, spread: Spread = in_turn
) -> Iterator[DeltaPart]:
    """Yield one delta with the same effect as several consecutive ones, part by part. With `reverse`: the delta that
    undoes them.

    An item that is removed and added again is not in it. Raises ValueError if the deltas do not follow each other.
    The parts of a single delta have no counts.
    """
    if len(deltas) == 1 and not reverse:
        (only,) = deltas
        return (DeltaPart(only[begin:end]) for begin, end in pairwise(blocks(only, PART)))
    splits = split_offsets_of_deltas(form, deltas, NET_PART if len(deltas) > 2 else PART * len(deltas))

    def work(number: int) -> DeltaPart:
        lines = b"".join(_parts(deltas, splits, number))
        removes, adds = net_items(form, lines)
        if reverse:
            removes, adds = adds, removes
        items = [*removes, *adds]
        if form.is_plain(b"\n".join(items), len(items)):
            return _render_plain(form, removes, adds, set(removes))
        return render(form, removes, adds)

    return iter(spread(work, len(splits[0]) - 1)) if deltas else iter(())


def net_items(form: Form, lines: bytes) -> tuple[list[bytes], list[bytes]]:
    """The items that several consecutive deltas remove and add in effect, from all their verified lines in any order.

    Removals and additions of an item alternate; ValueError is raised if not. Sorted runs stay sorted: they sort faster.
    """
    removes, adds = _split(form, lines)
    removed, added = set(removes), set(adds)
    if len(removed) < len(removes) or len(added) < len(adds):
        counts = Counter(adds)
        counts.subtract(removes)
        if any(abs(count) > 1 for count in counts.values()):
            raise ValueError("the deltas do not follow each other")
        removed_items = [item for item, count in counts.items() if count < 0]
        return removed_items, [item for item, count in counts.items() if count > 0]
    return [item for item in removes if item not in added], [item for item in adds if item not in removed]


def _parts(files: Sequence[Buffer], splits: Splits, number: int) -> list[bytes]:
    """Part `number` of each file."""
    return [file[offsets[number] : offsets[number + 1]] for file, offsets in zip(files, splits, strict=True)]


def _lines(block: bytes) -> list[bytes]:
    lines = block.split(b"\n")
    if lines.pop():
        raise ValueError("the last line is cut short")
    return lines


def _check_escapes(form: Form, *blocks: bytes) -> None:
    """Raises ValueError for an escaped quote or control character, which files and deltas order differently in a way
    that `Form.boundary` does not expect. Canonical values contain none."""
    if form is ENTRIES and any(b"\\" in block and (b'\\"' in block or b"\\u" in block) for block in blocks):
        raise ValueError("an entry is not canonical: it has an escaped quote or control character")


# -- the same boundaries in several files ------------------------------------------------------------------------------

Splits = list[list[int]]
OffsetOf = Callable[[Form, Buffer, bytes, int], int]
"""A function of (form, file, boundary, low): the offset of the first line, from `low` on, not below the boundary."""


def _offset_of_item(form: Form, file: Buffer, boundary: bytes, low: int) -> int:
    return position(file, boundary, low)


def offset_of_change(form: Form, delta: Buffer, boundary: bytes, low: int = 0) -> int:
    """The offset of the first line of a delta, from offset `low` on, whose key is not below the boundary."""
    return position(delta, boundary, low, key=lambda line: form.keys([form.item(line)])[0])


def split_offsets_of_deltas(form: Form, deltas: Sequence[Buffer], size: int) -> Splits:
    """For each delta the offsets of its parts, and its length. Part N of all deltas covers the same range of keys;
    the parts N together have about `size` bytes."""
    largest = max(map(len, deltas), default=0)
    share = max(_LEAST, size * largest // max(1, sum(map(len, deltas))))
    return _split_offsets(form, deltas, [offset_of_change] * len(deltas), share)


def _split_offsets(form: Form, files: Sequence[Buffer], offset_of: Sequence[OffsetOf], size: int = PART) -> Splits:
    """For each file the offsets of its parts, and its length. Part N of all files covers the same range of keys,
    and has about `size` bytes in the largest file."""
    splits = [[0] for _ in files]
    if not files:
        return splits
    largest = max(range(len(files)), key=lambda number: len(files[number]))
    sampled = files[largest]
    at = 0
    boundary = b""
    while True:
        begin = sampled.find(b"\n", min(at + size, len(sampled))) + 1
        if not begin or begin >= len(sampled):
            break
        at = begin
        line = sampled[begin : sampled.find(b"\n", begin)]
        split_key = form.boundary(line if offset_of[largest] is _offset_of_item else form.item(line))
        if split_key <= boundary:
            continue
        boundary = split_key
        for number, file in enumerate(files):
            splits[number].append(offset_of[number](form, file, boundary, splits[number][-1]))
    for number, file in enumerate(files):
        splits[number].append(len(file))
    return splits
