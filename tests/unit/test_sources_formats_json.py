from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_LINE
from blocklistd.sources.formats.json import FORMAT, to_lines
from blocklistd.sources.formats.ndjson import records
from blocklistd.sources.formats.records import FormatOptions, Record, Reject
from blocklistd.sources.reasons import AllowedMessages

A = "https://a.example/"
B = "https://b.example/"
FIELDS = {"value": "/url"}


def lines(body: str | bytes, pointer: str = "", fields: dict[str, str] = FIELDS) -> list[bytes]:
    out = io.BytesIO()
    data = body.encode() if isinstance(body, str) else body
    to_lines(data, None, FormatOptions(fields, {"type": "url"}, records=pointer), out)
    made = out.getvalue().split(b"\n")
    assert made.pop() == b""
    return made


def read(body: str | bytes, pointer: str = "", fields: dict[str, str] = FIELDS) -> list[Record | Reject]:
    body = b"\n".join(lines(body, pointer, fields))
    return list(records(io.BytesIO(body), FormatOptions(fields, {"type": "url"})))


def refusal(body: str | bytes, pointer: str = "") -> str:
    with pytest.raises(ParseError) as caught:
        lines(body, pointer)
    message = str(caught.value)
    assert AllowedMessages(FORMAT.reasons, [repr(pointer)], Path("/work")).fixed(ParseError, message) == message
    return message


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("pointer", "document"),
    [
        ("", "RECORDS"),
        ("/data", {"meta": {"x": ["]", '"', "\\"]}, "data": "RECORDS", "more": [10**400, -0.5, True]}),
        ("/a~1b/~0/", {"a/b": {"~": {"": "RECORDS", "b": "[]"}}, "~": []}),
        ("/0/1/list", [[{}, {"list": "RECORDS"}, 3], {"list": []}]),
        ("/0", {"1": [], "0": "RECORDS"}),
        ("/é", {"é": "RECORDS"}),
    ],
)
def test_the_elements_of_the_array_at_the_pointer_are_lines(pointer: str, document: object, indent: int | None) -> None:
    elements = [{"url": A, "x": [{"y": ["[", {}]}]}, [], 'a\\"]', {}, 1.5, None, {"a": {"b": {"c": {"d": [[]]}}}}, True]
    text = json.dumps(document, indent=indent).replace('"RECORDS"', json.dumps(elements, indent=indent))
    for body in (text, f"\ufeff \r\n\t{text}\n\n", text.replace("/", "\\/")):
        assert [json.loads(line) for line in lines(body, pointer)] == elements


def test_the_lines_are_records_with_the_number_of_their_element() -> None:
    body = json.dumps([{"url": A, "id": 7}, {"id": 8}, {"url": [A, B]}, {"url": A}], indent=2)
    assert read(body, fields={"value": "/url", "ref": "/id"}) == [
        Record(1, "url", A, {"ref": "7"}),
        Reject(2, "no-value"),
        Record(3, "url", A, {}),
        Record(3, "url", B, {}),
        Record(4, "url", A, {}),
    ]


def test_elements_that_are_texts_are_referenced_by_the_empty_pointer() -> None:
    assert read(f'["{A}" , 7,\n"{B}"]', fields={"value": ""}) == [
        Record(1, "url", A, {}),
        Reject(2, "no-value"),
        Record(3, "url", B, {}),
    ]


@pytest.mark.parametrize(
    ("element", "code"),
    [
        (b'{"url":NaN}', "not-json"),
        (b'{"url":"https://a.example/\\ud800"}', "not-json"),
        (b'{"url":"https://a.example/\n"}', "not-json"),
        (b'{"url":"https://a.example/\r"}', "not-json"),
        (b'{"url":"https://a.example/\0"}', "not-json"),
        (b'{"x":\0{"url":"https://b.example/"}\0}', "not-json"),
        (b'{"url":"https://a.example/"]', "not-json"),
        (b'{"url":"https://a.example/",}', "not-json"),
        (b'{"url" "https://a.example/"}', "not-json"),
        (b"nil", "not-json"),
        (b'{"url":"https://a.example/\xff"}', "not-utf8"),
        (b'{"url":"https://a.example/","url":"https://b.example/"}', "duplicate-key"),
        (b'{"url":"' + b"x" * MAX_LINE + b'"}', "too-long"),
        (b'{"url":"https://a.example/","x":[[[' + b" " * MAX_LINE + b"]]]}", "too-long"),
        (b"[" * 900 + b"]" * 900, "no-value"),
    ],
)
def test_an_element_that_is_no_record_is_rejected_and_the_rest_is_read(element: bytes, code: str) -> None:
    b = json.dumps({"url": B}).encode()
    assert read(b"[%b,%b]" % (element, b)) == [Reject(1, code), Record(2, "url", B, {})]
    assert read(b'{"x":"","r":[%b,\n%b,%b]}' % (b, element, b), "/r") == [
        Record(1, "url", B, {}),
        Reject(2, code),
        Record(3, "url", B, {}),
    ]


