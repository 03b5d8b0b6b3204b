from __future__ import annotations

import io
from itertools import islice

import pytest

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_LINE
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions, Record, Reject, list_start
from blocklistd.sources.formats.text import records

OPTIONS = FormatOptions(defaults={"type": "url"})


def read(body: bytes, options: FormatOptions = OPTIONS) -> list[Record | Reject]:
    return list(records(io.BytesIO(body[list_start(body, "text") :]), options))


def test_one_value_a_line_with_the_number_of_its_line() -> None:
    assert read(b"https://a.example/\nhttps://b.example/\n") == [
        Record(1, "url", "https://a.example/", {}),
        Record(2, "url", "https://b.example/", {}),
    ]


def test_blank_lines_and_comments_are_skipped_and_counted_as_lines() -> None:
    body = b"# a list\n\n  \t\n  # of urls\n  https://a.example/x#part \n"
    assert read(body) == [Record(5, "url", "https://a.example/x#part", {})]


def test_a_byte_order_mark_carriage_returns_and_a_missing_last_newline_are_no_part_of_values() -> None:
    body = b"\xef\xbb\xbfhttps://a.example/\r\nhttps://b.example/"
    assert [record.value for record in read(body) if isinstance(record, Record)] == [
        "https://a.example/",
        "https://b.example/",
    ]


def test_the_source_configures_how_a_comment_begins() -> None:
    options = FormatOptions(defaults={"type": "url"}, comment="//")
    assert read(b"// a list\n #x\n  //y\nhttps://a.example/\n", options) == [
        Record(2, "url", "#x", {}),
        Record(4, "url", "https://a.example/", {}),
    ]


def test_wildcards_are_read_as_domains_if_the_source_is_configured_so() -> None:
    body = b"*.a.example\nb.example\na.*.example\n*\n"
    assert read(body, FormatOptions(defaults={"type": "host"}, wildcards=True)) == [
        Record(1, "domain", "a.example", {}),
        Record(2, "host", "b.example", {}),
        Record(3, "host", "a.*.example", {}),
        Record(4, "host", "*", {}),
    ]
    assert read(body[:12], FormatOptions(defaults={"type": "host"})) == [Record(1, "host", "*.a.example", {})]


def test_an_empty_body_has_no_records() -> None:
    assert read(b"") == []
    assert read(b"\xef\xbb\xbf\n") == []


def test_a_line_that_is_not_utf8_is_rejected_and_the_rest_is_read() -> None:
    body = b"https://a.example/\xff\nhttps://\xc3\xa9.example/\n"
    assert read(body) == [Reject(1, "not-utf8"), Record(2, "url", "https://é.example/", {})]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_that_is_too_long_is_rejected_and_the_rest_is_read(end: bytes) -> None:
    longest = b"x" * (MAX_LINE - len(end) + 1)
    body = longest + end + longest + b"x" + end + b"x" * 3 * MAX_LINE + end + b"https://a.example/" + end
    assert read(body) == [
        Record(1, "url", longest.decode(), {}),
        Reject(2, "too-long"),
        Reject(3, "too-long"),
        Record(4, "url", "https://a.example/", {}),
    ]


def test_an_endless_body_is_read_as_a_stream() -> None:
    class Endless(io.BytesIO):
        def readline(self, limit: int | None = -1, /) -> bytes:
            assert limit is not None
            assert 0 < limit <= MAX_LINE + 1, "a line without an end would be in memory completely"
            return b"https://a.example/\n"

    first = islice(records(Endless(), OPTIONS), 3)
    assert [record.number for record in first] == [1, 2, 3]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "body",
    [b"<!DOCTYPE html>\n", b"\xef\xbb\xbf<?xml version='1.0'?>", b"\xef\xbb\xbf\r\n\n  \t<html>", b"<" * 3 * MAX_LINE],
)
def test_a_web_page_instead_of_a_list_is_an_error(format: str, body: bytes) -> None:
    with pytest.raises(ParseError, match=f"HTML or XML, not a list in the format {format}: check `url`"):
        list_start(body, format)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "body",
    [
        *("https://a.example/\n".encode(coding) for coding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
        "\ufeff# é".encode("utf-16-be"),
    ],
)
def test_utf_16_is_recognised_and_refused(format: str, body: bytes) -> None:
    with pytest.raises(ParseError, match=f"this is UTF-16, not a list in the format {format}: expected UTF-8"):
        list_start(body, format)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "body",
    [
        b"https://a.example/x\rhttps://b.example/y\r",
        b"\xef\xbb\xbf\r\ra\rb",
        b'{"url":"https://a.example/"}\r{"url":"https://b.example/"}\r\n',
    ],
)
def test_lines_that_end_in_carriage_returns_alone_are_recognised_and_refused(format: str, body: bytes) -> None:
    with pytest.raises(ParseError, match="lines end in CR alone"):
        list_start(body, format)


@pytest.mark.parametrize("body", [b"https://a.example/\r\n", b"https://a.example/\r", b"a\rb\nc\n", b"\r\r\n", b""])
def test_other_carriage_returns_are_left_to_the_format(body: bytes) -> None:
    assert list_start(body, "text") == 0


@pytest.mark.parametrize(
    "body", [b"[\n{}\n", b' [{"url":"https://a.example/"},\n{"url":"https://b.example/"}]\n', b"[\r\n{}\n]"]
)
def test_a_json_array_over_many_lines_is_no_ndjson(body: bytes) -> None:
    with pytest.raises(ParseError, match="one JSON array over many lines"):
        list_start(body, "ndjson")
    assert list_start(body, "text") == 0


def test_arrays_of_one_line_each_are_ndjson() -> None:
    assert list_start(b'["https://a.example/"]\r\n["https://b.example/"]\n', "ndjson") == 0


@pytest.mark.parametrize(
    ("defaults", "code"), [({}, "no-type"), ({"type": ""}, "no-type"), ({"type": "page"}, "unknown-type")]
)
def test_without_a_known_type_every_record_is_rejected(defaults: dict[str, str], code: str) -> None:
    assert read(b"# x\nhttps://a.example/\n", FormatOptions(defaults=defaults)) == [Reject(2, code)]


def test_every_record_has_the_attributes_of_the_defaults() -> None:
    options = FormatOptions(defaults={"type": "url", "category": "A", "verifiers": "2", "id": "7", "ref": " "})
    assert read(b"https://a.example/\n", options) == [
        Record(1, "url", "https://a.example/", {"category": "A", "verifiers": 2})
    ]
