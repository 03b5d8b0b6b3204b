"""The format `plain`: the value of each entry, one a line, in the order of the snapshot. It has no types:
a name may be a host or a domain."""

from __future__ import annotations

from typing import BinaryIO

from blocklistd.outputs.reading import Out, entries


def render(snapshot: BinaryIO, out: Out) -> int:
    """Write the value of each entry. Returns the number of omitted entries: always 0."""
    for _, value in entries(snapshot):
        out.write(value + b"\n")
    return 0
