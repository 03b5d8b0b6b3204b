"""CSV (RFC 4180). `fields` has the names of columns, from the header row, or from `options.columns` if there is none.
Quoted fields may contain delimiters and newlines."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO, Final

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_LINE, MAX_REREAD
from blocklistd.lines.keys import Buffer
from blocklistd.model import ATTRIBUTES
from blocklistd.sources.formats.format import Format
from blocklistd.sources.formats.records import (
    WHITESPACE,
    FormatOptions,
    Record,
    Reject,
    lines,
    record_of,
    type_refusal,
)
from blocklistd.sources.formats.where import matches

_NO_WHERE: Final = "the header has no column OURS (options.where): ask the hotline for its new name"
_NO_UNLESS: Final = "the header has no column OURS (options.unless): ask the hotline for its new name"


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Yield a record for each row (`Format.records`).

    A configured column that is not in the header counts as empty in each row, except that of the value and those of
    `options.where`: without them ParseError is raised.

    Rejects: too-long, malformed (wrong quotes), short-row (a configured column is missing), long-row (more cells than
    the header, and they are not empty: an unquoted delimiter may have split a value), not-utf8, no-value, no-type,
    unknown-type, not-a-date.
    """
    rows = _rows(body, options)
    if options.head:
        _check_head(next(rows, None), options)
    header = (0, list(options.columns)) if options.columns else next(rows, None)
    if header is None:
        return
    indexes = _indexes(header, options)
    columns = {part: indexes[column] for part, column in options.fields.items() if column in indexes}
    width = len(header[1])
    value_column = columns["value"]
    type_column, host_column = columns.get("type"), columns.get("host")
    attribute_columns = [(key, columns.get(key), options.defaults.get(key, "")) for key in ATTRIBUTES]
    default_type = options.defaults.get("type", "")
    conditions = [(indexes[column], expected, is_met) for column, expected, is_met in options.conditions]
    needed = max([*columns.values(), *(column for column, _, _ in conditions)])
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        number, cells = row
        if len(cells) <= needed:
            yield Reject(number, "short-row")
            continue
        if len(cells) > width and any(map(str.strip, cells[width:])):
            yield Reject(number, "long-row")
            continue
        if any(matches(cells[column], expected) != is_met for column, expected, is_met in conditions):
            continue
        value = cells[value_column].strip(WHITESPACE)
        type = (type_column is not None and cells[type_column].strip()) or default_type
        if not value:
            yield Reject(number, "no-value")
        elif not _is_utf8(value):
            yield Reject(number, "not-utf8")
        elif refusal := type_refusal(type):
            yield Reject(number, refusal)
        else:
            found = (
                (key, (column is not None and cells[column].strip()) or default)
                for key, column, default in attribute_columns
            )
            host = cells[host_column].strip() if host_column is not None else ""
            yield record_of(number, type, value, found, options, host)


def _check_head(head: tuple[int, list[str]] | Reject | None, options: FormatOptions) -> None:
    """Raises ParseError unless the first row has the cells of `options.head`."""
    found = len(head[1]) if head is not None and not isinstance(head, Reject) else 0
    if found != len(options.head):
        raise ParseError(
            f"the first row has {found} cells: expected the {len(options.head)} of `options.head`; check `options`"
        )


def _indexes(header: tuple[int, list[str]] | Reject, options: FormatOptions) -> dict[str, int]:
    """The index in a row of each column, by its name; among them that of the value, and those of the conditions. Raises
    ParseError."""
    value_name = options.fields.get("value")
    if value_name is None:
        raise ParseError("no column is configured for the value: set `fields.value`")
    if isinstance(header, Reject):
        raise ParseError(f"the first row is not CSV ({header.code}): expected a header with the column {value_name!r}")
    indexes: dict[str, int] = {}
    for index, title in enumerate(header[1]):
        indexes.setdefault(title.strip(), index)
    if value_name not in indexes:
        raise ParseError(
            f"the header has no column {value_name!r} (fields.value) among its {len(header[1])}:"
            " expected a first row of column names, separated by commas or by `options.delimiter`;"
            " if there is no such row, set `options.columns`"
        )
    for column, _, is_met in options.conditions:
        if column not in indexes:
            raise ParseError((_NO_WHERE if is_met else _NO_UNLESS).replace("OURS", repr(column)))
    return indexes


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


