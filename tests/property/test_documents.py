"""Documents are rewritten to lines as a plain reader sees them: JSON as the standard library, XML as expat."""

from __future__ import annotations

import io
import json

from hypothesis import event, given, settings
from hypothesis import strategies as st

from blocklistd.errors import ParseError
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.elements import read
from blocklistd.sources.formats.flat_elements import line_of, read_lines
from blocklistd.sources.formats.records import FormatOptions, Reject
from tests.examples import examples

# -- JSON --------------------------------------------------------------------------------------------------------------

TEXTS = st.text('ab"\\/[]{},: \n\0é', max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)
OPTIONS = FormatOptions({"value": "/a"}, {"type": "domain"}, records="/a/1")


def json_lines(body: bytes) -> list[bytes]:
    out = io.BytesIO()
    rewrite = FORMATS["json"].to_lines
    assert rewrite is not None
    rewrite(body, None, OPTIONS, out)
    return out.getvalue().splitlines()


@settings(max_examples=examples(300), deadline=None)
@given(
    elements=st.lists(VALUES, max_size=8),
    before=st.dictionaries(TEXTS.filter(lambda name: name != "a"), VALUES, max_size=2),
    after=st.lists(VALUES, max_size=2),
    indent=st.sampled_from([None, 0, 2, "\t"]),
    ascii=st.booleans(),
)
def test_the_lines_are_the_elements_that_the_standard_library_reads(
    elements: list[object], before: dict[str, object], after: list[object], indent: int | str | None, ascii: bool
) -> None:
    document = {**before, "a": [0, elements, *after]}
    body = json.dumps(document, indent=indent, ensure_ascii=ascii).encode()
    assert list(map(json.loads, json_lines(body))) == elements


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data(), elements=st.lists(VALUES, max_size=4))
def test_a_damaged_document_is_refused_or_has_rejects(data: st.DataObject, elements: list[object]) -> None:
    """What is not JSON is never read without an error or a reject."""
    body = bytearray(json.dumps({"b": [{}], "a": [0, elements], "c": 1}).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b'"', b"[", b"]", b"{", b"}", b",", b":", b"\\", b"\0", b"\n", b"\xff", b"1", b" "])
        )
    try:
        json.loads(bytes(body).decode())
        is_json = True
    except ValueError:
        is_json = False
    try:
        lines = json_lines(bytes(body))
    except ParseError:
        event("refused")
        return
    codes = {
        found.code
        for found in FORMATS["ndjson"].records(io.BytesIO(b"\n".join(lines)), OPTIONS)
        if isinstance(found, Reject)
    }
    event("rejects" if codes & {"not-json", "not-utf8"} else "read")
    assert is_json or codes & {"not-json", "not-utf8"}


# -- XML ---------------------------------------------------------------------------------------------------------------

SPACES = st.sampled_from(["", "", " ", "\n  ", "\r\n", "\t"])
PLAIN = st.sampled_from(["a.example", "b.example/?a=1&amp;b=2", "x y", ""])
TEXT = st.lists(
    st.sampled_from(
        [
            *("a.example", "&amp;", "&#233;", "&#x22;", "&lt;", "é", "\u2028", " ", "\n", "\r\n", "\t", '"', "'", "\\"),
            *("]]", "/>", ">", "%s", "&#10;", "a&amp;#60;"),
            *("<![CDATA[</p><p>]]>", "<!-- </p> <p> -->", "<?p </p>?>"),
        ]
    ),
    max_size=4,
).map("".join)
NAMES = st.sampled_from(["Lp", "xmlns:Lp", "n:Lp", "id", "xmlns"])
QUOTED = PLAIN | st.sampled_from(["a>b", "/>", "&#10;", "x\ty", "a\nb"])


@st.composite
def attributes(draw: st.DrawFn) -> str:
    made = ""
    for name in draw(st.lists(NAMES, max_size=2, unique=True)):
        quote = draw(st.sampled_from("\"'"))
        made += (
            f"{draw(SPACES.filter(bool))}{name}{draw(st.sampled_from(['=', '=', ' = ']))}{quote}{draw(QUOTED)}{quote}"
        )
    return made


def element(name: str, content: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """An element with attributes, or an empty one."""
    complete = st.builds("<{0}{1}{2}>{3}</{0}{4}>".format, st.just(name), attributes(), SPACES, content, SPACES)
    return complete | st.builds("<{0}{1}{2}/>".format, st.just(name), attributes(), SPACES)


def sequence(of: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.tuples(SPACES, of).map("".join), max_size=4).map("".join)


CHILD = st.sampled_from(["A", "B", "n:A", "C"]).flatmap(
    lambda name: PLAIN.map(lambda text: f"<{name}>{text}</{name}>") | element(name, PLAIN | TEXT)
)
DEEP = element("D", sequence(CHILD)) | element("p", sequence(CHILD))
RECORD = st.sampled_from(["p", "p", "n:p"]).flatmap(
    lambda name: element(name, sequence(CHILD) | sequence(CHILD | DEEP) | PLAIN | TEXT)
)
FLAT = st.lists(st.builds('\n<p Lp="1"><A>{}</A><B>{}</B></p>'.format, PLAIN, PLAIN), min_size=1).map("".join)
BETWEEN = st.sampled_from(
    [
        *("\n", "text", "<!-- <p><A>x</A></p> -->", "<q><p><A>no</A></p></q>", "<?x </p><p/>?>", "</r><r>"),
        "<![CDATA[</p><p><A>evil</A></p>]]>",
    ]
)
HEAD = st.sampled_from(
    ["", "<?xml version='1.0'?>\n", '<?xml version="1.0" encoding="utf-8"?>', "<!-- x -->", "\ufeff"]
)
DOCUMENTS = st.builds(
    "{}<R><r>{}</r></R>{}".format,
    HEAD,
    st.lists(FLAT | FLAT | RECORD | BETWEEN, max_size=6).map("".join),
    st.sampled_from(["", "\n", "<!-- -->"]),
)


def lines_or_error(body: bytes, records: str, paths: list[str], *, plain: bool) -> bytes | None:
    """All lines, None for a ParseError."""
    try:
        return b"".join(map(line_of, read(body, records, paths)) if plain else read_lines(body, records, paths))
    except ParseError:
        return None


@settings(max_examples=examples(500), deadline=None)
@given(
    document=DOCUMENTS,
    paths=st.sampled_from([["A", "B", "D/A", "@Lp", "A/@id", "."], ["A", "@Lp"], ["."], ["B", "A"], ["@Lp", "."]]),
    records=st.sampled_from(["R/r/p", "R/r/p", "R/r", "R"]),
)
def test_runs_of_flat_elements_are_read_as_expat_reads_them(document: str, paths: list[str], records: str) -> None:
    body = document.encode()
    assert lines_or_error(body, records, paths, plain=False) == lines_or_error(body, records, paths, plain=True)


@settings(max_examples=examples(300), deadline=None)
@given(document=DOCUMENTS, data=st.data())
def test_a_damaged_document_is_read_or_refused_as_by_expat(document: str, data: st.DataObject) -> None:
    body = bytearray(document.encode())
    at = data.draw(st.integers(0, len(body)))
    body[at : at + data.draw(st.integers(0, 3))] = data.draw(
        st.binary(max_size=2) | st.sampled_from([b"<", b">", b"&"])
    )
    paths = ["A", "@Lp"]
    found = lines_or_error(bytes(body), "R/r/p", paths, plain=False)
    assert found == lines_or_error(bytes(body), "R/r/p", paths, plain=True)
