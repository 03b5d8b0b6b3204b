"""The format `hosts`: the file of hosts(5), with addresses that lead nowhere. It can express hosts: a line is about one
name, never about the names below it."""

from __future__ import annotations

from typing import BinaryIO, Final

from blocklistd.outputs.reading import Out, Says, entries, write_lines

_SAYS: Final[Says] = {b"host": lambda name: b"0.0.0.0 %b\n:: %b\n" % (name, name)}


def render(snapshot: BinaryIO, out: Out) -> int:
    """Write two lines for each host. Returns the number of omitted entries: all others."""
    return write_lines(entries(snapshot), out, _SAYS)