_REREAD: Final = 8  # times that a line may be read again, on average


class _TooLong(Exception):
    """A row, or one line of it, has more than MAX_LINE bytes."""


class _RepeatableLines:
    """The lines for csv.reader. After a row that can't be read, all its lines but the first are yielded again.

    Order of calls, for each row: `begin`, then csv.reader takes its lines, then `give_up` if the row can't be read.

    One quote too many would swallow the rows up to the next quote, or to the end. So only the first line of such a row
    is given up, and the reader begins again at the second line. MAX_LINE bounds the bytes of a row in memory.
    MAX_REREAD, and _REREAD for each line of the body, bound the lines that are read again: without that bound a quote
    in each line would make the work quadratic.
    """

    def __init__(self, body: BinaryIO, comment: str | None) -> None:
        self._fresh = lines(body)
        self._comment = comment.encode() if comment else None
        self._again: list[tuple[int, bytes | None]] = []
        self._row: list[tuple[int, bytes | None]] = []
        self._size = 0
        self._may_reread = MAX_REREAD  # lines

    def __iter__(self) -> _RepeatableLines:
        return self

    def __next__(self) -> str:
        numbered = self._next()
        if self._comment is not None and not self._row:
            while numbered[1] is not None and numbered[1].lstrip().startswith(self._comment):
                numbered = self._next()
        self._row.append(numbered)
        line = numbered[1]
        if line is None:
            raise _TooLong
        self._size += len(line)
        if self._size > MAX_LINE:
            raise _TooLong
        return line.decode("utf-8", "surrogateescape")

    def _next(self) -> tuple[int, bytes | None]:
        if self._again:
            return self._again.pop()
        numbered = next(self._fresh)
        self._may_reread += _REREAD
        return numbered

    def begin(self) -> None:
        """Begin a row: the next line is its first."""
        self._row.clear()
        self._size = 0

    def give_up(self) -> None:
        """Give up the first line of the row; its other lines are read again. Raises ParseError if too many lines were
        read again."""
        self._may_reread -= len(self._row) - 1
        if self._may_reread < 0:
            raise ParseError("too many quotes that do not close: expected CSV with fields quoted as in RFC 4180")
        self._again.extend(reversed(self._row[1:]))

    @property
    def number(self) -> int:
        """The number of the row's first line, from 1."""
        return self._row[0][0]


def _rows(body: BinaryIO, options: FormatOptions) -> Iterator[tuple[int, list[str]] | Reject]:
    """Yield (number of the first line, cells) for each row that is not blank. Strict: lenient quotes can hide many rows
    in one field without an error."""
    source = _RepeatableLines(body, options.comment)
    reader = csv.reader(source, delimiter=options.delimiter, strict=True)
    while True:
        source.begin()
        try:
            row = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TooLong) as error:  # after either error the reader begins a new row
            yield Reject(source.number, "too-long" if isinstance(error, _TooLong) else "malformed")
            source.give_up()
            continue
        if row:
            yield source.number, row


def _after_the_header(body: Buffer, start: int, options: FormatOptions) -> int | None:
    """The offset after the head and the header row (`Format.first_independent_line`). None if the CSV has quotes:
    quoted fields may contain newlines."""
    if body.find(b'"', start) >= 0:
        return None
    rows = bool(options.head) + (not options.columns)
    comment = options.comment.encode() if options.comment else None
    while rows and start < len(body):
        end = body.find(b"\n", start) + 1 or len(body)
        line = body[start : min(end, start + MAX_LINE)].lstrip()
        start = end
        rows -= bool(line) and not (comment and line.startswith(comment))
    return start


FORMAT: Final = Format(
    records,
    first_independent_line=_after_the_header,
    value="the column with the value",
    options=frozenset({"delimiter", "columns", "comment", "head", "timezone", "where", "unless"}),
    reasons=(_NO_WHERE, _NO_UNLESS),
)
