"""Following a change is reading all of the new body: the same bytes, the same counts, the same line numbers."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.errors import ParseError
from blocklistd.lines.overlay import Overlay
from blocklistd.sources import formats
from blocklistd.sources.formats.records import FormatOptions, opening
from blocklistd.sources.intake import bulk, stretches
from blocklistd.sources.intake.canonical import Canonical, Notes, together, write
from blocklistd.sources.intake.changes import hunks, unordered
from blocklistd.sources.intake.revise import Base, revise
from blocklistd.sources.intake.stretches import reader

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
HOSTS = st.sampled_from([b"0.0.0.0 a.example b.example", b"0.0.0.0 A.example # x", b"a.example", b"", b"::1 localhost"])
NDJSON = st.sampled_from(
    [
        b'{"v":"a.example","c":"A"}',
        b'{"v":"a.example","c":"B"}',
        b'{"v":"A.EXAMPLE."}',
        b'{"v":"b.example","c":"\\u0000"}',
        b'{"v":"\xc3\xa9.example"}',
        b"{",
        b"",
    ]
)
CSV = st.sampled_from(
    [b"a.example,A", b"a.example,B", b"A.example,", b"b.example", b"b.example,A", b"", b"*.example,A"]
)
FORMATS = {
    "text": (TEXT, b"", FormatOptions(defaults={"type": "domain"})),
    "hosts": (HOSTS, b"", FormatOptions(defaults={"type": "host", "category": "C"})),
    "ndjson": (NDJSON, b"", FormatOptions({"value": "/v", "category": "/c"}, {"type": "domain"})),
    "csv": (CSV, b"name,category\n", FormatOptions({"value": "name", "category": "category"}, {"type": "domain"})),
}


def read_all(body: bytes, format: str, options: FormatOptions) -> tuple[bytes, Canonical]:
    out = io.BytesIO()
    made = write(reader(format, options)(body), out)
    return out.getvalue(), made


@st.composite
def changed_bodies(draw: st.DrawFn, format: str) -> tuple[bytes, bytes]:
    """A body and another that comes of it: lines left out, put in, moved, the last newline there or not."""
    lines, head, _ = FORMATS[format]
    old = draw(st.lists(lines, max_size=30)) * draw(st.integers(1, 3))
    new = list(old)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(new)))
        new[at : at + draw(st.integers(0, 3))] = draw(st.lists(lines, max_size=3))
    if draw(st.booleans()):
        new = draw(st.permutations(new))
    ends = draw(st.tuples(*[st.sampled_from([b"", b"\n"])] * 2))
    return head + b"\n".join(old) + ends[0], head + b"\n".join(new) + ends[1]


@pytest.mark.parametrize("format", FORMATS)
@given(data=st.data())
def test_a_change_that_is_followed_makes_what_reading_all_makes(format: str, data: st.DataObject) -> None:
    options = FORMATS[format][2]
    old, new = data.draw(changed_bodies(format))
    asserted, before = read_all(old, format, options)
    expected, after = read_all(new, format, options)
    first = formats.FORMATS[format].heading(new, 0)
    start = formats.FORMATS[format].heading(old, 0)
    assert first is not None
    assert start is not None
    notes = Notes.from_bytes(before.notes.to_bytes())
    # what was asserted stands as an overlay of something else
    stood = asserted.splitlines()[1:]
    other = b'{"type":"url","value":"https://other.example/"}'
    beneath = Overlay(b"".join(line + b"\n" for line in [*stood, other]))
    overlay = beneath.revised([other], asserted.splitlines()[:1])
    base = Base(old, start, overlay, notes, before.records, before.types, before.dropped_attributes)
    revised = revise(base, new, first, reader(format, options, new[:first]))
    if revised is None:
        assert hunks(old, new, start, first) is None, "only what has no order may be given up"
        assert before.notes.rejects or after.notes.rejects
        return
    assert b"".join(revised.asserted.pieces()) == expected
    assert bool(revised.changes) == (asserted != expected)
    assert revised.canonical == after


@given(data=st.data(), size=st.integers(1, 9))
def test_hunks_lead_from_one_body_to_the_other(data: st.DataObject, size: int) -> None:
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


def test_a_shuffled_body_has_no_hunks_and_differs_as_a_set() -> None:
    old = [b"%d" % number for number in range(20_000)]
    new = [*old[5:], b"x", b"y", b"y"]
    random.Random(1).shuffle(new)
    bodies = b"\n".join(old), b"\n".join(new) + b"\n"
    assert hunks(*bodies) is None
    apart = unordered(*bodies)
    assert apart is not None
    assert (sorted(apart[0]), sorted(apart[1])) == (sorted(old[:5]), [b"x", b"y", b"y"])


HASHES = st.one_of(
    st.sampled_from([b"0" * 32, b"0" * 31 + b"1", b"0" * 16 + b"f" * 16, b"A" * 32, b"a" * 32]),
    st.binary(min_size=16, max_size=16).map(lambda digest: digest.hex().encode()),
    st.sampled_from([b"", b"# a comment", b" " + b"b" * 32, b"c" * 32 + b"\r", b"d" * 31, b"g" * 32, b"\xff" * 32]),
)


@given(lines=st.lists(HASHES, max_size=40), category=st.sampled_from(["", "A"]), end=st.sampled_from([b"", b"\n"]))
def test_hashes_in_bulk_are_hashes_one_by_one(lines: list[bytes], category: str, end: bytes) -> None:
    options = FormatOptions(defaults={"type": "md5", "category": category})
    body = b"\n".join(lines) + end
    out = io.BytesIO()
    made = bulk.canonicalise(body, 0, "text", options, out)
    assert (out.getvalue(), made) == read_all(body, "text", options)


# of URLs of which one is the beginning of another, `!` is what sorts below the end of the shorter one
PAGES = st.text('!$a~/?%"', max_size=3).map(lambda path: f"https://a.example/{path}".encode())


@given(
    parts=st.lists(st.lists(TEXT | PAGES, max_size=15), max_size=3),
    kind=st.sampled_from(["domain", "url"]),
    end=st.sampled_from([b"\n", b"\r\n"]),
)
def test_plain_lines_many_at_a_time_are_lines_one_by_one(parts: list[list[bytes]], kind: str, end: bytes) -> None:
    options = FormatOptions(defaults={"type": kind})
    bodies = [b"".join(line + end for line in lines) for lines in parts]
    fast = [stretches.reader("text", options)(body) for body in bodies]
    slow = [stretches._any(body, "text", options, b"") for body in bodies]
    for one, other in zip(fast, slow, strict=True):
        assert (sorted(one.whole().lines), sorted(one.rejects)) == (sorted(other.lines), sorted(other.rejects))
    written = []
    for readings in (fast, slow):
        out = io.BytesIO()
        written.append((write(together(readings), out), out.getvalue()))
    assert written[0] == written[1]


LINES = st.lists(st.one_of(st.binary(max_size=40), TEXT, HOSTS, NDJSON, CSV), max_size=20).map(b"\n".join)


@pytest.mark.parametrize("format", FORMATS)
@given(body=LINES)
def test_whatever_the_bytes_are_they_are_read_or_refused(format: str, body: bytes) -> None:
    """Records, rejects, or a ParseError; never another exception, and nothing of it is lost."""
    options = FORMATS[format][2]
    try:
        start = opening(body, format)
        asserted, made = read_all(body[start:], format, options)
    except ParseError:
        return
    assert asserted.count(b"\n") == made.entries
    assert made.records >= made.entries + made.rejected.total()
