"""XML: `options.records` is the path of a repeated element, `fields` and `options.where` are paths from it
(elements.py).

Each record becomes a line of JSON with the texts of these paths, and is then read as NDJSON: of a new body only the
records that changed are read. Line numbers in reports are therefore numbers of records. If the value is there several
times, each is a record of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, Final

from blocklistd.lines.keys import Buffer
from blocklistd.sources.formats import elements, ndjson
from blocklistd.sources.formats.flat_elements import read_lines
from blocklistd.sources.formats.format import Format, all_lines_independent
from blocklistd.sources.formats.records import FormatOptions, Record, Reject


def to_lines(body: Buffer, earlier: Buffer | None, options: FormatOptions, out: BinaryIO) -> None:
    """Write the texts of each record as a line (`Format.to_lines`). Raises ParseError."""
    out.writelines(read_lines(body, options.records, paths(options)))


def paths(options: FormatOptions) -> list[str]:
    """The paths that the source reads from a record."""
    return list(dict.fromkeys((*options.fields.values(), *options.where, *options.unless)))


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Yield the records of the lines that `to_lines` wrote (`Format.records`). Rejects: as ndjson.records."""
    return ndjson.records(
        body,
        replace(
            options,
            fields={part: _pointer(path) for part, path in options.fields.items()},
            where={_pointer(path): expected for path, expected in options.where.items()},
            unless={_pointer(path): expected for path, expected in options.unless.items()},
        ),
    )


def _pointer(path: str) -> str:
    """The JSON Pointer to the text at a path, in a line."""
    return "/" + path.replace("~", "~0").replace("/", "~1")


FORMAT: Final = Format(
    records,
    first_independent_line=all_lines_independent,
    to_lines=to_lines,
    value="a path to the value, like name",
    field=elements.PATH,
    field_expected="a path from the record: name, a/b, @id, a/@id, or . for its own text",
    place=elements.RECORDS,
    place_expected="the path of the repeated element from the root, like register/position",
    options=frozenset({"records", "timezone", "where", "unless"}),
    reasons=elements.REASONS,
)
