from __future__ import annotations

import io
from pathlib import Path

import pytest

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_LINE
from blocklistd.sources.formats import elements
from blocklistd.sources.formats.elements import PATH, RECORDS, check
from blocklistd.sources.formats.records import FormatOptions, Record, Reject
from blocklistd.sources.formats.xml import FORMAT, records, to_lines
from blocklistd.sources.reasons import AllowedMessages

A = "https://a.example/"
B = "https://b.example/"
FIELDS = {"value": "url"}
DEFAULTS = {"type": "url"}
REGISTER = """\
<?xml version="1.0" encoding="UTF-8"?>
<!-- made on request -->
<Rejestr xmlns="http://register.example/ns" xmlns:r="http://register.example/r">
  <PozycjaRejestru Lp="1">
    <AdresDomeny>a.example</AdresDomeny>
    <DataWpisu>2026-11-02T10:11:12</DataWpisu>
  </PozycjaRejestru>
  <PozycjaRejestru Lp="2">
    <AdresDomeny>żółw.example</AdresDomeny>
    <DataWpisu>2026-11-03T10:11:12</DataWpisu><DataWykreslenia/>
  </PozycjaRejestru>
  <r:PozycjaRejestru Lp="3"><r:AdresDomeny>c.example</r:AdresDomeny></r:PozycjaRejestru>
  <PozycjaRejestru Lp="4">
    <AdresDomeny>d.example</AdresDomeny><DataWykreslenia>2026-11-04</DataWykreslenia>
  </PozycjaRejestru>
</Rejestr>
"""


def read(
    body: str | bytes, path: str = "list/entry", fields: dict[str, str] = FIELDS, **where: str | None
) -> list[Record | Reject]:
    options = FormatOptions(fields, DEFAULTS, records=path, where=where)
    out = io.BytesIO()
    to_lines(body.encode() if isinstance(body, str) else body, None, options, out)
    return list(records(io.BytesIO(out.getvalue()), options))


def urls(*values: str) -> list[Record | Reject]:
    return [Record(number, "url", value, {}) for number, value in enumerate(values, 1)]


def refusal(body: str | bytes, path: str = "list/entry") -> str:
    with pytest.raises(ParseError) as caught:
        read(body, path)
    message = str(caught.value)
    assert AllowedMessages(FORMAT.reasons, [repr(path)], Path("/work")).fixed(ParseError, message) == message
    return message


