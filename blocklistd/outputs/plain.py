"""`plain`: the value of each entry, one a line, in the snapshot's order."""

from __future__ import annotations

from typing import BinaryIO

from blocklistd.lines.keys import type_and_value


def render(snapshot: BinaryIO, out: BinaryIO) -> int:
    """Writes the rendering; how many entries it can't say: none."""
    for line in snapshot:
        out.write(type_and_value(line.rstrip(b"\n"))[1] + b"\n")
    return 0
