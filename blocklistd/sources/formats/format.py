"""What a format is, as a value. A new one is a file here that ends with its `FORMAT`, and a line in FORMATS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from blocklistd.lines.keys import Buffer
from blocklistd.sources.formats.records import FormatOptions, Record, Reject


def no_line_alone(body: Buffer, start: int, options: FormatOptions) -> int | None:
    """No line says anything without the others, as in a JSON document."""
    return None


def every_line(body: Buffer, start: int, options: FormatOptions) -> int | None:
    """Each line can be read by itself, from the first on."""
    return start


@dataclass(frozen=True, slots=True)
class Format:
    """How bodies of a format are read. Only `records` has to be given: the rest defaults to what is right for every
    format, a body that is read as a whole, by one process, each time that it changes."""

    records: Callable[[BinaryIO, FormatOptions], Iterator[Record | Reject]]
    """Streams a decoded body from its beginning. Raises ParseError if it is no list in this format, and yields a Reject
    for each record that can't be read."""
    heading: Callable[[Buffer, int, FormatOptions], int | None] = no_line_alone
    """Given where the first line begins: the offset from which on each line can be read alone, with only what is above
    that offset before it (a CSV's header). None if no line can. Such lines are read by several processes, and of a new
    body only those that changed."""
    one_value_a_line: bool = False
    """Whether a line is a value as it stands, without attributes: many are then read at a time,
    and nothing is put before them."""
    says_types: bool = True
    """Whether records can say their type; else `defaults.type` is required."""
    value: str | None = None
    """What `fields.value` names, for the error where it is missing; None if records have no named fields."""
    field: re.Pattern[str] | None = None
    """What the text of every field matches as a whole; None for any text."""
    field_expected: str = ""
    """What to write instead, for the error where one does not match."""
    options: frozenset[str] = frozenset()
    """The names of the source's `options` that the format has."""
