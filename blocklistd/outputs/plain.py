"""The format `plain`: the value of each entry, one a line, in the order of the snapshot."""

from __future__ import annotations

from typing import BinaryIO

from blocklistd.lines.keys import type_and_value


def render(snapshot: BinaryIO, out: BinaryIO) -> int:
    """Write the value of each entry. Returns the number of skipped entries: always 0."""
    for line in snapshot:
        out.write(type_and_value(line.rstrip(b"\n"))[1] + b"\n")
    return 0
