"""Lines of another blocklistd: read alike whether all of them are canonical here, or each is parsed."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from blocklistd.model import Entry
from blocklistd.sources.formats.entries import FORMAT
from blocklistd.sources.formats.records import FormatOptions, Record, Reject
from blocklistd.sources.intake.canonical import read
from blocklistd.sources.intake.chunks import reader

ID = "e-" + "0a" * 16
ATTRIBUTES = {"category": "A", "expires": "2036-01-01T00:00:00Z", "ref": "7", "verified_at": "2026-11-20"}


def records(body: bytes) -> list[Record | Reject]:
    return list(FORMAT.records(io.BytesIO(body), FormatOptions()))


def test_an_entry_keeps_its_id_and_its_attributes() -> None:
    kept: dict[str, str | int] = {**ATTRIBUTES, "verifiers": 2, "id": ID}
    line = Entry("domain", "a.example", kept).line()
    assert records(line) == [Record(1, "domain", "a.example", kept)]
    assert read(records(line)).lines == [line.decode()]


def test_what_this_version_does_not_know_is_left_out() -> None:
    lines = [
        b'{"type":"host","value":"a.example","id":"%b","test":true}' % ID.encode(),
        b'{"type":"host","value":"b.example","id":"E-1"}',
        b'{"type":"pdq","value":"192.0.2.1"}',
        b'{"type":"new","value":"x"}',
        b'{"value":"x"}',
        b"{}",
        b"x",
        b'{"type":"host","value":"A.Example"}',
    ]
    assert records(b"\n".join(lines)) == [
        Record(1, "host", "a.example", {"id": ID}),
        Record(2, "host", "b.example", {}, 1),
        Reject(3, "type-not-built"),
        Reject(4, "unknown-type"),
        Reject(5, "no-type"),
        Reject(6, "no-value"),
        Reject(7, "not-json"),
        Record(8, "host", "A.Example", {}),
    ]


VALUES = st.sampled_from(
    ["192.0.2.1", "a.example", "b.example", "xn--bcher-kva.example", "A.example", "-", "a.example."]
)
LINES = st.builds(
    lambda kind, value, attributes: Entry(kind, value, attributes).line(),
    st.sampled_from(["domain", "host", "ip", "pdq"]),
    VALUES,
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from([ID, "e-0"]),
            "category": st.sampled_from(["A", " A", 'é "']),
            "test": st.just("x"),
            "expires": st.sampled_from(["2036-01-01T00:00:00Z", "soon"]),
        },
    ),
)


@given(st.lists(LINES | st.sampled_from([b"", b"x", b'{"type":"domain"}']), max_size=6), st.booleans(), st.booleans())
def test_a_chunk_is_read_as_its_lines_are(lines: list[bytes], in_order: bool, ended: bool) -> None:
    chunk = b"\n".join(sorted(lines) if in_order else lines) + (b"\n" if ended else b"")
    fast, plain = reader("entries", FormatOptions())(chunk), read(records(chunk))
    assert (fast.lines, fast.rejects, fast.dropped) == (plain.lines, plain.rejects, plain.dropped)
