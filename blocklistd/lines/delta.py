"""Deltas: the difference of two sorted files, itself a sorted file. Pure functions on buffers.

A delta has a line for each item (an entry of a list, a rule of a zone) that is removed or added, ordered by key, the
removal before the addition of the same key. `Form` says how a line is written. Entries use the feed's diff format
(docs/feed.md), so the delta of a version is, byte for byte, the diff from the version before:

    {"remove":ENTRY}
    {"add":ENTRY}

Large files are worked on in parts of some PART bytes, split at the same key in each file, so that no function holds
more than a few parts in memory, and several processes can share the work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from blocklistd.lines.keys import Buffer, type_and_value
from blocklistd.lines.snapshot import blocks, edited, edits, position

PART: Final = 1 << 20  # bytes of the largest file in one part
NET_PART: Final = 12 << 20  # bytes of all deltas in one part, where they are more than two
_LEAST: Final = 1 << 12  # bytes of the largest of many deltas in one part
SMALL: Final = 1 << 16  # bytes of a delta that is always applied line by line
STREAM_SHARE: Final = 16  # a delta of more than one in so many of a file's bytes is applied part by part

Spread = Callable[[Callable[[int], "Part"], int], Iterable["Part"]]
"""Computes so many parts, perhaps in several processes, and yields them in order."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a delta is written. A line is `remove` or `add`, the item, `end`, newline.

    `keys` answers the keys of items, by which a delta is ordered. `cut` shortens an item to a boundary at which a file
    of items and a delta are split alike, although they may be ordered differently around single keys. `is_plain` says
    of so many items in one text that their order as bytes is that of their keys, and that a key determines its item.
    """

    remove: bytes
    add: bytes
    end: bytes
    keys: Callable[[Sequence[bytes]], list[bytes]]
    cut: Callable[[bytes], bytes]
    is_plain: Callable[[bytes, int], bool]

    def item(self, line: bytes) -> bytes:
        """The item of a line of a delta, which comes without its newline. Raises ValueError for any other line."""
        for head in (self.remove, self.add):
            if line.startswith(head) and line.endswith(self.end):
                return line[len(head) : len(line) - len(self.end)]
        raise ValueError("a line of a delta is neither a removal nor an addition")


@dataclass(frozen=True, slots=True)
class Part:
    """Whole lines of a delta or of a file of items. `removed` and `added` count keys that only one side has, `changed`
    keys whose item is another."""

    data: bytes
    removed: int = 0
    added: int = 0
    changed: int = 0


def _entry_key(line: bytes) -> bytes:
    """Type and value, so that keys sort as (type, value) does: the value as it was before it was escaped for JSON."""
    kind, value = type_and_value(line)
    return b'{"type":"%b","value":"%b' % (kind, value)


def _entry_keys(entries: Sequence[bytes]) -> list[bytes]:
    """`_entry_key` of each, at a tenth of the cost where an entry has no escapes."""
    return [
        _entry_key(line) if b"\\" in line else line[: line.index(b'"', line.index(b'"', 9) + 11)] for line in entries
    ]


def _entry_cut(line: bytes) -> bytes:
    """A boundary for lines and for keys: lines end their value with a quote, which sorts after `!` alone."""
    key = _entry_key(line)
    return min(key.partition(b"!")[0], key.partition(b"\\")[0], key=len)


def _entries_are_plain(entries: bytes, count: int) -> bool:
    """Whether each has a type, a value and an id alone, no escapes, and no character that sorts before a quote."""
    every_one_has_an_id = entries.count(b'"id":"e-') == count
    return every_one_has_an_id and entries.count(b'"') == 12 * count and b"!" not in entries and b"\\" not in entries


def _same(rule: bytes) -> bytes:
    return rule


ENTRIES: Final = Form(b'{"remove":', b'{"add":', b"}", _entry_keys, _entry_cut, _entries_are_plain)
RULES: Final = Form(b"-", b"+", b"", list, _same, lambda rules, count: True)


def render(form: Form, removes: Sequence[bytes], adds: Sequence[bytes]) -> Part:
    """The delta of these items, in any order; no item may be in both, no key twice in one.

    Raises ValueError for an item that is not one of the form's.
    """
    gone, come = (dict(zip(form.keys(items), items, strict=True)) for items in (removes, adds))
    names = sorted([*gone, *(name for name in come if name not in gone)])  # mostly two sorted runs: linear
    remove, add, end = form.remove, form.add, form.end + b"\n"
    if not gone or not come:
        head, only = (add, come) if come else (remove, gone)
        data = head + (end + head).join([only[name] for name in names]) + end if names else b""
        return Part(data, removed=len(gone), added=len(come))
    changed = len(gone) + len(come) - len(names)
    if changed:
        lines = []
        for name in names:
            if name in gone:
                lines.append(remove + gone[name])
            if name in come:
                lines.append(add + come[name])
    else:
        lines = [remove + gone[name] if name in gone else add + come[name] for name in names]
    lines.append(b"")
    return Part(end.join(lines), len(gone) - changed, len(come) - changed, changed)


def _render_plain(form: Form, removes: list[bytes], adds: list[bytes], old: set[bytes]) -> Part:
    """What `render` answers for plain items without their keys; `old` holds the items of `removes` and none of
    `adds`."""
    remove, add, end = form.remove, form.add, form.end + b"\n"
    if removes and adds:
        lines = [remove + item if item in old else add + item for item in sorted(removes + adds)]
        lines.append(b"")
        return Part(end.join(lines), len(removes), len(adds))
    head, items = (add, sorted(adds)) if adds else (remove, sorted(removes))
    return Part(head + (end + head).join(items) + end if items else b"", len(removes), len(adds))


def _split(form: Form, delta: bytes) -> tuple[list[bytes], list[bytes]]:
    """What `parse` answers, of a delta that was verified."""
    remove, add = len(form.remove), len(form.add)
    lines = delta.split(form.end + b"\n")
    lines.pop()
    at = next(at for at, octets in enumerate(zip(form.remove, form.add, strict=False)) if octets[0] != octets[1])
    mark = form.remove[at]
    return [line[remove:] for line in lines if line[at] == mark], [line[add:] for line in lines if line[at] != mark]


def parse(form: Form, delta: bytes) -> tuple[list[bytes], list[bytes]]:
    """The removed and the added items, in the delta's order. Raises ValueError for anything else than a delta."""
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


