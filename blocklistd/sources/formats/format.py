"""Describes a format as a value. To add one, write a module here that ends with its `FORMAT`, and a line in FORMATS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from blocklistd.lines.keys import Buffer
from blocklistd.sources.formats.records import FormatOptions, Record, Reject
from blocklistd.sources.transports.transport import TransferMode


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
    always_has_types: bool = False
    """Whether each record contains its type; `defaults.type` and `fields` are then errors."""
    value: str | None = None
    """A description of `fields.value`, for the error when it is missing; None if records have no named fields."""
    field: re.Pattern[str] | None = None
    """A pattern that every text in `fields` matches in full; None to allow any text."""
    field_expected: str = ""
    """A description of such a text, for the error when one does not match."""
    place: re.Pattern[str] | None = None
    """A pattern that `options.records` matches in full, for a format that has this option. If the empty text does not
    match, the option is required."""
    place_expected: str = ""
    """A description of such a text, for the error when it does not match."""
    options: frozenset[str] = frozenset()
    """The names of the source's `options` that the format supports."""
    has_ids: bool = False
    """Whether a record may have an id, which its entry then keeps. For lists that another blocklistd publishes."""
    is_implied: bool = False
    """Whether sources have the format by their transport (`Transport.format`) and not by the key `format`."""
    to_lines: Callable[[Buffer, Buffer | None, FormatOptions, BinaryIO], None] | None = None
    """For a format whose records are not lines: a function of (body, earlier, options, out) that writes each record of
    the decoded body as one line to `out`, a file. `records`, and all that is said here of a body, then refers to these
    lines. `earlier`: the lines that were written for the last body, if this body only continues it (a log of changes);
    the function then writes the lines that result from both. None for a complete body. Raises ParseError if the body is
    not in this format."""
    transfer: TransferMode = TransferMode.BODY
    """How lists of the format are transferred, where the proof of origin allows it."""
    fields: tuple[str, ...] = ()
    """The required names in `fields`, besides `value`, that only this format has."""
    reasons: tuple[str, ...] = ()
    """The messages of the errors of `to_lines` and `records`, if sources/reasons.py does not have them. Any other
    message is replaced by a general one."""
