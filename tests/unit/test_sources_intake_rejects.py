"""The rejects of a body: each record as it is in the body, and one sentence for each reason."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.daemon.commands.source_test import Printable, write_csv
from blocklistd.errors import JobError
from blocklistd.limits import MAX_LINE, TEST_LINES
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.sources.intake import rejects
from blocklistd.sources.intake.canonical import Notes, read
from blocklistd.sources.intake.findings import REJECTS
from blocklistd.sources.intake.rejects import (
    RejectsRequest,
    reject_lines,
    rejected_records,
    validated_count,
    validated_lines,
    write_rejects,
)
from blocklistd.sources.reject_words import WORDS, words_of

TEXT = RejectsRequest(Path("listed"), Path("notes"), Path("out"))
CSV = RejectsRequest(Path("listed"), Path("notes"), Path("out"), quoted=True)


def rejects_of(body: bytes, format: str, **options: Any) -> list[tuple[int, str]]:
    """What the intake job notes of a body."""
    found = read(FORMATS[format].records(io.BytesIO(body), FormatOptions(**options)))
    return sorted(set(found.rejects))


def test_every_reason_has_one_sentence_and_is_explained_to_hotlines() -> None:
    assert WORDS.keys() == REJECTS
    assert all(re.fullmatch(r"[A-Z][^\n]{5,118}\.", sentence) for sentence in WORDS.values())
    assert len(set(WORDS.values())) == len(WORDS)
    guide = (Path(__file__).parents[2] / "docs" / "publisher.md").read_text()
    explained = re.findall(r"^\| (`.*?) \|", guide.partition("## What is refused")[2], re.M)
    assert set(re.findall(r"`([a-z0-9-]+)`", " ".join(explained))) == REJECTS
    assert words_of("a reason of a later version") == "The record can't be read."


@given(
    st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=40),
    st.data(),
)
def test_every_line_is_found_by_its_number(lines: list[bytes], data: st.DataObject) -> None:
    body = b"\n".join(lines) + data.draw(st.sampled_from([b"", b"\n"]))
    known = [number for number, line in enumerate(lines, 1) if line or number < len(lines)]
    numbers = data.draw(st.lists(st.sampled_from(known), unique=True)) if known else []
    found = list(rejected_records(body, [(number, "empty") for number in sorted(numbers)], TEXT))
    expected = [lines[number - 1].removesuffix(b"\r") for number in sorted(numbers)]
    if 1 in numbers:
        expected[0] = expected[0].removeprefix(b"\xef\xbb\xbf")
    assert [record.text for record in found] == expected


@given(st.lists(st.lists(st.text(st.sampled_from('a,"\n\r é'), max_size=6), min_size=1, max_size=3), max_size=12))
def test_a_rejected_row_is_complete(rows: list[list[str]]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([["value", "note"], *(["no name!", *row] for row in rows)])
    body = out.getvalue().encode()
    noted = rejects_of(body, "csv", fields={"value": "value"}, defaults={"type": "host"})
    assert len(noted) == len(rows)
    found = [record.text.decode() for record in rejected_records(body, noted, CSV)]
    again = [next(csv.reader(io.StringIO(text, newline=""), strict=True)) for text in found]
    # the last line end of a row is not part of the record; a cell may end with one inside of its quotes
    assert again == [["no name!", *row] for row in rows]


def test_of_a_row_whose_quotes_do_not_close_the_first_line_is_the_record() -> None:
    body = b'value\n"a.example\nb.example\nc.example\n'
    noted = rejects_of(body, "csv", fields={"value": "value"}, defaults={"type": "host"})
    assert noted == [(2, "malformed")]
    assert [record.text for record in rejected_records(body, noted, CSV)] == [b'"a.example']


def test_a_long_record_is_cut() -> None:
    body = b"a" * (MAX_LINE * 3) + b"\nb!\n"
    found = list(rejected_records(body, [(1, "too-long"), (2, "character")], TEXT))
    assert [len(record.text) for record in found] == [MAX_LINE, 2]


def test_notes_of_another_body_are_an_error() -> None:
    with pytest.raises(JobError, match="of another body"):
        list(rejected_records(b"a\nb\n", [(3, "empty")], TEXT))


@pytest.fixture
def unconfined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejects, "enter_filter", lambda: None)


@pytest.mark.usefixtures("unconfined")
def test_the_file_has_every_reject_once_in_order(tmp_path: Path) -> None:
    request = RejectsRequest(tmp_path / "listed", tmp_path / "notes", tmp_path / "out")
    request.listed.write_bytes(b"\xef\xbb\xbftwo words\na.example\n\xffoo\n\x1b[2J\n")
    noted = [(4, "character"), (1, "character"), (3, "not-utf8"), (3, "not-utf8")]
    request.notes.write_bytes(Notes([], noted).to_bytes())
    assert validated_count(write_rejects(request)) == 3
    written = request.out.read_bytes()
    assert [tuple(json.loads(line).values())[::3] for line in written.splitlines()] == [
        (1, "two words"),
        (3, "\\xffoo"),
        (4, "\x1b[2J"),
    ]
    out = io.BytesIO()
    write_csv(written.splitlines(), out)
    rows = list(csv.reader(io.StringIO(out.getvalue().decode(), newline="")))
    assert rows[0] == ["line", "reason", "explanation", "record"]
    assert [(row[0], row[3]) for row in rows[1:]] == [("1", "two words"), ("3", "\\xffoo"), ("4", "\x1b[2J")]
    assert out.getvalue().count(b"\r\n") == 4


@pytest.mark.usefixtures("unconfined")
def test_the_first_lines_of_each_reason(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    noted = [(number, "empty") for number in range(40, 0, -1)] + [(7, "character")]
    notes.write_bytes(Notes([], noted).to_bytes())
    assert validated_lines(reject_lines(notes)) == {"empty": [*range(1, TEST_LINES + 1)], "character": [7]}
    notes.write_bytes(b"")
    assert reject_lines(notes) == {}, "notes that were too large"


@pytest.mark.parametrize(
    "answer",
    [None, [], {"a listed entry": [1]}, {"empty": []}, {"empty": [0]}, {"empty": ["1"]}, {"empty": [1] * 99}],
)
def test_other_answers_of_the_job_are_not_used(answer: object) -> None:
    with pytest.raises(JobError):
        validated_lines(answer)


@pytest.mark.parametrize("answer", [None, {}, {"rejects": -1}, {"rejects": True}, {"rejects": "1"}])
def test_other_counts_are_not_used(answer: object) -> None:
    with pytest.raises(JobError):
        validated_count(answer)


@given(st.text(), st.integers(1, 5))
def test_no_control_character_reaches_a_terminal(text: str, size: int) -> None:
    out = io.BytesIO()
    shown = Printable(out)
    data = text.encode(errors="replace")
    for at in range(0, len(data), size):
        assert shown.write(data[at : at + size]) == len(data[at : at + size])
    printed = out.getvalue().decode()
    assert all(character.isprintable() or character in "\n\t" for character in printed)
