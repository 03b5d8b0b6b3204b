"""Applies the differences of an IXFR to the lines of a Response Policy Zone, at a cost that grows with the differences.
Pure.

An exception changes the lines of the names above it. So if a zone has any, before or after, all its rules are read.
"""

from __future__ import annotations

from typing import BinaryIO

from blocklistd.errors import ParseError
from blocklistd.lines.keys import Buffer
from blocklistd.lines.snapshot import position
from blocklistd.sources.formats.rpz_zone import EXCEPTION, NO_FIT, Zone, base_name


def update_lines(earlier: Buffer, body: Buffer, out: BinaryIO) -> None:
    """Write the lines of the zone that results from `earlier`, its lines, and the differences in `body`
    (`Zone.differences`). Raises ParseError if they do not fit."""
    zone, start = Zone.of_head(earlier)
    differences = zone.differences(body)
    has_exceptions = earlier.find(EXCEPTION) >= 0 or any(EXCEPTION in found.rule for found in differences)
    if has_exceptions:
        complete = Zone.of_lines(earlier)
        complete.serial = zone.serial
        complete.apply(differences)
        complete.write(out)
        return
    ranges: list[tuple[bytes, int, int]] = []
    for name in sorted({base_name(found.name) for found in differences}):
        begin = end = _position(earlier, name + b"\t", start)
        if earlier[begin : begin + len(name) + 1] == name + b"\t":
            end = earlier.find(b"\n", begin) + 1
            zone.read_line(earlier[begin : end - 1])
        ranges.append((name, begin, end))
    zone.apply(differences)
    zone.write_head(out)
    for name, begin, end in ranges:
        out.write(earlier[start:begin])
        out.write(zone.line(name))
        start = end
    out.write(earlier[start:])


def _position(earlier: Buffer, searched: bytes, start: int) -> int:
    try:
        return position(earlier, searched, start)
    except ValueError:
        raise ParseError(NO_FIT) from None