@pytest.mark.parametrize(
    ("body", "pointer", "message"),
    [
        ("", "", "not complete"),
        (" \n", "", "not complete"),
        ("[", "", "not complete"),
        ('[{"url":"x"},', "", "not complete"),
        ('[{"url":"x"', "", "not complete"),
        ('[{"url":"x', "", "not complete"),
        ('["x', "", "not complete"),
        ('[{"url":"x"}', "", "not complete"),
        ('{"r":[{"url":"x"}]', "/r", "not complete"),
        ('{"r":[{"url":"x"}],', "/r", "not complete"),
        ('{"r":[],"x":[1,2', "/r", "not complete"),
        ('{"r"', "/r", "not complete"),
        ('{"r', "/r", "the name of a member"),
        ('[\n{"url":"x"}\n]\n[]', "", "line 4 is not JSON: expected the end of the body"),
        ("[]{}", "", "the end of the body"),
        ("[]x", "", "the end of the body"),
        ('{"r":[]}}', "/r", "the end of the body"),
        ("[1,\n2 3]", "", "line 2 is not JSON: expected a comma or a closing bracket"),
        ("[1,]", "", "a value"),
        ("[,1]", "", "a value"),
        ("[1,,2]", "", "a value"),
        ("[}", "", "a value"),
        ('{"r":[1}', "/r", "a comma or a closing bracket"),
        ('{"r":[],}', "/r", "the name of a member"),
        ('{"r":[]"x":1}', "/r", "a comma or a closing bracket"),
        ("{r:[]}", "/r", "the name of a member"),
        ("{7:[]}", "/r", "the name of a member"),
        ('{"\\ud800":1,"r":[]}', "/r", "the name of a member"),
        ('{"r" []}', "/r", "a colon"),
        ('{"x":NaN,"r":[]}', "/r", "a value"),
        ('{"x":tru,"r":[]}', "/r", "a value"),
        ('{"x":{"y":"\\ud800"},"r":[]}', "/r", "a value"),
        ('{"x":{"y" 1},"r":[]}', "/r", "a value"),
        (b'{"x":"\xff","r":[]}', "/r", "a value"),
        ('{"r":[],"x":01}', "/r", "a value"),
        ('{"data":[]}', "", "set `options.records`"),
        ('"x"', "", "set `options.records`"),
        ('{"data":[]}', "/r", "no array at '/r' (options.records)"),
        ('{"r":{}}', "/r", "no array at"),
        ('{"r":null}', "/r", "no array at"),
        ("[[1]]", "/1", "no array at"),
        ("[[1]]", "/-", "no array at"),
        ("[[1]]", "/00", "no array at"),
        ('"r"', "/r", "no array at"),
        ('{"r":[1],"r":[2]}', "/r", "twice"),
        ('{"r":[1],"\\u0072":7}', "/r", "twice"),
        ('{"a":{"r":[1]},"a":{}}', "/a/r", "twice"),
        ('{"a":{},"a":{"r":[1]}}', "/a/r", "twice"),
        ("[" * 100_000, "", "brackets within each other"),
        ('{"x":' + "[{" * 100_000, "/r", "brackets within each other"),
        ("[" * 2000 + "]" * 2000, "", "brackets within each other"),
    ],
)
def test_a_document_that_is_damaged_or_another_is_refused(body: str | bytes, pointer: str, message: str) -> None:
    assert message in refusal(body, pointer)


@pytest.mark.parametrize(("body", "message"), [("<html>", "HTML or XML"), ("\ufeff\n<r/>", "HTML or XML")])
def test_a_body_that_is_no_json_at_all_is_refused(body: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        lines(body)
    with pytest.raises(ParseError, match="UTF-16"):
        lines("[1,2,3]".encode("utf-16"))


@pytest.mark.parametrize("lists", ["[]", " [\n] ", '{"r":[],"s":[1]}'])
def test_an_empty_array_has_no_lines(lists: str) -> None:
    assert lines(lists, "/r" if lists.startswith("{") else "") == []


def test_values_beside_the_array_may_have_any_size() -> None:
    beside = json.dumps([{"x": "]" * 100}] * 2000)
    assert lines(f'{{"a":{beside},"r":[1],"z":"{"x" * (2 * MAX_LINE)}"}}', "/r") == [b"1"]


@pytest.mark.parametrize("pointer", ["", "/r", "//", "/a~0b~1c", "/a" * 64])
def test_a_pointer_to_an_array(pointer: str) -> None:
    assert FORMAT.place is not None
    assert FORMAT.place.fullmatch(pointer)


@pytest.mark.parametrize("pointer", ["r", "/~", "/a~2", "r/", "/a" * 65])
def test_a_text_that_is_no_pointer_to_an_array(pointer: str) -> None:
    assert FORMAT.place is not None
    assert not FORMAT.place.fullmatch(pointer)
