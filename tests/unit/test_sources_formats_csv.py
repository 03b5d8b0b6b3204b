from __future__ import annotations

import contextlib
import io

import pytest

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_ATTRIBUTE, MAX_LINE, MAX_REREAD
from blocklistd.sources.formats import csv
from blocklistd.sources.formats.csv import records
from blocklistd.sources.formats.records import FormatOptions, Record, Reject, list_start

FIELDS = {
    "value": "url",
    "type": "kind",
    "ref": "id",
    "category": "class",
    "verified_at": "confirmed",
    "verifiers": "bodies",
    "expires": "until",
}
VALUE_ONLY = FormatOptions({"value": "url"}, {"type": "url"})
A = "https://a.example/"
B = "https://b.example/"


def read(body: str | bytes, options: FormatOptions = VALUE_ONLY) -> list[Record | Reject]:
    data = body.encode() if isinstance(body, str) else body
    return list(records(io.BytesIO(data[list_start(data, "csv") :]), options))


def url(number: int, value: str) -> Record:
    return Record(number, "url", value, {})


def test_columns_are_found_by_the_names_of_the_header() -> None:
    body = f"""class,id,unused,url,kind,until,bodies,confirmed
A,r-1,x,{A},url,2027-01-01,2,2026-11-20
,,,b.example,domain,,,
"""
    assert read(body, FormatOptions(FIELDS)) == [
        Record(
            2,
            "url",
            A,
            {
                "category": "A",
                "expires": "2027-01-02T00:00:00Z",
                "ref": "r-1",
                "verified_at": "2026-11-20",
                "verifiers": 2,
            },
        ),
        Record(3, "domain", "b.example", {}),
    ]


CNCPO = FormatOptions(
    {"value": "url", "host": "domain"},
    {"type": "url"},
    delimiter=";",
    columns=("url", "domain", "ip-url", "ip"),
    head=("serial", "timestamp"),
)
"""A list with its number and its time in the first row; each row repeats the host of its URL."""


def test_a_first_row_that_is_no_record_is_skipped() -> None:
    body = f"117;2026-11-28 10:00\n{A};a.example;http://192.0.2.1/;192.0.2.1\n{B};b.example;;\n"
    assert read(body, CNCPO) == [
        Record(2, "url", A, {}, host="a.example"),
        Record(3, "url", B, {}, host="b.example"),
    ]
    with pytest.raises(ParseError, match=r"the first row has 4 cells: expected the 2 of `options.head`"):
        read(f"{A};a.example;;\n", CNCPO)
    with pytest.raises(ParseError, match="has 0 cells"):
        read("", CNCPO)


def test_the_lines_after_the_head_are_independent() -> None:
    body = b"\n117;2026-11-28\nhttps://a.example/;a.example;;\n"
    first = csv.FORMAT.first_independent_line(body, 0, CNCPO)
    assert first == body.index(b"https")


def test_a_byte_order_mark_carriage_returns_spaces_and_a_quoted_header_are_understood() -> None:
    body = f'\ufeff"url" , kind\r\n" {A} ", url \r\n\r\n{B},url'
    with pytest.raises(ParseError, match="not CSV"):
        read(body)
    body = f'\ufeff"url", kind\r\n" {A} ", url \r\n\r\n{B},url'
    assert read(body, FormatOptions({"value": "url", "type": "kind"})) == [url(2, A), url(4, B)]


def test_quoted_fields_contain_commas_quotes_and_newlines_and_lines_are_counted() -> None:
    body = f'url,id\n"{A}?x=1,2","say ""x"""\n{B},"two\nlines"\n{A},3\n'
    options = FormatOptions({"value": "url", "ref": "id"}, {"type": "url"})
    assert read(body, options) == [
        Record(2, "url", f"{A}?x=1,2", {"ref": 'say "x"'}),
        Record(3, "url", B, {}, dropped=1),
        Record(5, "url", A, {"ref": "3"}),
    ]


@pytest.mark.parametrize("key", ["verified_at", "expires"])
def test_a_record_with_a_date_that_is_none_is_rejected(key: str) -> None:
    options = FormatOptions({"value": "url", key: "date"}, {"type": "url"}, timezone="Europe/Warsaw")
    body = f"url,date\n{A},soon\n{A},2026-11-20 10:20\n{A},\n{A},1700000000\n"
    assert read(body, options) == [
        Reject(2, "not-a-date"),
        Record(3, "url", A, {key: "2026-11-20T09:20:00Z"}),
        url(4, A),
        Reject(5, "not-a-date"),
    ]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("link,kind", "no column 'url' .* among its 2"),
        ("URL", "no column 'url' .* among its 1"),
        ("url;kind", "no column 'url' .* separated by commas"),
        ('"url', "not CSV"),
        ("x" * (MAX_LINE + 1), "too-long"),
    ],
)
def test_a_header_without_the_column_of_the_value_is_an_error_that_quotes_no_header(header: str, problem: str) -> None:
    with pytest.raises(ParseError, match=problem) as caught:
        read(f"{header}\n{A}\n")
    assert "link" not in str(caught.value)
    assert "a.example" not in str(caught.value)


