"""The records and rejects that every format yields, and the code that all formats share: lines, types, attributes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Final, NamedTuple

from blocklistd.errors import ParseError
from blocklistd.kinds import KINDS
from blocklistd.limits import MAX_ATTRIBUTE, MAX_LINE
from blocklistd.lines.ids import FORM
from blocklistd.lines.keys import Buffer
from blocklistd.model import ATTRIBUTES, ID, TYPE_NOT_BUILT, UNBUILT_TYPES
from blocklistd.sources.formats.dates import DATES, canonical_date

_BOM: Final = b"\xef\xbb\xbf"
_UTF_16: Final = re.compile(rb"(?:\0\0)?(?:\xff\xfe|\xfe\xff).{,256}\0|(?:[\x01-\x7f]\0){3}|(?:\0[\x01-\x7f]){3}", re.S)
"""The byte order mark of UTF-16 or UTF-32 with a zero soon after it; or ASCII with a zero beside each character."""
_ARRAY: Final = re.compile(rb"\[(?:.*,)?[ \t\r]*")  # the first line of a JSON array that has more lines
LONE_CR: Final = re.compile(rb"\r[^\r\n]")
"""A CR before a character that is neither CR nor LF."""
_NOT_BLANK: Final = re.compile(rb"[^ \t\n\r\v\f]")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_COUNT: Final = re.compile(r"[0-9]{1,9}")
WHITESPACE: Final = " \t\n\r\v\f"  # trimmed from values: ASCII only, the same characters as bytes.strip


class Record(NamedTuple):
    """One entry of a body, before it is canonicalised. Never change `attributes`: records may share the dict.

    `number`: the line on which the record begins, from 1. `type`: one of KINDS. `dropped`: the number of attributes
    that did not fit and were dropped. Only an invalid date is a reason to reject its entry (`record_of`). `host`: the
    name or address that the record gives as that of its value; empty if it gives none.
    """

    number: int
    type: str
    value: str
    attributes: dict[str, str | int]
    dropped: int = 0
    host: str = ""


class NotADateError(ValueError):
    """An attribute in DATES is neither empty nor a date."""


class Reject(NamedTuple):
    """A record that can't be read. `number`: the line on which it begins, from 1. `code`: a static reason, one of
    REJECTS (sources/intake/findings.py), never a part of the record."""

    number: int
    code: str


class Condition(NamedTuple):
    """A condition that a record must meet: `where.matches` of the field at `place` and `expected` returns `is_met`."""

    place: str
    expected: str | None
    is_met: bool


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """How a source configures its format.

    `fields`: for each part of a record, the column or JSON Pointer that has it. `defaults`: the values of parts that a
    record lacks. `columns`: the columns of a table without a header row. `comment`: lines that begin so are skipped;
    None for the default of the format. `head`: the cells of a first row that is no record, in order. `wildcards`:
    whether `*.name` is read as the domain `name`; if not, it is rejected. `records`: where the records are in a
    document (a JSON Pointer, a path of XML elements). `where`: for some fields, the text that a record must have there;
    None for a field that must be absent or empty. `unless`: likewise, the texts that a record must not have. A record
    that does not meet these conditions is no entry, and no reject. `timezone`: the IANA time zone of dates that name
    none. `add`, `remove`: the words of a log for the two actions.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ","
    columns: tuple[str, ...] = ()
    comment: str | None = None
    head: tuple[str, ...] = ()
    wildcards: bool = False
    records: str = ""
    where: Mapping[str, str | None] = field(default_factory=dict)
    unless: Mapping[str, str | None] = field(default_factory=dict)
    timezone: str = "UTC"
    add: str = "block"
    remove: str = "unblock"

    @property
    def conditions(self) -> list[Condition]:
        """The conditions of `where` and `unless`, which a record must meet to count."""
        found = [Condition(place, expected, True) for place, expected in self.where.items()]
        return found + [Condition(place, expected, False) for place, expected in self.unless.items()]


