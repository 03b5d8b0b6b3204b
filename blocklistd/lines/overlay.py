"""Sorted lines as what is removed from and added to a file of them: a small change of a large file, without the file.

What is written is a line that names the base, then a diff (outputs.diff): {"base":"SHA-256"}, {"remove":…}, {"add":…}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import orjson

from blocklistd.lines.delta import ENTRIES, parse
from blocklistd.lines.keys import Buffer, key_of
from blocklistd.lines.snapshot import edits, find, splice


@dataclass(slots=True)
class Overlay:
    """`base` without the lines of `removes`, which it has, and with those of `adds`, which it has not."""

    base: Buffer
    removes: set[bytes] = field(default_factory=set)
    adds: dict[bytes, bytes] = field(default_factory=dict)
    """By key (lines.key_of)."""

    @classmethod
    def read(cls, base: Buffer, written: bytes) -> Overlay:
        """What `write` made; raises ValueError for anything else."""
        removes, adds = parse(ENTRIES, written[written.index(b"\n") + 1 :])
        return cls(base, set(removes), {key_of(line): line for line in adds})

    def write(self, base: str) -> Iterator[bytes]:
        """The overlay in pieces; `base` is the digest of the file below it."""
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

    def revised(self, removes: Iterable[bytes], adds: Iterable[bytes]) -> Overlay:
        """The same base with another change on top: lines that are here go, and lines that are not come."""
        gone, come = set(self.removes), dict(self.adds)
        for line in removes:
            if come.get(key := key_of(line)) == line:
                del come[key]
            else:
                gone.add(line)
        for line in adds:
            if line in gone:
                gone.remove(line)
            else:
                come[key_of(line)] = line
        return Overlay(self.base, gone, come)

    def pieces(self) -> Iterator[bytes | memoryview]:
        """All the lines; raises ValueError where the change does not fit the base."""
        return splice(self.base, sorted(self.removes), sorted(self.adds.values()))

    def check(self, other: Overlay) -> None:
        """Raises ValueError where another overlay of the same base does not fit it, if this one does: it removes what
        is there, adds lines of keys that are not or no longer there, and has no other way to say the same."""
        edits(self.base, sorted(other.removes - self.removes), [])
        added = set(other.adds.values())
        fresh = added - set(self.adds.values())
        if any(orjson.dumps(orjson.loads(line)) != line for line in fresh):
            raise ValueError("not a canonical line")
        back = {key_of(line) for line in self.removes - other.removes}
        if back & other.adds.keys() or added & other.removes:
            raise ValueError("a line to add is there already")
        for line in fresh:
            there = find(self.base, key_of(line))
            if there is not None and there not in other.removes:
                raise ValueError("a line to add is there already")

    def read_all(self) -> Buffer:
        """All the lines, in memory unless they are the base's."""
        return b"".join(self.pieces()) if self.removes or self.adds else self.base

    def __len__(self) -> int:
        """How many lines are changed."""
        return len(self.removes) + len(self.adds)

    def lines(self) -> Iterator[bytes]:
        """The lines in which it is not its base."""
        yield from self.removes
        yield from self.adds.values()

    def differing(self, other: Overlay) -> set[bytes]:
        """The lines that only one of two overlays of the same base has."""
        return (self.removes ^ other.removes) | (set(self.adds.values()) ^ set(other.adds.values()))


def base_of(written: bytes) -> str:
    """The digest of the base that the first line names; raises ValueError where there is none."""
    header = orjson.loads(written[: written.index(b"\n")])
    if not isinstance(header, dict) or not isinstance(header.get("base"), str):
        raise ValueError("not an overlay: expected a line that names its base")
    return str(header["base"])