def in_turn(work: Callable[[int], Part], parts: int) -> Iterable[Part]:
    """The parts one after another, in this process."""
    return map(work, range(parts))


def between(form: Form, old: Buffer, new: Buffer, spread: Spread = in_turn) -> Iterator[Part]:
    """The delta from one sorted file of items to another, part by part."""
    cuts = _cuts(form, (old, new), (_place_of_item, _place_of_item))

    def work(number: int) -> Part:
        a, b = (file[at[number] : at[number + 1]] for file, at in zip((old, new), cuts, strict=True))
        if a == b:
            return Part(b"")
        if len(cuts[0]) > 2:
            _check_escapes(form, a, b)
        before, after = _lines(a), _lines(b)
        left = set(before)  # the lists keep their order, and with it all sorting below is linear
        removes, adds = before, after
        if not left.isdisjoint(after):
            right = set(after)
            removes = [item for item in before if item not in right]
            adds = [item for item in after if item not in left]
        if form.is_plain(a, len(before)) and form.is_plain(b, len(after)):
            return _render_plain(form, removes, adds, left)
        return render(form, removes, adds)

    return iter(spread(work, len(cuts[0]) - 1))


def apply(form: Form, old: Buffer, delta: Buffer, spread: Spread = in_turn) -> Iterator[bytes | memoryview]:
    """The file of items that the delta leads to from `old`, in pieces.

    Raises ValueError where the delta does not fit: it removes an item that is not there, or adds one that is.
    """
    if len(delta) <= SMALL or len(delta) < len(old) // STREAM_SHARE:
        removes, adds = parse(form, delta[:])
        yield from edited(old, edits(old, sorted(removes), sorted(adds)))
        return
    cuts = _cuts(form, (old, delta), (_place_of_item, place_of_change))

    def work(number: int) -> Part:
        a, b = (file[at[number] : at[number + 1]] for file, at in zip((old, delta), cuts, strict=True))
        if not b:
            return Part(a)
        if len(cuts[0]) > 2:
            _check_escapes(form, a, b)
        lines = _lines(a)
        removes, adds = _split(form, b)
        gone = set(removes)
        kept = [line for line in lines if line not in gone]
        if len(lines) - len(kept) != len(removes):
            raise ValueError("a line to remove is not there")
        if not set(kept).isdisjoint(adds):
            raise ValueError("a line to add is there already")
        made = sorted(kept + adds)
        return Part(b"\n".join(made) + b"\n" if made else b"")

    for part in spread(work, len(cuts[0]) - 1):
        yield part.data