def text_start(body: Buffer, format: str) -> int:
    """The offset of the text: after the byte order mark, if there is one.

    Raises ParseError for a body that is certainly neither a list nor JSON: UTF-16, and a body that begins with `<`,
    since hotlines often send their error page with status 200.
    """
    if _UTF_16.match(body[:512]):
        raise ParseError(
            f"this is UTF-16, not a list in the format {format}: expected UTF-8;"
            " convert it, for example with `iconv -f UTF-16 -t UTF-8`"
        )
    start = len(_BOM) if body[: len(_BOM)] == _BOM else 0
    first = _NOT_BLANK.search(body, start)
    if first is not None and first[0] == b"<":
        raise ParseError(
            f"this is HTML or XML, not a list in the format {format}:"
            " check `url`, or ask the hotline if it serves an error page; set `format: xml` if it is XML"
        )
    return start


def list_start(body: Buffer, format: str) -> int:
    """The offset of the first line: after the byte order mark, if there is one.

    Raises ParseError for a body that is certainly no list: as `text_start`, and for lines that end in CR alone, and a
    JSON array as NDJSON.
    """
    start = text_start(body, format)
    first = _NOT_BLANK.search(body, start)
    if first is None:
        return start
    end = body.find(b"\n", first.start())
    if end < 0 or end == len(body) - 1:  # one line
        if LONE_CR.search(body, first.start()):
            raise ParseError("its lines end in CR alone: expected LF, or CR and LF; convert it, for example with `tr`")
    elif format == "ndjson" and _ARRAY.fullmatch(body[first.start() : end]):
        raise ParseError("this is one JSON array over many lines: set `format: json`")
    return start


def lines(body: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield (number, line) for each line from the current position of `body`, line ends included, numbers from 1.

    A line of more than MAX_LINE bytes is yielded as None; it is never in memory completely.
    """
    number = 0
    while line := body.readline(MAX_LINE + 1):
        number += 1
        if len(line) <= MAX_LINE or line.endswith(b"\n"):
            yield number, line
            continue
        while (rest := body.readline(MAX_LINE)) and not rest.endswith(b"\n"):
            pass
        yield number, None


def type_refusal(type: str) -> str | None:
    """The reason to reject a record of this type; None for a type in KINDS."""
    if type in KINDS:
        return None
    if type in UNBUILT_TYPES:
        return TYPE_NOT_BUILT
    return "unknown-type" if type else "no-type"


def record_of(
    number: int, type: str, value: str, found: Iterable[tuple[str, object]], options: FormatOptions, host: str = ""
) -> Record | Reject:
    """The record of an entry, with those of the found attributes that fit (`fitting_attributes`). `host`: as in Record.

    Rejects: not-a-date.
    """
    try:
        attributes, dropped = fitting_attributes(found, options.timezone)
    except NotADateError:
        return Reject(number, "not-a-date")
    return Record(number, type, value, attributes, dropped, host)


def fitting_attributes(found: Iterable[tuple[str, object]], zone: str) -> tuple[dict[str, str | int], int]:
    """The attributes that fit, and the number of those that were dropped. Empty attributes are absent, and not counted.

    A text fits if it has at most MAX_ATTRIBUTE characters and no control character or line separator. An id has the
    form of ids (lines/ids.py). `verifiers` is an integer from 0. The attributes in DATES get their canonical form;
    `zone` is the time zone of those that name none. Raises NotADateError for one that is no date.
    """
    attributes: dict[str, str | int] = {}
    dropped = 0
    for key, raw in found:
        if raw is None or raw == "":
            continue
        fit = _date(key, raw, zone) if key in DATES else _fit(key, raw)
        if fit is None:
            dropped += 1
        elif fit != "":
            attributes[key] = fit
    return attributes, dropped


def default_attributes(options: FormatOptions) -> dict[str, str | int]:
    """The attributes of every record of a format whose records contain no attributes."""
    return fitting_attributes(((key, options.defaults.get(key)) for key in ATTRIBUTES), options.timezone)[0]


def _date(key: str, raw: object, zone: str) -> str:
    """The canonical date; "" if it is empty. Raises NotADateError."""
    if isinstance(raw, str) and not (raw := raw.strip()):
        return ""
    date = canonical_date(key, raw, zone) if isinstance(raw, (str, int)) else None
    if date is None:
        raise NotADateError
    return date


def _fit(key: str, raw: object) -> str | int | None:
    """The attribute as it is kept; "" if it is empty, None if it does not fit."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str):
        return None
    text = raw.strip()
    if key == ID:
        return text if FORM.fullmatch(text) else None
    if key == "verifiers" and text:
        return int(text) if _COUNT.fullmatch(text) else None
    return text if len(text) <= MAX_ATTRIBUTE and not _CONTROL.search(text) else None
