"""CSV (RFC 4180). `fields` names columns of the header row, or of `options.columns` where there is none. Quoted fields
may hold commas and newlines."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO, Final

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_LINE, MAX_REREAD
from blocklistd.lines.keys import Buffer
from blocklistd.model import ATTRIBUTES
from blocklistd.sources.formats.format import Format
from blocklistd.sources.formats.records import WHITESPACE, FormatOptions, Record, Reject, fitting, lines, type_refusal


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Rejects: too-long, malformed (quotes), short-row (a configured column is cut off), long-row (more cells than the
    header, not all of them empty: an unquoted delimiter may have split a value), not-utf8, no-value, no-type,
    unknown-type. A configured column that the header does not have is as one that is empty everywhere, except the
    value's: without it this raises ParseError.
    """
    rows = _rows(body, options)
    header = (0, list(options.columns)) if options.columns else next(rows, None)
    if header is None:
        return
    columns = _columns(header, options)
    width = len(header[1])
    value_column = columns["value"]
    type_column = columns.get("type")
    attribute_columns = [(key, columns.get(key), options.defaults.get(key, "")) for key in ATTRIBUTES]
    default_type = options.defaults.get("type", "")
    needed = max(columns.values())
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
        value = cells[value_column].strip(WHITESPACE)
        type = (type_column is not None and cells[type_column].strip()) or default_type
        if not value:
            yield Reject(number, "no-value")
        elif not _is_utf8(value):
            yield Reject(number, "not-utf8")
        elif refusal := type_refusal(type):
            yield Reject(number, refusal)
        else:
            attributes, dropped = fitting(
                (key, (column is not None and cells[column].strip()) or default)
                for key, column, default in attribute_columns
            )
            yield Record(number, type, value, attributes, dropped)


def _columns(header: tuple[int, list[str]] | Reject, options: FormatOptions) -> dict[str, int]:
    """Where each configured part of a record is in a row; at least the value."""
    wanted = options.fields.get("value")
    if wanted is None:
        raise ParseError("no column is configured for the value: expected fields.value")
    if isinstance(header, Reject):
        raise ParseError(f"the first row is not CSV ({header.code}): expected a header with the column {wanted!r}")
    places: dict[str, int] = {}
    for place, title in enumerate(header[1]):
        places.setdefault(title.strip(), place)
    if wanted not in places:
        raise ParseError(
            f"the header has no column {wanted!r} (fields.value) among its {len(header[1])}:"
            " expected a first row of column names, separated by commas or by `options.delimiter`;"
            " where there is no such row, `options.columns` has the names"
        )
    return {part: places[column] for part, column in options.fields.items() if column in places}


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


_REREAD: Final = 8  # times that each line may be read again, on average


class _TooLong(Exception):
    """A row has more than MAX_LINE bytes, or one line of it has."""


class _Feed:
    """The lines that csv.reader asks for, able to give those of a row that can't be read once more.

    One quote too many would swallow the rows up to the next quote, or the end. So of a bad row only its first line is
    given up and the reader begins again with the second. What is held is bounded by MAX_LINE, and what is read again by
    MAX_REREAD and the lines of the body: else a quote in each line would make the work quadratic.
    """

    def __init__(self, body: BinaryIO, comment: str | None) -> None:
        self._fresh = lines(body)
        self._comment = comment.encode() if comment else None
        self._again: list[tuple[int, bytes | None]] = []
        self._row: list[tuple[int, bytes | None]] = []
        self._size = 0
        self._may_reread = MAX_REREAD  # lines

    def __iter__(self) -> _Feed:
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
        """The next line is the first of a row."""
        self._row.clear()
        self._size = 0

    def give_up(self) -> None:
        """The row can't be read: all its lines but the first are read again. Raises ParseError where too many were."""
        self._may_reread -= len(self._row) - 1
        if self._may_reread < 0:
            raise ParseError("too many quotes that do not close: expected CSV with fields quoted as in RFC 4180")
        self._again.extend(reversed(self._row[1:]))

    @property
    def number(self) -> int:
        """That of the row's first line."""
        return self._row[0][0]


def _rows(body: BinaryIO, options: FormatOptions) -> Iterator[tuple[int, list[str]] | Reject]:
    """The rows that are not blank. Strict: lenient quotes can hide whole rows in one field without an error."""
    feed = _Feed(body, options.comment)
    reader = csv.reader(feed, delimiter=options.delimiter, strict=True)
    while True:
        feed.begin()
        try:
            row = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TooLong) as error:  # after either the reader begins a new row
            yield Reject(feed.number, "too-long" if isinstance(error, _TooLong) else "malformed")
            feed.give_up()
            continue
        if row:
            yield feed.number, row


def _behind_the_header(body: Buffer, start: int, options: FormatOptions) -> int | None:
    """None in a CSV with quotes, which may hold newlines."""
    if body.find(b'"', start) >= 0:
        return None
    if options.columns:
        return start
    comment = options.comment.encode() if options.comment else None
    while start < len(body):
        end = body.find(b"\n", start) + 1 or len(body)
        line = body[start : min(end, start + MAX_LINE)].lstrip()
        start = end
        if line and not (comment and line.startswith(comment)):
            break
    return start


FORMAT: Final = Format(
    records,
    heading=_behind_the_header,
    value="the column with the value",
    options=frozenset({"delimiter", "columns", "comment"}),
)
