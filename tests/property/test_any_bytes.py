"""Any bytes from outside are read, or refused with the documented exception; no other exception is raised.

The answers of DNS are in test_zones.py, the configuration in unit/test_config.py, signatures in
unit/test_sources_proofs_minisign.py.
"""

from __future__ import annotations

import contextlib
import gzip
import io

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklistd.errors import ParseError
from blocklistd.lines.delta import ENTRIES, apply
from blocklistd.lines.keys import key_of, type_and_value
from blocklistd.model import Entry
from blocklistd.serve.dns.notify import Notifier, NotifyTarget
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions, Record, Reject, list_start
from blocklistd.sources.intake.canonical import write
from blocklistd.sources.intake.chunks import reader
from blocklistd.sources.intake.decode import decode, sniff
from tests.examples import examples

OPTIONS = {
    "text": FormatOptions(defaults={"type": "url"}),
    "hosts": FormatOptions(defaults={"type": "host"}),
    "ndjson": FormatOptions({"value": "/v", "type": "/t", "category": "/c", "verifiers": "/n/0"}, {"type": "domain"}),
    "entries": FormatOptions(),
    "csv": FormatOptions({"value": "v", "type": "t", "verifiers": "n"}, {"type": "domain"}, where={"n": None}),
    "json": FormatOptions({"value": "/v", "type": "/t"}, {"type": "domain"}, records="/r", where={"/c": "A"}),
    "xml": FormatOptions({"value": "v", "type": "@t"}, {"type": "domain"}, records="r/v", where={"c": None}),
    "action-log": FormatOptions({"value": "/v", "type": "/t", "action": "/c"}, {"type": "domain"}, add="A", remove="B"),
    "xml-pages": FormatOptions({"value": "v/*", "ref": "id"}, where={"c": None}),
    "rpz": FormatOptions(),
}
HEADS = {"rpz": b"a.example\tdomain\t.\t.\n", "csv": b"v,t,n\n"}
# tokens with a meaning for readers, and bytes without one
TOKENS = st.sampled_from(
    [
        *(b"\n", b"\r\n", b"\r", b"\n\n", b" ", b"\t", b",", b'"', b'""', b"#", b"<", b";", b"\0", b"\x0b", b"\x1a"),
        *(
            b"\xef\xbb\xbf",
            b"\xff",
            b"\xc3",
            b"\xed\xa0\x80",
            b"\xe2\x80\xa8",
            b"\xf4\x90\x80\x80",
            b"{",
            b"}",
            b"[",
            b":",
        ),
        *(
            b'{"v":"a.example","t":"host","c":"A","n":[1]}',
            b'{"v":',
            b'"t":"url"',
            b'{"type":"host","value":"a.example"}\n',
            b"\\ud800",
            b"\\u0000",
            b"1e999",
        ),
        *(b"a.example", b"*.b.example", b"https://a.example/%zz", b"http://[::1]:99999/", b"0.0.0.0 a.example", b"::1"),
        *(b'{"r":[', b"]", b"]}", b"<r>", b"</r>", b"<v>", b"</v>", b'<v t="url"/>', b"<!--", b"<![CDATA[", b"&amp;"),
        *(b"xn--a", b"xn--", b"." * 300, b"a" * 70, b"host", b"sha256", b"d41d8cd98f00b204e9800998ecf8427e", b"-1"),
    ]
)
BODIES = st.lists(TOKENS | st.binary(max_size=12), max_size=25).map(b"".join)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=examples(300), deadline=None)
@given(body=BODIES)
def test_any_body_is_read_as_records_and_rejects_or_is_a_parse_error(format: str, body: bytes) -> None:
    body = HEADS.get(format, b"") + body
    try:
        start = list_start(body, format)
        found = list(FORMATS[format].records(io.BytesIO(body[start:]), OPTIONS[format]))
    except ParseError:
        return
    assert all(isinstance(one, Record | Reject) for one in found)
    assert [one.number for one in found] == sorted(one.number for one in found)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=examples(300), deadline=None)