def test_a_register_is_read_whatever_its_namespaces_are() -> None:
    fields = {"value": "AdresDomeny", "ref": "@Lp", "category": "DataWpisu"}
    found = read(REGISTER, "Rejestr/PozycjaRejestru", fields, DataWykreslenia=None)
    assert found == [
        Record(1, "url", "a.example", {"category": "2026-11-02T10:11:12", "ref": "1"}),
        Record(2, "url", "żółw.example", {"category": "2026-11-03T10:11:12", "ref": "2"}),
        Record(3, "url", "c.example", {"ref": "3"}),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-2", "windows-1250", "us-ascii"])
def test_encodings_that_the_document_declares_are_read(encoding: str) -> None:
    name = "a" if encoding == "us-ascii" else "ż"
    declared = encoding.removesuffix("-sig")
    document = f"<?xml version='1.0' encoding='{declared}'?><list><entry><url>{name}.example</url></entry></list>"
    assert read(document.encode(encoding)) == urls(f"{name}.example")


def test_without_a_declaration_the_encoding_is_utf8() -> None:
    assert read("<list><entry><url>ż.example</url></entry></list>") == urls("ż.example")
    assert "not well-formed" in refusal("<list><entry><url>ż.example</url></entry></list>".encode("iso-8859-2"))


@pytest.mark.parametrize(
    ("entry", "path", "values"),
    [
        ("<entry><url>https://a.example/?x=1&amp;y=&#x32;</url></entry>", "url", ["https://a.example/?x=1&y=2"]),
        ("<entry><url>&#38;amp;</url></entry>", "url", ["&amp;"]),
        ("<entry><url>&quot;&apos;&lt;&gt;&#92;</url></entry>", "url", ["\"'<>\\"]),
        ("<entry><url><![CDATA[a&b<c>]]>d</url></entry>", "url", ["a&b<c>d"]),
        ("<entry><url>a<!-- no -->b<?no no?>c</url></entry>", "url", ["abc"]),
        ("<entry><url>\n  a\n</url></entry>", "url", ["a"]),
        ('<entry xml:space="preserve"><url> a </url></entry>', "url", ["a"]),
        ("<entry><url>a<i>no</i>b</url></entry>", "url", ["ab"]),
        ("<entry><url>a</url><other/><url>b</url></entry>", "url", ["a", "b"]),
        ("<entry><names><url>a</url><url>b</url></names><url>no</url></entry>", "names/url", ["a", "b"]),
        ("<entry url='a'/>", "@url", ["a"]),
        ('<entry n:url="a&amp;b"><x/></entry>', "@url", ["a&b"]),
        ("<entry><x url='a'/><x url='b'></x></entry>", "x/@url", ["a", "b"]),
        ("<entry>a</entry>", ".", ["a"]),
        ("<entry>a<url>no</url>b</entry>", ".", ["ab"]),
        ("<n:entry><m:url>a</m:url></n:entry>", "url", ["a"]),
    ],
)
def test_a_path_references_texts_of_a_record(entry: str, path: str, values: list[str]) -> None:
    document = f"<list>\n<entry><url>first</url></entry>{entry}<!-- the end --></list>"
    assert [found.value for found in read(document, fields={"value": path}) if isinstance(found, Record)] == (
        ["first", *values] if path == "url" else values
    )
    flat = f"<list>\n{'<entry><url>first</url></entry>' if path == 'url' else ''}{entry}</list>"
    assert [found.value for found in read(flat, fields={"value": path}) if isinstance(found, Record)] == (
        ["first", *values] if path == "url" else values
    )


def test_only_elements_at_the_path_are_records() -> None:
    no = "<entry><url>no</url></entry>"
    document = (
        f"<list>{no}<a>{no}<b><entry><url>{A}</url>{no}</entry></b><b/></a><b>{no}</b>text"
        f"<a><b><![CDATA[</entry>{no}]]><entry><url>{B}</url></entry><x>{no}</x></b></a></list>"
    )
    assert read(document, "list/a/b/entry") == urls(A, B)
    assert read("<entry><url>https://a.example/</url></entry>", "entry") == urls(A)


def test_a_record_is_chosen_by_its_parts() -> None:
    entries = "".join(
        f"<entry><url>{number}</url>{more}</entry>"
        for number, more in enumerate(("", "<end/>", "<end> </end>", "<end>x</end>", "<end/><end>x</end>"))
    )
    found = {
        expected: [one.value for one in read(f"<list>{entries}</list>", end=expected) if isinstance(one, Record)]
        for expected in (None, "x", "y")
    }
    assert found == {None: ["0", "1", "2"], "x": ["3", "4"], "y": []}


def test_records_without_a_value_or_too_long_are_rejected() -> None:
    entries = ["<x/>", "<url/>", f"<url>{'x' * MAX_LINE}</url>", "<url/>" * MAX_LINE, f"<url>{A}</url>"]
    entries += [f"<url>{'x' * 1_000_000}</url>", f"<x>{'x' * 60_000}</x>" * 4 + "<url/>"]
    entries += [f"<url>{'x' * 60_000}</url><url>{'y' * 60_000}</url>", f"<x>{'x' * 2 * MAX_LINE}</x><url>{A}</url>"]
    document = "".join(f"<entry>{entry}</entry>" for entry in entries)
    codes = ["no-value", "no-value", "too-long", "too-long", "", "too-long", "no-value", "too-long", ""]
    for comment in ("", "<!-- -->"):
        found = read(f"<list>{document}{comment}</list>")
        assert [one.code if isinstance(one, Reject) else "" for one in found] == codes


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "line 1 is not XML: no element found"),
        ("a.example\n", "line 1 is not XML: syntax error"),
        ("<list>\n<entry><url>x</url></entry>\n", "line 3 is not XML: no element found"),
        ("<list><entry><url>x</url></entry></list>\n<list/>", "line 2 is not XML: junk after document element"),
        ("<list><entry><url>x</entry></url></list>", "mismatched tag"),
        ("<list><entry><url>&nbsp;</url></entry></list>", "undefined entity"),
        ("<list><entry><url>\0</url></entry></list>", "not well-formed"),
        ("<list><entry a='1' a='2'/></list>", "duplicate attribute"),
        (b"<list><entry><url>\xff</url></entry></list>", "not well-formed"),
        ("<?xml version='1.0' encoding='unknown-1'?><list/>", "an encoding that can't be read"),
        ("<?xml version='1.0' encoding='shift_jis'?><list/>", "an encoding that can't be read"),
        ("<!DOCTYPE html><html></html>", "a document type"),
        ("<!DOCTYPE l [<!ENTITY a 'x'><!ENTITY b '&a;&a;&a;'>]><list><entry>&b;</entry></list>", "a document type"),
        ("<html><body/></html>", "no element that could contain 'list/entry' (options.records)"),
        ("<a>" * 1000, "elements within each other"),
        ("<list>" + "<entry>" * 300 + "</entry>" * 300 + "</list>", "elements within each other"),
    ],
)
def test_a_document_that_is_damaged_or_another_is_refused(body: str | bytes, message: str) -> None:
    assert message in refusal(body)


