"""The rejects of a body: their line numbers, and a file of them for the hotline. Both are made by jobs in the sandbox.

The line numbers and reasons are in the notes on the body (canonical.Notes); the records are in the body itself.
"""

from __future__ import annotations

import csv
import io
import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from blocklistd.errors import JobError, store_errors
from blocklistd.jobs.sandbox import enter_filter
from blocklistd.limits import MAX_LINE, TEST_LINES
from blocklistd.lines.keys import Buffer
from blocklistd.sources.intake.canonical import Notes
from blocklistd.sources.intake.findings import REJECTS, unexpected_result
from blocklistd.sources.reject_words import words_of

NOT_OF_BODY: Final = "the stored notes are of another body: pull the source again, then repeat the command"
"""The message of `write_rejects` for notes that have more lines than the body."""
_BOM: Final = b"\xef\xbb\xbf"
_ONE_LINE: Final = ("malformed", "too-long")
"""Reasons for which only the first line of a CSV row is rejected."""


@dataclass(frozen=True, slots=True)
class RejectsRequest:
    """A request to write the rejects of a body to the new file `out`.

    `listed`, `notes`: the body and the notes on it. `quoted`: whether a record may have several lines, as a CSV row
    with quotes; `delimiter`: that of the CSV.
    """

    listed: Path
    notes: Path
    out: Path
    quoted: bool = False
    delimiter: str = ","


class RejectedRecord(NamedTuple):
    """A rejected record: the number of its first line, the reason, and its text as it is in the body, at most MAX_LINE
    bytes of it, without the line end."""

    line: int
    reason: str
    text: bytes


# -- jobs --------------------------------------------------------------------------------------------------------------


def reject_lines(notes: Path) -> dict[str, list[int]]:
    """The job that reads the line numbers of the first TEST_LINES rejects of each reason, sorted; none if the notes
    were too large to be kept."""
    with open(notes, "rb") as file:
        enter_filter()
        content = file.read()
    if not content:
        return {}
    rejects = sorted({(code, number) for number, code in Notes.from_bytes(content).rejects})
    by_code = groupby(rejects, key=lambda reject: reject[0])
    return {code: [number for _, number in found][:TEST_LINES] for code, found in by_code}


def validated_lines(answer: object) -> dict[str, list[int]]:
    """Validate the result of `reject_lines`. Raises JobError."""
    if not isinstance(answer, dict) or not answer.keys() <= REJECTS:
        raise unexpected_result()
    for numbers in answer.values():
        fits = isinstance(numbers, list) and 0 < len(numbers) <= TEST_LINES
        if not fits or not all(isinstance(number, int) and 0 < number < 2**53 for number in numbers):
            raise unexpected_result()
    return answer


def write_rejects(request: RejectsRequest) -> dict[str, Any]:
    """The job that writes the rejects as NDJSON, in the order of the body. Returns `{"rejects": number}`. A line that
    has several rejects for the same reason is written once. Raises StoreError."""
    with store_errors(request.out.parent), ExitStack() as stack:
        listed, notes = (stack.enter_context(open(path, "rb")) for path in (request.listed, request.notes))
        out = stack.enter_context(open(request.out, "xb"))
        enter_filter()
        count = 0
        rejects = sorted(set(Notes.from_bytes(notes.read()).rejects))
        size = listed.seek(0, os.SEEK_END)
        body: Buffer = mmap.mmap(listed.fileno(), size, access=mmap.ACCESS_READ) if size else b""
        for record in rejected_records(body, rejects, request):
            out.write(_ndjson(record))
            count += 1
    return {"rejects": count}


def validated_count(answer: object) -> int:
    """Validate the result of `write_rejects`. Raises JobError."""
    count = answer.get("rejects") if isinstance(answer, dict) else None
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise unexpected_result()
    return count


# -- the records -------------------------------------------------------------------------------------------------------


def rejected_records(body: Buffer, rejects: list[tuple[int, str]], request: RejectsRequest) -> Iterator[RejectedRecord]:
    """Yield the record of each reject. `rejects`: (line number, reason), sorted. Raises JobError for a line that the
    body does not have: the notes are of another body."""
    at, line = 0, 1  # the offset at which this line begins
    for number, code in rejects:
        found = _skip(body, at, number - line)
        if found is None or found >= len(body):
            raise JobError(NOT_OF_BODY)
        at, line = found, number
        start = at + len(_BOM) if at == 0 and body[: len(_BOM)] == _BOM else at
        several = request.quoted and code not in _ONE_LINE
        text = _row(body, start, request.delimiter) if several else _line(body, start)
        yield RejectedRecord(number, code, text.removesuffix(b"\n").removesuffix(b"\r")[:MAX_LINE])


def _skip(body: Buffer, at: int, lines: int) -> int | None:
    """The offset after so many lines from the offset `at`; None if there are fewer."""
    for _ in range(lines):
        end = body.find(b"\n", at)
        if end < 0:
            return None
        at = end + 1
    return at


def _line(body: Buffer, at: int) -> bytes:
    """The line at the offset, at most a little more than MAX_LINE bytes of it."""
    most = min(at + MAX_LINE + 2, len(body))
    end = body.find(b"\n", at, most) + 1 or most
    return body[at:end]


def _row(body: Buffer, at: int, delimiter: str) -> bytes:
    """The lines of the CSV row that begins at the offset, at most about MAX_LINE bytes."""
    first = _line(body, at)
    if b'"' not in first:
        return first
    text: bytes = body[at : at + MAX_LINE + 2]
    rows = csv.reader(
        io.StringIO(text.decode("utf-8", "surrogateescape"), newline=""), delimiter=delimiter, strict=True
    )
    try:
        next(rows)
    except (csv.Error, StopIteration):
        return first
    end = 0
    for _ in range(rows.line_num):
        end = text.find(b"\n", end) + 1 or len(text)
    return text[:end]


def _ndjson(record: RejectedRecord) -> bytes:
    """A line of the file. Bytes that are not UTF-8 are escaped as `\\xNN`."""
    # the list of a log marks a row with an unknown action (formats/action_log.py)
    text = record.text.removeprefix(b"!") if record.reason == "unknown-action" else record.text
    fields = {
        "line": record.line,
        "reason": record.reason,
        "explanation": words_of(record.reason),
        "record": text.decode("utf-8", "backslashreplace"),
    }
    return orjson.dumps(fields) + b"\n"
