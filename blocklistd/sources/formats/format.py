"""Describes a format as a value. To add one, write a module here that ends with its `FORMAT`, and a line in FORMATS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from blocklistd.lines.keys import Buffer
from blocklistd.sources.formats.records import FormatOptions, Record, Reject


def no_independent_lines(body: Buffer, start: int, options: FormatOptions) -> int | None:
    """For `Format.first_independent_line`: no line can be read without the others, as in one JSON document."""
    return None


def all_lines_independent(body: Buffer, start: int, options: FormatOptions) -> int | None:
    """For `Format.first_independent_line`: every line can be read without the others."""
    return start


@dataclass(frozen=True, slots=True)
class Format:
    """How bodies of a format are read. Only `records` is required. The defaults fit every format: one process reads the
    complete body each time that it changes."""

    records: Callable[[BinaryIO, FormatOptions], Iterator[Record | Reject]]
    """A function of (body, options) that streams a decoded body from its beginning. Yields a Reject for each record
    that can't be read. Raises ParseError if the body is no list in this format."""
    first_independent_line: Callable[[Buffer, int, FormatOptions], int | None] = no_independent_lines
    """A function of (body, start, options), where `start` is the offset of the first line. Returns the offset from
    which each line can be read without the other lines, if it is given the bytes between the two offsets (the header of
    a CSV). None if lines can't be read alone. Several processes read such lines, and only the changed lines of a new
    body are read."""
    one_value_a_line: bool = False
    """Whether each line is one value, without attributes. Many lines are then read at once."""
    has_types: bool = True
    """Whether a record can contain its type; if not, `defaults.type` is required."""
    value: str | None = None
    """A description of `fields.value`, for the error when it is missing; None if records have no named fields."""
    field: re.Pattern[str] | None = None
    """A pattern that every text in `fields` matches in full; None to allow any text."""
    field_expected: str = ""
    """A description of such a text, for the error when one does not match."""
    options: frozenset[str] = frozenset()
    """The names of the source's `options` that the format supports."""