def test_without_a_configured_column_for_the_value_the_body_is_refused() -> None:
    with pytest.raises(ParseError, match=r"set `fields\.value`"):
        read("url\n", FormatOptions({"type": "kind"}))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (f"1,{A},story,4711.html,A\n", [Reject(2, "long-row")]),
        (f"1,{A},B,,\n", [url(2, A)]),
        (f"1,{A},B, ,\t\n", [url(2, A)]),
        (f'1,"{A},story",B\n', [url(2, f"{A},story")]),
        (f"1,{A},B,C\n2,{B},B\n", [Reject(2, "long-row"), url(3, B)]),
        (f'1,{A},B,"\n"\n2,{B},B\n', [url(2, A), url(4, B)]),
    ],
)
def test_a_row_with_more_cells_than_the_header_is_rejected_since_its_value_may_be_cut(
    rows: str, expected: list[Record | Reject]
) -> None:
    assert read(f"id,url,class\n{rows}") == expected


def test_a_header_with_empty_names_is_as_wide_as_its_cells() -> None:
    assert read(f"url,,\n{A},x,y\n{B},x,y,z\n") == [url(2, A), Reject(3, "long-row")]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", "¦"])
def test_cells_are_separated_by_the_delimiter_of_the_source(delimiter: str) -> None:
    options = FormatOptions({"value": "url", "ref": "id"}, {"type": "url"}, delimiter=delimiter)
    body = f'id,url,class\n1,"{A}x;y|z",B\n2,{B}?a,b,\n'.replace(",", delimiter)
    assert read(body, options)[0] == Record(2, "url", f"{A}x;y|z", {"ref": "1"})


def test_configured_columns_replace_a_missing_header_row() -> None:
    options = FormatOptions({"value": "url", "ref": "serial"}, {"type": "url"}, columns=("serial", "url"))
    assert read(f"1,{A}\n\n2,{B},\n3,{B},x\n4\n", options) == [
        Record(1, "url", A, {"ref": "1"}),
        Record(3, "url", B, {"ref": "2"}),
        Reject(4, "long-row"),
        Reject(5, "short-row"),
    ]
    with pytest.raises(ParseError, match="no column 'link'"):
        read(f"1,{A}\n", FormatOptions({"value": "link"}, {"type": "url"}, columns=("serial", "url")))


def test_lines_that_begin_with_the_comment_are_skipped_and_counted_as_lines() -> None:
    options = FormatOptions({"value": "url", "ref": "id"}, {"type": "url"}, comment="#")
    body = f'# a "list\n  # of URLs\nurl,id\n#,x\n{A},"1\n#2"\n#{A},2\n{B},#3\n# the end'
    assert read(body, options) == [
        Record(5, "url", A, {}, dropped=1),
        Record(8, "url", B, {"ref": "#3"}),
    ]


def test_without_a_comment_every_line_is_a_row() -> None:
    assert read(f"url\n#{A}\n") == [url(2, f"#{A}")]


def test_a_header_alone_is_an_empty_list() -> None:
    assert read("url,kind\n") == []
    assert read("") == []


def test_a_part_that_a_record_lacks_is_taken_from_the_defaults() -> None:
    options = FormatOptions(FIELDS, {"type": "url", "category": "B", "verifiers": "1"})
    body = f"url,kind,class\n{A},,\n{B},url,A\nc.example,host,\n"
    assert read(body, options) == [
        Record(2, "url", A, {"category": "B", "verifiers": 1}),
        Record(3, "url", B, {"category": "A", "verifiers": 1}),
        Record(4, "host", "c.example", {"category": "B", "verifiers": 1}),
    ]


def test_a_record_needs_a_known_type() -> None:
    options = FormatOptions({"value": "url", "type": "kind"})
    assert read(f"url,kind\n{A},\n{A},page\n{A},URL\n{A},url\n192.0.2.1,ip\nf,pdq\n", options) == [
        Reject(2, "no-type"),
        Reject(3, "unknown-type"),
        Reject(4, "unknown-type"),
        url(5, A),
        Record(6, "ip", "192.0.2.1", {}),
        Reject(7, "type-not-built"),
    ]


def test_a_record_needs_a_value() -> None:
    assert read(f'url,id\n,1\n" ",2\n{A},3\n') == [Reject(2, "no-value"), Reject(3, "no-value"), url(4, A)]


def test_a_row_with_missing_cells_is_rejected_since_its_last_cell_may_be_cut_off() -> None:
    options = FormatOptions({"value": "url", "ref": "id"}, {"type": "url"})
    assert read(f"url,id,x\n{A}\n{B},1\nhttps://c.exa", options) == [
        Reject(2, "short-row"),
        Record(3, "url", B, {"ref": "1"}),
        Reject(4, "short-row"),
    ]


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("class", "x" * (MAX_ATTRIBUTE + 1)),
        ("class", "a\x1b[2J"),
        ("class", "a\u2028b"),
        ("class", "a\x85b"),
        ("bodies", "-1"),
        ("bodies", "1.5"),
        ("bodies", "two"),
        ("bodies", "1" * 10),
    ],
)
def test_an_attribute_that_does_not_fit_is_dropped_and_its_entry_kept(column: str, cell: str) -> None:
    assert read(f"url,kind,{column},id\n{A},url,{cell},7\n", FormatOptions(FIELDS)) == [
        Record(2, "url", A, {"ref": "7"}, dropped=1)
    ]


