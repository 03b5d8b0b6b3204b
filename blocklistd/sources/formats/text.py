"""Plain text: one value a line, all of the type `defaults.type`. Blank lines are skipped, and lines that begin with
`options.comment` (default `#`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from blocklistd.sources.formats.format import Format, all_lines_independent
from blocklistd.sources.formats.records import FormatOptions, Record, Reject, default_attributes, lines, type_refusal


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Yield a record for each value (`Format.records`). A `#` inside a line is part of the value.

    Rejects: too-long, not-utf8, no-type, unknown-type.
    """
    comment = (options.comment or "#").encode()
    type = options.defaults.get("type", "")
    refusal = type_refusal(type)
    attributes = default_attributes(options)
    for number, line in lines(body):
        if line is None:
            yield Reject(number, "too-long")
            continue
        trimmed = line.strip()
        if not trimmed or trimmed.startswith(comment):
            continue
        try:
            value = trimmed.decode()
        except UnicodeDecodeError:
            yield Reject(number, "not-utf8")
            continue
        if refusal is not None:
            yield Reject(number, refusal)
        elif options.wildcards and value.startswith("*."):
            yield Record(number, "domain", value[2:], attributes)
        else:
            yield Record(number, type, value, attributes)


FORMAT: Final = Format(
    records,
    first_independent_line=all_lines_independent,
    one_value_a_line=True,
    has_types=False,
    options=frozenset({"comment", "wildcards"}),
)
