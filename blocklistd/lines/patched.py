"""A patch: a small change of a large file of sorted lines, kept apart from that base file.

On the disk a patch is a line that names its base, then a diff (docs/feed.md):

    {"base":"SHA-256"}
    {"remove":ENTRY}
    {"add":ENTRY}

A patch never has a patch as its base. It is not changed: `updated` makes another one of the same base.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import orjson

from blocklistd.lines.delta import ENTRIES, parse
from blocklistd.lines.keys import Buffer, key_of
from blocklistd.lines.snapshot import edits, find, splice


@dataclass(slots=True)
class PatchedLines:
    """The lines of `base` without `removes`, which `base` contains, and with `adds`, which it does not contain."""

    base: Buffer
    removes: set[bytes] = field(default_factory=set)
    adds: dict[bytes, bytes] = field(default_factory=dict)
    """The added lines by their key (lines.keys.key_of)."""

    @classmethod
    def read(cls, base: Buffer, written: bytes) -> PatchedLines:
        """Read a patch that `write` wrote. Raises ValueError for anything else.

        Whether it fits `base` is not checked here: see `pieces` and `check`.
        """
        removes, adds = parse(ENTRIES, written[written.index(b"\n") + 1 :])
        return cls(base, set(removes), {key_of(line): line for line in adds})

    def write(self, base: str) -> Iterator[bytes]:
        """Yield the bytes of the patch, line by line. `base`: the SHA-256 of the base file, in hex."""
        yield orjson.dumps({"base": base}) + b"\n"
        for head, lines in ((ENTRIES.remove, self.removes), (ENTRIES.add, self.adds.values())):
            for line in sorted(lines):
                yield head + line + ENTRIES.end + b"\n"

    def find(self, key: bytes) -> bytes | None:
        """The line with this key, or None."""
        added = self.adds.get(key)
        if added is not None:
            return added
        line = find(self.base, key)
        return None if line is None or line in self.removes else line

    def updated(self, removes: Iterable[bytes], adds: Iterable[bytes]) -> PatchedLines:
        """A patch of the same base that also removes `removes`, which are among its lines, and adds `adds`, which are
        not."""
        all_removed, all_added = set(self.removes), dict(self.adds)
        for line in removes:
            if all_added.get(key := key_of(line)) == line:
                del all_added[key]
            else:
                all_removed.add(line)
        for line in adds:
            if line in all_removed:
                all_removed.remove(line)
            else:
                all_added[key_of(line)] = line
        return PatchedLines(self.base, all_removed, all_added)

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Yield the patched file in chunks. Raises ValueError if the patch does not fit its base."""
        return splice(self.base, sorted(self.removes), sorted(self.adds.values()))

    def check(self, other: PatchedLines) -> None:
        """Check that another patch fits the same base, given that this one does. Raises ValueError if it does not.

        A patch fits if it removes lines of the base, adds no key that is still there, adds canonical lines, and neither
        removes a line nor adds it again.
        """
        edits(self.base, sorted(other.removes - self.removes), [])
        added = set(other.adds.values())
        fresh = added - set(self.adds.values())
        if any(orjson.dumps(orjson.loads(line)) != line for line in fresh):
            raise ValueError("not a canonical line")
        back = {key_of(line) for line in self.removes - other.removes}
        if back & other.adds.keys() or added & other.removes:
            raise ValueError("a line to add is already present")
        for line in fresh:
            there = find(self.base, key_of(line))
            if there is not None and there not in other.removes:
                raise ValueError("a line to add is already present")

    def read_all(self) -> Buffer:
        """The patched file: the base itself if nothing is changed, else a copy in memory."""
        return b"".join(self.pieces()) if self.removes or self.adds else self.base

    def __len__(self) -> int:
        """The number of removed and added lines."""
        return len(self.removes) + len(self.adds)

    def lines(self) -> Iterator[bytes]:
        """Yield the removed lines, then the added lines, each in any order."""
        yield from self.removes
        yield from self.adds.values()

    def differing(self, other: PatchedLines) -> set[bytes]:
        """The lines that only one of the two patched files contains; both patches have the same base."""
        return (self.removes ^ other.removes) | (set(self.adds.values()) ^ set(other.adds.values()))


def base_of(written: bytes) -> str:
    """The SHA-256 of the base, in hex, from the first line of a patch. Raises ValueError if that line names none."""
    header = orjson.loads(written[: written.index(b"\n")])
    if not isinstance(header, dict) or not isinstance(header.get("base"), str):
        raise ValueError("not a patch: expected a first line that names its base")
    return str(header["base"])
