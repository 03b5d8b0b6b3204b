"""When entries end: reads `expires` in canonical lines, without parsing the rest of their JSON.

Only a canonical instant (sources/formats/dates.py) ends an entry. Lines of an earlier canonicaliser may have another
form of date: such an entry lives until its source is read again. Texts of instants sort by time, so they are compared
as texts. No text inside a line can imitate the name of the attribute, since a quote inside a text is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from blocklistd.lines.keys import Buffer
from blocklistd.lines.snapshot import blocks

_NAME: Final = b',"expires":"'
_EXPIRES: Final = re.compile(rb',"expires":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"')
_BLOCK: Final = 1 << 20  # bytes searched at a time


def expiry_of(line: bytes) -> bytes | None:
    """The instant at which the entry of a line ends; None if it does not end."""
    found = _EXPIRES.search(line) if _NAME in line else None
    return found[1] if found is not None else None


def has_ended(line: bytes, now: bytes | None) -> bool:
    """Whether the entry of a line has ended at the instant `now`: an entry ends at its `expires`. None: before all
    instants."""
    expiry = expiry_of(line)
    return expiry is not None and now is not None and expiry <= now


def may_end(text: bytes) -> bool:
    """Whether one of these lines may have an `expires`. Costs next to nothing for a block of lines."""
    return _NAME in text


def any_may_end(buffer: Buffer) -> bool:
    """`may_end` of a complete file."""
    return next(_dated_blocks(buffer), None) is not None


def earliest(instants: Iterable[bytes | None]) -> bytes | None:
    """The first of some instants; None if there is none."""
    return min((instant for instant in instants if instant is not None), default=None)


class Expiries(NamedTuple):
    """The lines of a file that have ended, and the first instant at which another one ends (None: no other does)."""

    ended: list[bytes]
    next: bytes | None


def expiries(buffer: Buffer, now: bytes | None, limit: int, since: bytes | None = None) -> Expiries | None:
    """The expiries of a file at the instant `now`. None if more than `limit` lines have ended. `since`: without the
    lines that had ended by then."""
    ended: list[bytes] = []
    after = None
    for block in _dated_blocks(buffer):
        for found in _EXPIRES.finditer(block):
            expiry = found[1]
            if since is not None and expiry <= since:
                continue
            if now is not None and expiry <= now:
                ended.append(block[block.rfind(b"\n", 0, found.start()) + 1 : block.index(b"\n", found.end())])
                if len(ended) > limit:
                    return None
            elif after is None or expiry < after:
                after = expiry
    return Expiries(ended, after)


def first_expiry(buffer: Buffer) -> bytes | None:
    """The first instant at which a line of a file, or of a delta, ends; None if no line does."""
    return earliest(expiry for block in _dated_blocks(buffer) for expiry in _EXPIRES.findall(block))


def _dated_blocks(buffer: Buffer) -> Iterator[bytes]:
    """The blocks of complete lines in which a line may end."""
    edges = blocks(buffer, _BLOCK)
    return (block for start, end in pairwise(edges) if may_end(block := buffer[start:end]))
