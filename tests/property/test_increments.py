"""Each way of reading a body makes the same bytes, counts and line numbers as a plain implementation."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklistd.errors import ParseError
from blocklistd.lines.patched import PatchedLines
from blocklistd.model import Entry
from blocklistd.sources import formats
from blocklistd.sources.formats.records import FormatOptions, list_start
from blocklistd.sources.intake import entries
from blocklistd.sources.intake.canonical import Canonical, Notes
from blocklistd.sources.intake.changes import hunks, unordered
from blocklistd.sources.intake.incremental import Base
from tests import reference
from tests.examples import examples
from tests.reference import Bodies

FAST: Bodies = entries
PLAIN: Bodies = reference

TEXT = st.sampled_from(
    [
        b"a.example",
        b"b.example",
        b"A.example",
        b"c.b.example",
        b"*.example",
        b"",
        b"# b.example",
        b"a..example",
        b" d.test ",
    ]
)
HOSTS = st.sampled_from(
    [
        *(b"0.0.0.0 a.example b.example", b"0.0.0.0 A.example # x", b"a.example", b"", b"::1 localhost"),
        *(b"0.0.0.0 c.example ; a.example", b"0.0.0.0 a.example b,c.example", b"0.0.0.0 *.d.example"),
    ]
)
NDJSON = st.sampled_from(
    [
        b'{"v":"a.example","c":"A"}',
        b'{"v":"a.example","c":"B"}',
        b'{"v":"A.EXAMPLE."}',
        b'{"v":"b.example","c":"\\u0000"}',
        b'{"v":"a.example","v":"b.example"}',
        b'{"v":"b.example","n":1e400}',
        b'{"v":"\xc3\xa9.example"}',
        b'{"v":"a.example","e":"2026-11-20"}',
        b'{"v":"a.example","e":"2026-11-20T23:00:00Z"}',
        b'{"v":"b.example","e":"soon"}',
        b"{",
        b"",
    ]
)
XML = st.sampled_from(
    [
        b'{"a/b":"a.example","@c":"A","@d":"1"}',
        b'{"a/b":"a.example","@c":"A","@d":["2","1"]}',
        b'{"a/b":"b.example","@c":"A","@d":"2"}',
        b'{"a/b":["a.example","c.example","*"],"@c":["A","B"],"@d":"1"}',
        b'{"a/b":"","@c":"","@d":"1"}',
    ]
)
CSV = st.sampled_from(
    [
        b"; x,y",
        b"a.example,A,",
        b"a.example,A,B",
        b"a.example,A",
        b"a.example,B",
        b"A.example,",
        b"b.example",
        b"b.example,A",
        b"",
        b"*.example,A",
    ]
)
ENTRIES = st.sampled_from(
    [
        *(Entry("domain", name).line() for name in ("a.example", "b.example", "c.b.example")),
        *(Entry("domain", "a.example", {"id": f"e-{digit * 32}", "category": "A"}).line() for digit in "0f"),
        *(Entry("host", "b.example", {"id": f"e-{'1' * 32}", **more}).line() for more in ({}, {"test": "x"})),
        *(b'{"type":"domain","value":"A.EXAMPLE."}', b'{"type":"ip","value":"192.0.2.1"}', b"", b"{"),
    ]
)
HASHES = st.one_of(
    st.sampled_from([b"0" * 32, b"0" * 31 + b"1", b"0" * 16 + b"f" * 16, b"A" * 32, b"a" * 32]),
    st.binary(min_size=16, max_size=16).map(lambda digest: digest.hex().encode()),
    st.sampled_from([b"", b"# a comment", b" " + b"b" * 32, b"c" * 32 + b"\r", b"d" * 31, b"g" * 32, b"\xff" * 32]),
)
# if one URL is a prefix of another, `!` is the character that sorts below the quote after the shorter one
PAGES = st.text('!$a~/?%"', max_size=3).map(lambda path: f"https://a.example/{path}".encode())
FORMATS = {
    "names": (TEXT, b"", ("text", FormatOptions(defaults={"type": "domain"}))),
    "names with CRLF": (TEXT.map(lambda line: line + b"\r"), b"", ("text", FormatOptions(defaults={"type": "domain"}))),
    "names with a category": (TEXT, b"", ("text", FormatOptions(defaults={"type": "domain", "category": "A"}))),
    "pages": (TEXT | PAGES, b"", ("text", FormatOptions(defaults={"type": "url"}))),
    "hashes": (HASHES, b"", ("text", FormatOptions(defaults={"type": "md5"}))),
    "hashes with a category": (HASHES, b"", ("text", FormatOptions(defaults={"type": "md5", "category": "A"}))),
    "hashes with a day": (HASHES, b"", ("text", FormatOptions(defaults={"type": "md5", "expires": "2027-01-31"}))),
    "hosts": (HOSTS, b"", ("hosts", FormatOptions(defaults={"type": "host", "category": "C"}))),
    "hosts with wildcards": (HOSTS, b"", ("hosts", FormatOptions(defaults={"type": "host"}, wildcards=True))),
    "names with wildcards": (
        TEXT,
        b"",
        ("text", FormatOptions(defaults={"type": "host"}, wildcards=True, comment="b")),
    ),
    "json": (
        NDJSON | st.just(b'{"v":["a.example","c.example",7],"c":"A"}') | st.just(b'{"v":["a.example"]}'),
        b"",
        ("json", FormatOptions({"value": "/v", "category": "/c"}, {"type": "domain"}, where={"/c": None, "/n": None})),
    ),
    "xml": (
        XML,
        b"",
        ("xml", FormatOptions({"value": "a/b", "category": "@c"}, {"type": "domain"}, where={"@d": "1"})),
    ),
    "ndjson": (
        NDJSON,
        b"",
        (
            "ndjson",
            FormatOptions(
                {"value": "/v", "category": "/c", "expires": "/e"}, {"type": "domain"}, timezone="Europe/Warsaw"
            ),
        ),
    ),
    "entries": (ENTRIES, b"", ("entries", FormatOptions())),
    "csv": (
        CSV,
        b"name,category\n",
        ("csv", FormatOptions({"value": "name", "category": "category"}, {"type": "host"})),
    ),
    "csv without a header": (
        CSV,
        b"",
        (
            "csv",
            FormatOptions(
                {"value": "name", "category": "category"},
                {"type": "host"},
                columns=("name", "category"),
                comment=";",
            ),
        ),
    ),
    "csv with where": (
        CSV,
        b"name,category,deleted\n",
        (
            "csv",
            FormatOptions({"value": "name", "category": "category"}, {"type": "host"}, where={"deleted": None}),
        ),
    ),
    "csv with comments": (
        CSV.map(lambda row: row.replace(b",", b"\t")),
        b"; a list\n\nname\tcategory\n",
        (
            "csv",
            FormatOptions({"value": "name", "category": "category"}, {"type": "host"}, delimiter="\t", comment=";"),
        ),
    ),
}


def read_plainly(body: bytes, format: str, options: FormatOptions) -> tuple[Canonical, bytes]:
    out = io.BytesIO()
    return PLAIN.read_entries(body, format, options, None, out).canonical, out.getvalue()


@st.composite
def histories(draw: st.DrawFn, format: str) -> list[bytes]:
    """A body and changed versions of it: lines removed, added, repeated, moved, the last newline present or missing."""
    lines, head, _ = FORMATS[format]
    now = draw(st.lists(lines, max_size=15)) * draw(st.integers(1, 3))
    bodies = [now]
    for _ in range(draw(st.integers(1, 3))):
        now = list(now)
        for _ in range(draw(st.integers(0, 4))):
            at = draw(st.integers(0, len(now)))
            now[at : at + draw(st.integers(0, 3))] = draw(st.lists(lines, max_size=3))
        if draw(st.booleans()):
            now = draw(st.permutations(now))
        bodies.append(now)
    boms, ends = st.sampled_from([b"", b"\xef\xbb\xbf"]), st.sampled_from([b"", b"\n"])
    return [draw(boms) + head + b"\n".join(body) + draw(ends) for body in bodies]


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=examples(60), deadline=None)
@given(data=st.data(), chunk=st.sampled_from([1, 1 << 20]))
def test_every_way_of_reading_makes_the_result_of_the_plain_one(format: str, chunk: int, data: st.DataObject) -> None:
    """The same lines, figures and notes: in one chunk, in many, and incrementally through a history of bodies."""
    name, options = FORMATS[format][2]
    base: Base | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blocklistd.sources.intake.chunks.CHUNK", chunk)
        for body in data.draw(histories(format)):
            expected, lines = read_plainly(body, name, options)
            out = io.BytesIO()
            found = FAST.read_entries(body, name, options, base, out)
            assert found.canonical == expected
            if found.asserted is None:
                assert out.getvalue() == lines
                assert base is None or not is_followed(base, body, name, options, expected)
                asserted = PatchedLines(lines)
            else:
                assert base is not None
                asserted = found.asserted
                assert b"".join(asserted.chunks()) == lines
                assert bool(found.changes) == (b"".join(base.asserted.chunks()) != lines)
            notes = Notes.from_bytes(expected.notes.to_bytes())
            base = Base(body, asserted, notes, expected.records, expected.types, expected.dropped_attributes)


def is_followed(base: Base, body: bytes, format: str, options: FormatOptions, made: Canonical) -> bool:
    """Whether a body must be read incrementally: the order of its lines is kept, or no reject has a line number."""
    before, now = (
        formats.FORMATS[format].first_independent_line(text, list_start(text, format), options)
        for text in (base.body, body)
    )
    assert before is not None
    assert now is not None
    return hunks(base.body, body, before, now) is not None or not (base.notes.rejects or made.notes.rejects)


@pytest.mark.parametrize(
    ("format", "line"),
    [
        *(("names", b"a.example"), ("names with a category", b"A.example"), ("pages", b"https://a.example/%41")),
        *(("hashes", b"0" * 32), ("hashes", b"A" * 32), ("hosts", b"0.0.0.0 a.example"), ("csv", b"a.example,A")),
        ("ndjson", b'{"v":"a.example"}'),
    ],
)
def test_every_way_of_reading_checks_its_limits_before_it_builds_a_result(format: str, line: bytes) -> None:
    """In one chunk, in many, and in bulk: the notes stay empty if there are too many duplicates."""
    _, head, (name, options) = FORMATS[format]
    body = head + b"\n".join([line] * 400)
    for chunk in (1, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("blocklistd.sources.intake.chunks.CHUNK", chunk)
            plain = FAST.read_entries(body, name, options, None, io.BytesIO())
            for module in ("canonical", "bulk"):
                patch.setattr(f"blocklistd.sources.intake.{module}.MAX_NOTES", 1000)
            out = io.BytesIO()
            bound = FAST.read_entries(body, name, options, None, out).canonical
            assert bound.notes.to_bytes() == b""
            assert (bound.records, bound.types) == (plain.canonical.records, plain.canonical.types)


@given(data=st.data(), size=st.integers(1, 9))
def test_applying_the_hunks_makes_the_new_body(data: st.DataObject, size: int) -> None:
    chance = random.Random(size)
    old = b"".join(b"%d\n" % chance.randrange(size) for _ in range(data.draw(st.integers(0, 200))))
    lines = old.splitlines(keepends=True)
    for _ in range(data.draw(st.integers(0, 5))):
        at = data.draw(st.integers(0, len(lines)))
        lines[at : at + data.draw(st.integers(0, 20))] = [b"%d\n" % chance.randrange(size)] * data.draw(
            st.integers(0, 9)
        )
    new = b"".join(lines)
    found = hunks(old, new)
    assert found is not None
    pieces, at = [], 0
    for hunk in found:
        pieces += [old[at : hunk.old_start], new[hunk.new_start : hunk.new_end]]
        at = hunk.old_end
    assert b"".join(pieces) + old[at:] == new


def test_a_shuffled_body_has_no_hunks_and_is_compared_as_a_set() -> None:
    old = [b"%d" % number for number in range(20_000)]
    new = [*old[5:], b"x", b"y", b"y"]
    random.Random(1).shuffle(new)
    bodies = b"\n".join(old), b"\n".join(new) + b"\n"
    assert hunks(*bodies) is None
    apart = unordered(*bodies)
    assert apart is not None
    assert (sorted(apart[0]), sorted(apart[1])) == (sorted(old[:5]), [b"x", b"y", b"y"])


LINES = st.lists(st.one_of(st.binary(max_size=40), TEXT, HOSTS, NDJSON, CSV), max_size=20).map(b"\n".join)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=examples(60), deadline=None)
@given(body=LINES)
def test_any_bytes_are_read_or_refused_as_by_the_plain_way(format: str, body: bytes) -> None:
    """Records, rejects, or a ParseError, as in the plain implementation; never another exception."""
    name, options = FORMATS[format][2]
    out = io.BytesIO()
    try:
        expected = read_plainly(body, name, options)
    except ParseError:
        with pytest.raises(ParseError):
            FAST.read_entries(body, name, options, None, out)
        return
    assert (FAST.read_entries(body, name, options, None, out).canonical, out.getvalue()) == expected
