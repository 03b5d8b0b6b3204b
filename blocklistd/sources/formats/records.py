"""What every format makes of a body: records and rejects; and what all formats share: lines, types, attributes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO, Final, NamedTuple

from blocklistd.errors import ParseError
from blocklistd.kinds import KINDS
from blocklistd.limits import MAX_ATTRIBUTE, MAX_LINE
from blocklistd.lines.keys import Buffer
from blocklistd.model import ATTRIBUTES, LEFT_OUT, UNBUILT_TYPES

_BOM: Final = b"\xef\xbb\xbf"
_UTF_16: Final = re.compile(rb"(?:\0\0)?(?:\xff\xfe|\xfe\xff).{,256}\0|(?:[\x01-\x7f]\0){3}|(?:\0[\x01-\x7f]){3}", re.S)
"""The byte order mark of UTF-16 or UTF-32 with a zero soon after it; or ASCII with a zero beside each character."""
_ARRAY: Final = re.compile(rb"\[(?:.*,)?[ \t\r]*")  # its first line, where there are more
LONE_CR: Final = re.compile(rb"\r[^\r\n]")
_INK: Final = re.compile(rb"[^ \t\n\r\v\f]")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ]|\Z)")
DATES: Final = ("expires", "verified_at")
"""The attributes that are dates, with or without a time."""
WHITESPACE: Final = " \t\n\r\v\f"  # what bytes.strip takes away, and is trimmed from a value: ASCII's only


class Record(NamedTuple):
    """What a body says of one entry, before it is canonical. Not to be changed: records may share their attributes.

    `number` is that of the line where it begins in the body, from 1; `type` is one of KINDS; `dropped` counts
    attributes that did not fit and were left out, which is never a reason to leave out the entry.
    """

    number: int
    type: str
    value: str
    attributes: dict[str, str | int]
    dropped: int = 0


class Reject(NamedTuple):
    """A record that can't be read: the number of its line and a static reason, nothing of its content."""

    number: int
    code: str


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """A source's `fields` (where a record's parts are), `defaults` (for parts that a record lacks) and `options`.

    `columns`: the columns of a table without a header row. Lines that begin with `comment` are skipped; None: the
    format's default. `wildcards`: `*.name` is read as the domain `name` instead of being refused.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ","
    columns: tuple[str, ...] = ()
    comment: str | None = None
    wildcards: bool = False


def opening(body: Buffer, format: str) -> int:
    """Where the first line begins: behind the byte order mark, if there is one.

    Raises ParseError for what is certainly no list: UTF-16, lines that end in CR alone, a JSON array as NDJSON, and a
    body that begins with `<`: hotlines often send their error page with status 200.
    """
    if _UTF_16.match(body[:512]):
        raise ParseError(
            f"this is UTF-16, not a list in the format {format}: expected UTF-8;"
            " convert it, for example with `iconv -f UTF-16 -t UTF-8`"
        )
    start = len(_BOM) if body[: len(_BOM)] == _BOM else 0
    first = _INK.search(body, start)
    if first is None:
        return start
    if first[0] == b"<":
        raise ParseError(
            f"this is HTML or XML, not a list in the format {format};"
            " is the URL right, or does the hotline show an error page?"
        )
    end = body.find(b"\n", first.start())
    if end < 0 or end == len(body) - 1:  # one line
        if LONE_CR.search(body, first.start()):
            raise ParseError("its lines end in CR alone: expected LF, or CR and LF; convert it, for example with `tr`")
    elif format == "ndjson" and _ARRAY.fullmatch(body[first.start() : end]):
        raise ParseError("this is one JSON array over many lines: expected a document a line, as `jq -c '.[]'` makes")
    return start


def lines(body: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """The lines from where the body stands, ends included, with their numbers from 1.

    None is a line of more than MAX_LINE bytes, which is never held as a whole.
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
    """The code with which a record of this type is rejected; None for one of KINDS."""
    if type in KINDS:
        return None
    if type in UNBUILT_TYPES:
        return LEFT_OUT
    return "unknown-type" if type else "no-type"


def fitting(found: Iterable[tuple[str, object]]) -> tuple[dict[str, str | int], int]:
    """The attributes that are known and fit, and how many did not; an empty one is absent, and nothing was dropped.

    A text fits that has at most MAX_ATTRIBUTE characters and none that controls a terminal or a line; `verifiers`
    is a whole number from 0, and those of DATES are dates, with or without a time (ISO 8601).
    """
    attributes: dict[str, str | int] = {}
    dropped = 0
    for key, raw in found:
        if raw is None or raw == "":
            continue
        fit = _fit(key, raw)
        if fit is None:
            dropped += 1
        elif fit != "":
            attributes[key] = fit
    return attributes, dropped


def default_attributes(options: FormatOptions) -> dict[str, str | int]:
    """The attributes of every record of a format that has no place for any."""
    return fitting((key, options.defaults.get(key)) for key in ATTRIBUTES)[0]


def _is_date(text: str) -> bool:
    """Whether this is a date, or a date and a time, by ISO 8601."""
    if not _DATE.match(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _fit(key: str, raw: object) -> str | int | None:
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str):
        return None
    text = raw.strip()
    if key in DATES and text and not _is_date(text):
        return None
    if key == "verifiers" and text:
        return int(text) if _COUNT.fullmatch(text) else None
    return text if len(text) <= MAX_ATTRIBUTE and not _CONTROL.search(text) else None