def net(form: Form, deltas: Sequence[Buffer], *, reverse: bool = False, spread: Spread = in_turn) -> Iterator[Part]:
    """One delta that does what several in a row do, part by part; `reverse`: what undoes them.

    An item that is removed and comes back is in neither. Raises ValueError where the deltas do not follow each other.
    """
    if len(deltas) == 1 and not reverse:
        (only,) = deltas
        at = blocks(only, PART)
        return (Part(only[begin:end]) for begin, end in pairwise(at))
    cuts = cuts_of_deltas(form, deltas, NET_PART if len(deltas) > 2 else PART * len(deltas))

    def work(number: int) -> Part:
        lines = b"".join(delta[at[number] : at[number + 1]] for delta, at in zip(deltas, cuts, strict=True))
        removes, adds = net_items(form, lines)
        if reverse:
            removes, adds = adds, removes
        items = [*removes, *adds]
        if form.is_plain(b"\n".join(items), len(items)):
            return _render_plain(form, removes, adds, set(removes))
        return render(form, removes, adds)

    return iter(spread(work, len(cuts[0]) - 1)) if deltas else iter(())


def net_items(form: Form, lines: bytes) -> tuple[list[bytes], list[bytes]]:
    """The items that the lines of several verified deltas in a row remove and add, in any order. Removals and additions
    of an item alternate, so that they cancel out to one or none. Raises ValueError where they do not.

    What comes in sorted runs stays so, and is sorted faster.
    """
    removes, adds = _split(form, lines)
    removed, added = set(removes), set(adds)
    if len(removed) < len(removes) or len(added) < len(adds):
        counts = Counter(adds)
        counts.subtract(removes)
        if any(abs(count) > 1 for count in counts.values()):
            raise ValueError("the deltas do not follow each other")
        return [item for item, count in counts.items() if count < 0], [
            item for item, count in counts.items() if count > 0
        ]
    return [item for item in removes if item not in added], [item for item in adds if item not in removed]


def _lines(block: bytes) -> list[bytes]:
    lines = block.split(b"\n")
    if lines.pop():
        raise ValueError("the last line is cut short")
    return lines


def _check_escapes(form: Form, *blocks: bytes) -> None:
    """Canonical values hold no quote and no control character: their escapes would be ordered differently in a file
    and in a delta, and `cut` does not expect that."""
    if form is ENTRIES and any(b"\\" in block and (b'\\"' in block or b"\\u" in block) for block in blocks):
        raise ValueError("an entry is not canonical: it has an escaped quote or control character")


# -- the same boundaries in several files ------------------------------------------------------------------------------

Place = Callable[[Form, Buffer, bytes, int], int]


def _place_of_item(form: Form, file: Buffer, boundary: bytes, low: int) -> int:
    return position(file, boundary, low)


def place_of_change(form: Form, delta: Buffer, boundary: bytes, low: int = 0) -> int:
    """Where the first line of a delta begins whose key is not below the boundary."""
    return position(delta, boundary, low, key=lambda line: form.keys([form.item(line)])[0])


def cuts_of_deltas(form: Form, deltas: Sequence[Buffer], size: int) -> list[list[int]]:
    """For each delta the offsets at which its parts begin, and its length: part N of all deltas has the same keys, and
    some `size` bytes in sum."""
    largest = max(map(len, deltas), default=0)
    share = max(_LEAST, size * largest // max(1, sum(map(len, deltas))))
    return _cuts(form, deltas, [place_of_change] * len(deltas), share)


def _cuts(form: Form, files: Sequence[Buffer], places: Sequence[Place], size: int = PART) -> list[list[int]]:
    """For each file the offsets at which its parts begin, and its length: part N of all files has the same keys, and
    some `size` bytes of the largest file."""
    cuts = [[0] for _ in files]
    if not files:
        return cuts
    largest = max(range(len(files)), key=lambda number: len(files[number]))
    sampled, place = files[largest], places[largest]
    at = 0
    boundary = b""
    while True:
        begin = sampled.find(b"\n", min(at + size, len(sampled))) + 1
        if not begin or begin >= len(sampled):
            break
        at = begin
        line = sampled[begin : sampled.find(b"\n", begin)]
        wanted = form.cut(line if place is _place_of_item else form.item(line))
        if wanted <= boundary:
            continue
        boundary = wanted
        for number, file in enumerate(files):
            cuts[number].append(places[number](form, file, boundary, cuts[number][-1]))
    for number, file in enumerate(files):
        cuts[number].append(len(file))
    return cuts
