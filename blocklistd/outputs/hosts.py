"""The format `hosts`: the file of hosts(5), with addresses that lead nowhere. It can express hosts: a line is about one
name, never about the names below it."""

from __future__ import annotations

from typing import BinaryIO

from blocklistd.outputs.reading import entries


def render(snapshot: BinaryIO, out: BinaryIO) -> int:
    """Write two lines for each host. Returns the number of omitted entries: all others."""
    omitted = 0
    for kind, value in entries(snapshot):
        if kind == b"host":
            out.write(b"0.0.0.0 %b\n:: %b\n" % (value, value))
        else:
            omitted += 1
    return omitted