@pytest.mark.parametrize("large", [b'<entry a="%b"/>', b"<!--%b-->", b"<%b/>"])
def test_a_very_long_tag_is_refused_before_its_end(large: bytes) -> None:
    """expat reads an incomplete tag again with each chunk: its time is quadratic in the length."""
    body = b"<list>" + large % (b"a" * (6 << 20)) + b"</list>"
    with pytest.raises(ParseError, match="a tag or a comment of more than"):
        check(body)
    with pytest.raises(ParseError, match="a tag or a comment of more than"):
        list(elements.read(body, "list/entry", ["@a"]))


def test_a_very_long_text_is_no_error() -> None:
    assert check(b"<list>" + b"a" * (6 << 20) + b"</list>")


def test_a_list_may_be_empty() -> None:
    assert read("<list/>") == read("<list><other/></list>") == []


def test_what_only_looks_deep_is_accepted() -> None:
    document = f"<list><entry><x><![CDATA[{'<br>' * 1000}]]></x><url>{A}</url></entry></list>"
    assert not check(document.encode())
    assert read(document) == urls(A)


@pytest.mark.parametrize("path", ["list/entry", "list", "Rejestr/PozycjaRejestru", "a-b/c.d/_e", "é/x"])
def test_a_path_of_records(path: str) -> None:
    assert RECORDS.fullmatch(path)


@pytest.mark.parametrize(
    "path", ["", "/list", "list/", "a//b", "list/@id", "a:b", "1a", "a b", ".", "*", "a/" * 64 + "b"]
)
def test_a_text_that_is_no_path_of_records(path: str) -> None:
    assert not RECORDS.fullmatch(path)


@pytest.mark.parametrize("path", ["url", "a/b", "@id", "a/@id", "."])
def test_a_path_of_a_part(path: str) -> None:
    assert PATH.fullmatch(path)


@pytest.mark.parametrize("path", ["", "/url", "a/", "@", "a@b", "@a/b", "./a", "..", "text()", "n:a"])
def test_a_text_that_is_no_path_of_a_part(path: str) -> None:
    assert not PATH.fullmatch(path)
