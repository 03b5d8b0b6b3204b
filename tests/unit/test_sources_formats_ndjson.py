from __future__ import annotations

import io
import json

import pytest

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_LINE
from blocklistd.sources.formats.ndjson import _NUMBER, parse_pointer, records, resolve
from blocklistd.sources.formats.records import FormatOptions, Record, Reject, list_start

OPTIONS = FormatOptions({"value": "/url", "ref": "/id", "category": "/class", "verifiers": "/bodies"}, {"type": "url"})
A = "https://a.example/"
B = "https://b.example/"


def read(body: str | bytes, options: FormatOptions = OPTIONS) -> list[Record | Reject]:
    data = body.encode() if isinstance(body, str) else body
    return list(records(io.BytesIO(data[list_start(data, "ndjson") :]), options))


def read_one(document: object, options: FormatOptions = OPTIONS) -> Record | Reject:
    (only,) = read(json.dumps(document) + "\n", options)
    return only


def test_each_line_is_one_document() -> None:
    body = f'\ufeff{{"url":"{A}","id":"r-1"}}\r\n\n {{"class": "A", "url": " {B}\\n"}}'
    assert read(body) == [Record(1, "url", A, {"ref": "r-1"}), Record(3, "url", B, {"category": "A"})]


def test_parts_are_found_by_json_pointers() -> None:
    options = FormatOptions({"value": "/a~1b/0/m~0n", "type": "/kind", "ref": "/", "expires": "/a~1b/1"})
    document = {"a/b": [{"m~n": "a.example"}, "2027-01-01"], "kind": "domain", "": "r-1"}
    assert read_one(document, options) == Record(
        1, "domain", "a.example", {"expires": "2027-01-02T00:00:00Z", "ref": "r-1"}
    )


def test_the_empty_pointer_references_a_document_that_is_the_value_itself() -> None:
    assert read_one(A, FormatOptions({"value": ""}, {"type": "url"})) == Record(1, "url", A, {})


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("", {"a": ["x", None], "": {"": 1}, "0": "zero"}),
        ("/a/0", "x"),
        ("/a/1", None),
        ("/a/2", None),
        ("/a/00", None),
        ("/a/-", None),
        ("/a/-1", None),
        ("/a/\u0660", None),
        ("/a/0/0", None),
        ("/b/c", None),
        ("//", 1),
        ("/0", "zero"),
    ],
)
def test_a_pointer_references_a_part_or_nothing(pointer: str, found: object) -> None:
    document = {"a": ["x", None], "": {"": 1}, "0": "zero"}
    assert resolve(document, parse_pointer(pointer)) == found


def test_escapes_of_a_pointer_are_resolved_in_the_order_of_the_rfc() -> None:
    assert parse_pointer("/~01") == ("~1",)
    assert parse_pointer("/~0~1/~10") == ("~/", "/0")


@pytest.mark.parametrize("pointer", ["url", "a/b", "/~", "/~2", "/a~"])
def test_a_text_that_is_no_pointer_is_an_error_of_the_configuration(pointer: str) -> None:
    with pytest.raises(ValueError, match="JSON Pointer"):
        parse_pointer(pointer)
    with pytest.raises(ParseError, match="JSON Pointer"):
        read("{}\n", FormatOptions({"value": pointer}))


def test_without_a_configured_pointer_to_the_value_the_body_is_refused() -> None:
    with pytest.raises(ParseError, match=r"set `fields\.value`"):
        read("{}\n", FormatOptions({"type": "/kind"}))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"https://a.example/", "not-json"),
        (b'{"url":"https://a.example/"', "not-json"),
        (b'{"url":"https://a.example/"}{}', "not-json"),
        (b'{"url":NaN}', "not-json"),
        (b'{"url":"\\ud800"}', "not-json"),
        (b"[" * 20_000, "not-json"),
        (b"[" * 1000 + b"]" * 1000, "no-value"),
        (b'{"url":"https://a.example/\xff"}', "not-utf8"),
        (b'{"url":"' + b"x" * MAX_LINE + b'"}', "too-long"),
        (b"{}", "no-value"),
        (b"[]", "no-value"),
        (b"null", "no-value"),
        (b'{"url":null}', "no-value"),
        (b'{"url":7}', "no-value"),
        (b'{"url":[["https://a.example/"]]}', "no-value"),
        (b'{"url":{"0":"https://a.example/"}}', "no-value"),
        (b'{"url":" "}', "no-value"),
    ],
)
def test_a_line_that_is_no_record_is_rejected_and_the_rest_is_read(line: bytes, code: str) -> None:
    assert read(line + b"\n" + json.dumps({"url": A}).encode()) == [Reject(1, code), Record(2, "url", A, {})]