def test_an_attribute_at_the_limit_fits() -> None:
    longest = "é" * MAX_ATTRIBUTE
    assert read(f"url,kind,class,bodies\n{A},url,{longest},0\n", FormatOptions(FIELDS)) == [
        Record(2, "url", A, {"category": longest, "verifiers": 0})
    ]


def test_bytes_that_are_not_utf8_reject_a_value_drop_an_attribute_and_are_ignored_elsewhere() -> None:
    options = FormatOptions({"value": "url", "category": "class"}, {"type": "url"})
    body = b"url,class,caf\xe9\n%b\xe9,A,x\n%b,\xe9,x\n%b,A,\xe9\n" % ((A.encode(),) * 3)
    assert read(body, options) == [
        Reject(2, "not-utf8"),
        Record(3, "url", A, {}, dropped=1),
        Record(4, "url", A, {"category": "A"}),
    ]


def test_a_quote_too_many_rejects_its_row_and_not_the_rows_after_it() -> None:
    rows = "".join(f'"https://{number}.a.example/",x\n' for number in range(3))
    options = FormatOptions({"value": "url", "ref": "id"}, {"type": "url"})
    found = read(f'url,id\n{A},"x\n{rows}{B},"\n', options)
    assert found == [
        Reject(2, "malformed"),
        *(Record(3 + number, "url", f"https://{number}.a.example/", {"ref": "x"}) for number in range(3)),
        Reject(6, "malformed"),
    ]


def test_an_open_quote_before_more_bytes_than_a_row_may_have_rejects_one_row() -> None:
    rows = "".join(f"{A}{number:06}\n" for number in range(2 * MAX_LINE // 24))
    found = read(f'url\n"{rows}')
    assert found[0] == Reject(2, "too-long")
    assert found[1:] == [url(2 + number, f"{A}{number:06}") for number in range(1, 2 * MAX_LINE // 24)]


def test_a_line_that_is_too_long_is_rejected_and_the_rest_is_read() -> None:
    long = "x" * (3 * MAX_LINE)
    assert read(f'url\n{A}\n{long}\n{B}\n"{B}\n{long}\n{A}\n') == [
        url(2, A),
        Reject(3, "too-long"),
        url(4, B),
        Reject(5, "too-long"),
        Reject(6, "too-long"),
        url(7, A),
    ]


@pytest.mark.parametrize("line", [b'a","\n', b'"\n', b'a,"\n', b'"a"b\n', b'"a,\n'])
@pytest.mark.parametrize("count", [1_000, 20_000, 80_000])
def test_the_work_for_quotes_that_do_not_close_grows_linearly_with_the_body(
    monkeypatch: pytest.MonkeyPatch, line: bytes, count: int
) -> None:
    asked = 0
    plain = csv._RepeatableLines.__next__

    def counting(source: csv._RepeatableLines) -> str:
        nonlocal asked
        asked += 1
        return plain(source)

    monkeypatch.setattr(csv._RepeatableLines, "__next__", counting)
    with contextlib.suppress(ParseError):
        read(b"url\n" + line * count)
    assert asked <= (csv._REREAD + 2) * count + MAX_REREAD + MAX_LINE


def test_a_body_with_too_many_quotes_that_do_not_close_is_refused() -> None:
    with pytest.raises(ParseError, match="quotes that do not close"):
        read(b"url\n" + b'a","\n' * 32_000)


def test_a_few_quotes_that_do_not_close_reject_only_their_own_rows() -> None:
    rows = [f"https://{number}.example/" for number in range(10_000)]
    wrong = set(range(50, 10_000, 400))
    found = read("url\n" + "".join(f'"{row}\n' if n in wrong else f"{row}\n" for n, row in enumerate(rows)))
    assert [one.number - 2 for one in found if isinstance(one, Reject)] == sorted(wrong)
    assert [one.value for one in found if isinstance(one, Record)] == [
        row for n, row in enumerate(rows) if n not in wrong
    ]


def test_only_rows_whose_columns_are_as_where_says_are_records() -> None:
    body = f"url,deleted,active\n{A},,yes\n{B},2026-01-31,yes\n{A},  , yes\n{B},,no\n,2026-01-31,yes\n{A}\n"
    options = FormatOptions({"value": "url"}, {"type": "url"}, where={"deleted": None, "active": "yes"})
    assert read(body, options) == [url(2, A), url(4, A), Reject(7, "short-row")]


def test_without_a_column_of_where_the_body_is_refused() -> None:
    options = FormatOptions({"value": "url"}, {"type": "url"}, where={"deleted": None})
    with pytest.raises(ParseError, match=r"no column 'deleted' \(options.where\): ask the hotline for its new name"):
        read(f"url,removed\n{A},2026-01-31\n", options)