@given(body=BODIES)
def test_any_body_makes_sorted_canonical_lines(format: str, body: bytes) -> None:
    out = io.BytesIO()
    try:
        made = write(reader(format, OPTIONS[format])(HEADS.get(format, b"") + body), out)
    except ParseError:
        return
    lines = out.getvalue().splitlines(keepends=True)
    assert lines == sorted(lines)
    assert len({key_of(line) for line in lines}) == made.entries == len(lines)
    for line in lines:
        entry = orjson.loads(line)
        assert Entry(entry.pop("type"), entry.pop("value"), entry).line() + b"\n" == line


@pytest.mark.parametrize("format", ["json", "xml", "action-log", "xml-pages"])
@settings(max_examples=examples(300), deadline=None)
@given(body=BODIES)
def test_any_document_is_rewritten_to_lines_or_is_a_parse_error(format: str, body: bytes) -> None:
    rewrite = FORMATS[format].to_lines
    assert rewrite is not None
    head, tail = {
        "json": (b'{"r":[', b"]}"),
        "xml": (b"<r>", b"</r>"),
        "action-log": (b"", b"\n"),
        "xml-pages": (b"<queryResult><images><image><id>1</id>", b"</image></images></queryResult>\0"),
    }[format]
    for document in (body, head + body + tail):
        out = io.BytesIO()
        with contextlib.suppress(ParseError):
            rewrite(document, None, OPTIONS[format], out)
            lines = io.BytesIO(out.getvalue())
            assert all(isinstance(one, Record | Reject) for one in FORMATS[format].records(lines, OPTIONS[format]))


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_a_damaged_encoded_body_is_decoded_or_is_a_parse_error(coding: str, data: st.DataObject) -> None:
    body = b"https://a.example/\n" * data.draw(st.integers(0, 2000))
    packed = bytearray(gzip.compress(body) if coding == "gzip" else zstandard.compress(body))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(packed)))
        packed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    unpacked_or_refused(bytes(packed), coding)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@settings(max_examples=examples(300), deadline=None)
@given(start=st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"]), rest=st.binary())
def test_any_bytes_are_decoded_or_are_a_parse_error(coding: str, start: bytes, rest: bytes) -> None:
    assert sniff((start + rest)[:4]) in ("identity", "gzip", "zstd")
    unpacked_or_refused(start + rest, coding)


def unpacked_or_refused(packed: bytes, coding: str) -> None:
    bound = 1 << 16
    out = io.BytesIO()
    with contextlib.suppress(ParseError):
        assert decode(io.BytesIO(packed), coding, out, bound) == len(out.getvalue())
    assert len(out.getvalue()) <= bound


DIFFS = st.lists(
    st.sampled_from([b'{"remove":', b'{"add":', b"}", b"\n", b'{"type":"url","value":"a"}', b'"', b"\\", b"\0"])
    | st.binary(max_size=8),
    max_size=12,
).map(b"".join)


@settings(max_examples=examples(300), deadline=None)
@given(diff=DIFFS)
def test_any_delta_is_applied_or_is_a_value_error(diff: bytes) -> None:
    snapshot = b'{"type":"url","value":"a"}\n{"type":"url","value":"b"}\n'
    with contextlib.suppress(ValueError):
        b"".join(apply(ENTRIES, snapshot, diff))


@settings(max_examples=examples(300), deadline=None)
@given(line=st.binary(max_size=60) | st.binary(max_size=30).map(lambda end: b'{"type":"url","value":"' + end))
def test_any_line_has_a_key_or_is_a_value_error(line: bytes) -> None:
    for read in (key_of, type_and_value):
        with contextlib.suppress(ValueError):
            read(line)


@settings(max_examples=examples(300), deadline=None)
@given(wire=st.binary(max_size=40))
def test_any_datagram_acknowledges_a_notify_or_is_ignored(wire: bytes) -> None:
    notifier = Notifier(1.0, 10.0)
    target = NotifyTarget(("192.0.2.1", 53), b"\3rpz\0", None)
    notifier.change(target, 1, b"", 0.0)
    assert not notifier.receive(wire, ("192.0.2.2", 53))
    notifier.receive(wire, target.address)