def test_each_text_of_an_array_is_a_record() -> None:
    assert read(json.dumps({"url": [A, 7, f" {B}", ""], "id": "r-1"})) == [
        Record(1, "url", A, {"ref": "r-1"}),
        Reject(1, "no-value"),
        Record(1, "url", B, {"ref": "r-1"}),
        Reject(1, "no-value"),
    ]
    assert read('{"url":[]}') == []


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"/deleted": None}, [1, 2, 3]),
        ({"/deleted": "2026-01-31"}, [4]),
        ({"/active": "true"}, [2]),
        ({"/active": "1"}, [3]),
        ({"/tags": "b"}, [4]),
        ({"/tags": "{}"}, []),
        ({"/tags/0": None}, [1, 2, 3]),
        ({"/tags": None}, [1, 2, 3]),
        ({"/deleted": None, "/active": "true"}, [2]),
        ({"/url": "x"}, []),
    ],
)
def test_records_that_do_not_match_where_are_neither_entries_nor_rejects(
    where: dict[str, str | None], expected: list[int]
) -> None:
    bodies: list[dict[str, object]] = [{}, {"deleted": None, "active": True}, {"deleted": " ", "active": 1, "tags": []}]
    bodies += [{"deleted": "2026-01-31 ", "active": "yes", "tags": ["a", "b"]}]
    body = "\n".join(json.dumps({"url": A, **more}) for more in bodies)
    options = FormatOptions({"value": "/url"}, {"type": "url"}, where=where)
    assert [(found.number, type(found)) for found in read(body, options)] == [(line, Record) for line in expected]


@pytest.mark.parametrize("number", ["1e400", "-1E+400", "1" + "0" * 400, "0.5e999", "1e-999", "1" * 30])
def test_a_number_too_large_for_a_double_rejects_no_record(number: str) -> None:
    assert read(f'{{"url":"{A}","score":{number},"x":["1e999",{{"y":{number}}}]}}') == [Record(1, "url", A, {})]
    assert read(f'{{"url":"{A}","bodies":{number}}}') == [Record(1, "url", A, {}, dropped=1)]
    assert read(f'{{"url":{number}}}') == [Reject(1, "no-value")]


@pytest.mark.parametrize("number", ["01e400", "1e400x", "+1e400", "1e400.5", "-", ".1e400", "1e400 1e400"])
def test_a_large_text_that_is_no_json_number_is_rejected(number: str) -> None:
    assert read(f'{{"url":"{A}","score":{number}}}') == [Reject(1, "not-json")]


@pytest.mark.parametrize(
    "line",
    [
        f'{{"url":"{A}","url":"{B}"}}',
        f'{{"url":"{A}","url":"{A}"}}',
        f'{{"url" : "{A}", "url" : "{B}"}}',
        f'{{"url":"{A}","\\u0075rl":"{B}"}}',
        f'{{"url":"{A}","id":1,"id":2}}',
        f'{{"url":"{A}","x":{{"y":1,"y":2}}}}',
        f'{{"url":"{A}","x":[{{}},{{"y":1,"z":{{}},"y":2}}]}}',
        f'{{"url":"{A}","x":"\\u0022:","y":1,"y":2}}',
        f'{{"url":"{A}","x":"\\":","y":1,"y":2}}',
        f'{{"url":"{A}","x\\\\":1,"x\\\\":2}}',
        f'{{"url":"{A}","url"\t:"{B}"}}',
        f'{{"url":"{A}","score":1e400,"score":2}}',
        f'{{"url":"{A}","é":1,"\\u00e9":2}}',
        f'{{"url":"{A}","{{":1,"{{":2}}',
    ],
)
def test_a_record_with_a_duplicate_key_is_rejected(line: str) -> None:
    assert read(f'{line}\n{{"url":"{B}"}}\n') == [Reject(1, "duplicate-key"), Record(2, "url", B, {})]


