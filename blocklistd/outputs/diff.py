"""The exact difference of two versions, as subscribers get it: NDJSON, by (type, value), remove before add.

{"remove":ENTRY}
{"add":ENTRY}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from blocklistd.lines import Buffer
from blocklistd.outputs.snapshot import splice

_REMOVE: Final = b'{"remove":'
_ADD: Final = b'{"add":'


def render(changes: Iterable[tuple[bytes, int]]) -> Iterator[bytes]:
    """The diff's lines from (line, +1 added | -1 removed), which must come in the diff's order."""
    for line, op in changes:
        yield (_ADD if op > 0 else _REMOVE) + line + b"}\n"


def parse(diff: bytes) -> tuple[list[bytes], list[bytes]]:
    """The removed and the added lines, each sorted bytewise; raises ValueError for anything else than a diff."""
    removes: list[bytes] = []
    adds: list[bytes] = []
    if diff and not diff.endswith(b"\n"):
        raise ValueError("the diff is cut short")
    for number, step in enumerate(diff.split(b"\n")[:-1], 1):
        if not step.endswith(b"}"):
            raise ValueError(f"line {number} of the diff is not whole")
        if step.startswith(_REMOVE):
            removes.append(step[len(_REMOVE) : -1])
        elif step.startswith(_ADD):
            adds.append(step[len(_ADD) : -1])
        else:
            raise ValueError(f"line {number} of the diff is neither a remove nor an add")
    return sorted(removes), sorted(adds)


def apply(snapshot: Buffer, diff: bytes) -> Iterator[bytes | memoryview]:
    """The other version's snapshot, in pieces; raises ValueError if the diff does not fit this snapshot."""
    removes, adds = parse(diff)
    return splice(snapshot, removes, adds)
