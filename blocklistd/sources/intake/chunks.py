"""A body by chunks of whole lines: each read for itself, several at a time, or only those that changed."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Final

from blocklistd.kinds import DIGITS, PLAIN, plain
from blocklistd.limits import MAX_URL
from blocklistd.lines.keys import Buffer
from blocklistd.lines.snapshot import blocks
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions, default_attributes
from blocklistd.sources.intake.canonical import HEADS, TAIL, Reading, read

CHUNK: Final = 4 << 20  # bytes read at a time

_VALUE: Final = re.compile("[a-z0-9_-]")  # the first character of a canonical value

Reader = Callable[[bytes], Reading]


def is_bulk(format: str, options: FormatOptions) -> bool:
    """Whether a body is, for the most part, a hash a line (bulk.py)."""
    return _values_stand(format, options) and not options.wildcards and options.defaults.get("type") in DIGITS


def _values_stand(format: str, options: FormatOptions) -> bool:
    """Whether every line that looks like a value is one: the format has one a line, and no comment begins like it."""
    return FORMATS[format].one_value_a_line and not _VALUE.match(options.comment or "#")


def offsets(body: Buffer, start: int) -> list[int]:
    """Where the chunks of a body begin, the first at `start`, and where the last one ends."""
    return blocks(body, CHUNK, start)


def reader(format: str, options: FormatOptions, head: bytes = b"") -> Reader:
    """Reads chunks. `head` is put before each of them (a CSV's header); its lines are not counted: line numbers are
    from 1 within the chunk."""
    kind = options.defaults.get("type", "")
    if _values_stand(format, options) and kind in PLAIN and not default_attributes(options):
        return lambda chunk: _plain(chunk, kind, format, options) or _any(chunk, format, options, b"")
    return lambda chunk: _any(chunk, format, options, head)


def _any(chunk: bytes, format: str, options: FormatOptions, head: bytes) -> Reading:
    reading = read(FORMATS[format].records(io.BytesIO(head + chunk), options))
    above = head.count(b"\n")
    if above:
        reading.rejects = [(number - above, code) for number, code in reading.rejects]
    return reading


def _plain(chunk: bytes, kind: str, format: str, options: FormatOptions) -> Reading | None:
    """Values that are canonical as they stand, found many at a time, at half the cost; what else there is of
    lines is read as any. None where that is not to be had."""
    try:
        text = chunk.decode()
    except UnicodeDecodeError:
        return None
    values = text.replace("\r\n", "\n").split("\n")
    if not values[-1]:
        values.pop()
    whole = plain(kind, text).fullmatch
    others: list[int] = []
    if "xn--" in text or not all(map(whole, values)):
        others = [number for number, value in enumerate(values) if "xn--" in value or not whole(value)]
    if max(map(len, values), default=0) > MAX_URL:
        return None
    rest = _any("\n".join([values[number] for number in others]).encode(), format, options, b"")
    rest.rejects = [(others[number - 1] + 1, code) for number, code in rest.rejects]
    if others:
        skipped = set(others)
        values = [value for number, value in enumerate(values) if number not in skipped]
    head = HEADS[kind]
    rest.lines += [f"{head}{value}{TAIL}" for value in values]
    return rest