@pytest.mark.parametrize(
    "line",
    [
        f'{{"url":"{A}","x":{{"url":1}},"y":[{{"url":2}},{{"url":3}}]}}',
        f'{{"url":"{A}","x":"\\"url\\":"}}',
        f'{{"url": "{A}", "x": "\\u0022:", "y": {{}}}}',
        f'{{"url":"{A}","x":"}}{{","y":["a","a"]}}',
        f'{{"url":"{A}","URL":"x"}}',
        f'{{"url":"{A.replace("/", chr(92) + "/")}","x":"\\\\"}}',
    ],
)
def test_text_that_only_looks_like_a_duplicate_key_is_accepted(line: str) -> None:
    assert read(line) == [Record(1, "url", A, {})]


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"url": A}, "no-type"),
        ({"url": A, "kind": None}, "no-type"),
        ({"url": A, "kind": " "}, "no-type"),
        ({"url": A, "kind": "page"}, "unknown-type"),
        ({"url": A, "kind": 7}, "unknown-type"),
        ({"url": A, "kind": ["url"]}, "unknown-type"),
    ],
)
def test_a_record_needs_a_known_type(document: object, code: str) -> None:
    assert read_one(document, FormatOptions({"value": "/url", "type": "/kind"})) == Reject(1, code)


def test_a_part_that_a_record_lacks_is_taken_from_the_defaults() -> None:
    options = FormatOptions(
        {"value": "/url", "type": "/kind", "category": "/class"}, {"type": "url", "category": "B", "verifiers": "1"}
    )
    assert read_one({"url": A, "class": None, "kind": ""}, options) == Record(
        1, "url", A, {"category": "B", "verifiers": 1}
    )
    assert read_one({"url": "a.example", "class": "A", "kind": "host"}, options) == Record(
        1, "host", "a.example", {"category": "A", "verifiers": 1}
    )


def test_numbers_become_attributes_and_empty_texts_do_not() -> None:
    assert read_one({"url": A, "id": 1007, "class": "", "bodies": 2}) == Record(
        1, "url", A, {"ref": "1007", "verifiers": 2}
    )
    assert read_one({"url": A, "bodies": "3"}) == Record(1, "url", A, {"verifiers": 3})
    assert read_one({"url": A, "bodies": 0}) == Record(1, "url", A, {"verifiers": 0})


@pytest.mark.parametrize("bodies", [-1, 1.0, True, [], {}, "two", 10**9, 10**18])
def test_verifiers_that_are_no_count_are_dropped_and_the_entry_kept(bodies: object) -> None:
    assert read_one({"url": A, "bodies": bodies, "id": "r-1"}) == Record(1, "url", A, {"ref": "r-1"}, dropped=1)


@pytest.mark.parametrize("category", [True, 1.5, ["A"], {"A": 1}, "a\nb", "\u0000", "x" * 257])
def test_a_text_that_does_not_fit_is_dropped_and_the_entry_kept(category: object) -> None:
    assert read_one({"url": A, "class": category}) == Record(1, "url", A, {}, dropped=1)


def test_only_known_attributes_are_kept() -> None:
    options = FormatOptions({"value": "/url", "type": "/kind", "note": "/note"})
    assert read_one({"url": A, "kind": "url", "note": "x"}, options) == Record(1, "url", A, {})


def test_a_record_may_give_the_host_of_its_value() -> None:
    options = FormatOptions({"value": "/url", "host": "/name"}, {"type": "url"})
    assert read_one({"url": A, "name": " a.example "}, options) == Record(1, "url", A, {}, host="a.example")
    assert read_one({"url": A, "name": None}, options) == Record(1, "url", A, {})
    contradicting = read_one({"url": A, "name": 7}, options)
    assert isinstance(contradicting, Record)
    assert contradicting.host == "?"  # which is the host of nothing


def test_a_string_that_does_not_close_is_searched_once() -> None:
    """A search from each of its quotes took 18 s for a line of 64 KiB."""
    assert len(_NUMBER.findall(b'"' + b'\\"' * 100)) == 1
    assert _NUMBER.sub(b"0", b'1e400, "1e400') == b"0, 0"
