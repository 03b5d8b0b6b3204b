"""Reads chunks of a body, each of complete lines and without the other chunks."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Final

from blocklistd.kinds import DIGITS, PLAIN, plain_pattern
from blocklistd.limits import MAX_URL
from blocklistd.lines.keys import Buffer
from blocklistd.lines.snapshot import blocks
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions, default_attributes
from blocklistd.sources.intake import form
from blocklistd.sources.intake.canonical import HEADS, TAIL, Reading, read

CHUNK: Final = 4 << 20  # bytes of a chunk, approximately

_VALUE: Final = re.compile("[a-z0-9_-]")  # the first character of a canonical value

Reader = Callable[[bytes], Reading]
"""Reads a chunk of complete lines; the last one may lack its newline. Line numbers count from 1 in the chunk."""


def is_bulk(format: str, options: FormatOptions) -> bool:
    """Whether the source is configured for one hash a line, so that bulk.py can read its bodies."""
    return _lines_are_values(format, options) and not options.wildcards and options.defaults.get("type") in DIGITS


def _lines_are_values(format: str, options: FormatOptions) -> bool:
    """Whether every line that looks like a value is one: the format has one a line, and no comment looks like one."""
    return FORMATS[format].one_value_a_line and not _VALUE.match(options.comment or "#")


def offsets(body: Buffer, start: int) -> list[int]:
    """The offset of each chunk of a body, from `start` on, and the length of the body."""
    return blocks(body, CHUNK, start)


def reader(format: str, options: FormatOptions, head: bytes = b"") -> Reader:
    """The function that reads chunks of a source's bodies. `head`: text that each chunk needs before it (the header of
    a CSV); its lines are not counted."""
    kind = options.defaults.get("type", "")
    if _lines_are_values(format, options) and kind in PLAIN and not default_attributes(options):
        return lambda chunk: _read_values(chunk, kind, format, options) or _read_records(chunk, format, options, b"")
    if FORMATS[format].has_ids:  # another blocklistd has written the lines
        return lambda chunk: _read_canonical(chunk) or _read_records(chunk, format, options, head)
    return lambda chunk: _read_records(chunk, format, options, head)


def _read_records(chunk: bytes, format: str, options: FormatOptions, head: bytes) -> Reading:
    """Read a chunk by its format, record by record."""
    reading = read(FORMATS[format].records(io.BytesIO(head + chunk), options))
    above = head.count(b"\n")
    if above:
        reading.rejects = [(number - above, code) for number, code in reading.rejects]
    return reading


def _read_canonical(chunk: bytes) -> Reading | None:
    """Read a chunk of which every line is canonical, without parsing each line. None if one is not, or the lines are
    not in order."""
    try:
        form.count(chunk)
    except (ValueError, TypeError, RecursionError):
        return None
    return Reading(chunk.decode().split("\n")[:-1], plain=False)


def _read_values(chunk: bytes, kind: str, format: str, options: FormatOptions) -> Reading | None:
    """Read a chunk in which most lines are canonical values, at half the cost: these are recognised by one pattern, and
    only the other lines are read by `_read_records`. None if the chunk is not UTF-8 or has a line longer than MAX_URL.
    """
    try:
        text = chunk.decode()
    except UnicodeDecodeError:
        return None
    values = text.replace("\r\n", "\n").split("\n")
    if not values[-1]:
        values.pop()
    matches = plain_pattern(kind, text).fullmatch
    others: list[int] = []  # indexes of the lines that are not seen to be canonical values
    if "xn--" in text or not all(map(matches, values)):
        others = [index for index, value in enumerate(values) if "xn--" in value or not matches(value)]
    if max(map(len, values), default=0) > MAX_URL:
        return None
    rest = _read_records("\n".join([values[index] for index in others]).encode(), format, options, b"")
    rest.rejects = [(others[number - 1] + 1, code) for number, code in rest.rejects]
    if others:
        skipped = set(others)
        values = [value for index, value in enumerate(values) if index not in skipped]
    head = HEADS[kind]
    rest.lines += [f"{head}{value}{TAIL}" for value in values]
    return rest
