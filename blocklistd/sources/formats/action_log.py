"""A log of actions as newline-delimited JSON: each row adds a value or removes it. New rows are appended.

`fields` has JSON Pointers to the parts of a row: `value`, `action`, and the optional others. The words of `action` are
`options.add` and `options.remove`. The list consists of the open additions:

- An addition has a reference (`fields.ref`), if the log has references. It is open until a row removes it.
- A removal with a reference ends the addition with the same reference and the same value in canonical form. A removal
  without a reference ends all additions of its value. A removal of a value that is not open has no effect.
- So a value is listed as long as one of its additions is open: a hotline may add it again, under another reference,
  before it removes the first one.
- A row that can't be read, whose action is neither word, or that has several values, is kept as it is, and is a reject.

The lines of the list are the rows of the open additions and the rejects, in the order in which they were first added.
Reading the lines, and then new rows, gives the same lines as reading all rows. Rows that are read twice change at most
the order of lines.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

import orjson

from blocklistd.errors import ParseError
from blocklistd.kinds import KINDS, InvalidEntry
from blocklistd.limits import MAX_LINE
from blocklistd.lines.keys import Buffer
from blocklistd.sources.formats import ndjson
from blocklistd.sources.formats.format import Format, all_lines_independent
from blocklistd.sources.formats.records import FormatOptions, Record, Reject, list_start
from blocklistd.sources.transports.transport import TransferMode

_UNKNOWN: Final = b"!"
"""A line of the list that begins with it is a row with an unknown action. No JSON document begins with it."""
NO_ACTION: Final = "no pointer is configured for the action: set `fields.action`"


class _Opened(NamedTuple):
    """The key of an open addition, or of a reject (`type` is then empty, and `value` the row)."""

    type: str
    value: str | bytes
    ref: str


def to_lines(body: Buffer, earlier: Buffer | None, options: FormatOptions, out: BinaryIO) -> None:
    """Write the rows of the open additions and the rejects (`Format.to_lines`). The last row may be incomplete: without
    its newline it counts only if it is a JSON object."""
    log = _Log(options)
    if earlier is not None:
        log.read(earlier[:])
    start = list_start(body, "action-log")
    last = body.rfind(b"\n") + 1
    log.read(body[start:] if _is_object(body[last : last + MAX_LINE]) else body[start:last])
    out.writelines(row + b"\n" for row in log.open.values())


def _is_object(row: bytes) -> bool:
    """Whether a row is a complete JSON object."""
    try:
        return isinstance(ndjson.parse(row), dict)
    except orjson.JSONDecodeError:
        return False


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Yield a record for each line that `to_lines` has written (`Format.records`).

    Rejects: those of NDJSON, and unknown-action.
    """
    for row, found in _with_rows(body.read(), options):
        yield Reject(found.number, "unknown-action") if row.startswith(_UNKNOWN) else found


def _with_rows(text: bytes, options: FormatOptions) -> Iterator[tuple[bytes, Record | Reject]]:
    """Yield each row that is not blank, without its newline, and its record. Of a row of more than MAX_LINE bytes, the
    first MAX_LINE + 1 are yielded: it stays too long."""
    number, start = 0, 0
    for found in ndjson.records(io.BytesIO(text), options):
        if found.number == number:  # a further value of the same row, which `_apply` has rejected
            continue
        for _ in range(found.number - number - 1):  # blank rows
            start = text.index(b"\n", start) + 1
        number = found.number
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        yield text[start : min(end, start + MAX_LINE + 1)], found
        start = end + 1


class _Log:
    """The open additions after the rows that were read. `open`: their rows by their keys, and the rejects."""

    def __init__(self, options: FormatOptions) -> None:
        self.open: dict[_Opened, bytes] = {}
        self._references: dict[tuple[str, str], set[str]] = {}
        self._options = options
        if "action" not in options.fields:
            raise ParseError(NO_ACTION)
        try:
            self._action = ndjson.parse_pointer(options.fields["action"])
            self._value = ndjson.parse_pointer(options.fields.get("value", ""))
            self._ref = ndjson.parse_pointer(options.fields["ref"]) if "ref" in options.fields else None
        except ValueError as error:
            raise ParseError(f"fields: {error}") from None

    def read(self, text: bytes) -> None:
        """Apply the rows of a text."""
        for row, found in _with_rows(text, self._options):
            if isinstance(found, Reject):
                self._reject(row)
            else:
                self._apply(row, found)

    def _apply(self, row: bytes, found: Record) -> None:
        try:
            document = orjson.loads(row)
        except orjson.JSONDecodeError:  # a number that is too large for a double
            document = None
        is_single = isinstance(ndjson.resolve(document, self._value), str)
        action = ndjson.resolve(document, self._action) if is_single else None
        ref = self._reference(document)
        value = _canonical(found)
        references = self._references.setdefault((found.type, value), set())
        if action == self._options.add:
            self.open[_Opened(found.type, value, ref)] = row
            references.add(ref)
        elif action == self._options.remove:
            for ended in references & {ref} if ref else set(references):
                del self.open[_Opened(found.type, value, ended)]
                references.remove(ended)
        else:
            self._reject(_UNKNOWN + row[: MAX_LINE - 1])
        if not references:
            del self._references[found.type, value]

    def _reject(self, row: bytes) -> None:
        self.open[_Opened("", row, "")] = row

    def _reference(self, document: object) -> str:
        """The reference of a row; empty if it has none."""
        found = None if self._ref is None else ndjson.resolve(document, self._ref)
        return str(found).strip() if isinstance(found, (str, int)) and not isinstance(found, bool) else ""


def _canonical(record: Record) -> str:
    """The value in canonical form; as it is, if it has none and will be a reject."""
    try:
        return KINDS[record.type](record.value)
    except InvalidEntry:
        return record.value


FORMAT: Final = Format(
    records,
    first_independent_line=all_lines_independent,
    value=ndjson.FORMAT.value,
    field=ndjson.FORMAT.field,
    field_expected=ndjson.FORMAT.field_expected,
    options=frozenset({"add", "remove", "timezone"}),
    to_lines=to_lines,
    transfer=TransferMode.LOG,
    fields=("action",),
    reasons=(NO_ACTION,),
)
