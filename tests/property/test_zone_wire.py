"""Messages of a zone transfer are read as dnspython reads them; any octets are a message or a WireError."""

from __future__ import annotations

import contextlib

import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdatatype
import dns.rrset
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklistd.sources.transports.zone_wire import WireError, load, read_message
from tests.examples import examples

ZONE = "rpz.hotline.example."
LABELS = st.sampled_from(["a", "B", "*", "_x", "x y", r"a\.b", "ä", "9"]) | st.text("abc", min_size=1, max_size=63)
NAMES = st.lists(LABELS, min_size=0, max_size=5)
DATA = st.one_of(
    st.sampled_from(
        [
            *(("CNAME", "."), ("CNAME", "*."), ("CNAME", f"a.b.{ZONE}"), ("CNAME", "rpz-drop."), ("A", "192.0.2.1")),
            *(("AAAA", "2001:db8::1"), ("TXT", r'"a\"b" "" "\255"'), ("MX", f"10 mail.{ZONE}"), ("NS", "localhost.")),
            *(("SRV", f"1 2 3 x.{ZONE}"), ("TYPE65280", r"\# 3 00ff10"), ("TYPE65281", r"\# 0"), ("CAA", "0 issue x")),
            *(("SOA", f"localhost. a.{ZONE} 4294967295 1 2 3 4"), ("PTR", f"a.{ZONE}"), ("RP", f"a.{ZONE} b.{ZONE}")),
        ]
    )
)


@settings(max_examples=examples(300), deadline=None)
@given(
    records=st.lists(st.tuples(NAMES, st.sampled_from([ZONE, "other.example.", "."]), st.integers(0, 2**31 - 1), DATA))
)
def test_records_are_read_as_dnspython_reads_them(records: list[tuple[list[str], str, int, tuple[str, str]]]) -> None:
    load()
    message = dns.message.make_response(dns.message.make_query(ZONE, "AXFR", id=7))
    expected = []
    origin = dns.name.from_text(ZONE)
    for labels, above, ttl, (type, data) in records:
        try:
            owner = dns.name.Name(label.encode() for label in labels).concatenate(dns.name.from_text(above))
        except dns.exception.DNSException:  # too long
            continue
        rrset = dns.rrset.from_text(owner, ttl, "IN", type, data)
        message.answer.append(rrset)
        expected.append((owner, ttl, rrset[0]))
    try:
        wire = message.to_wire(max_size=65535)
    except dns.exception.TooBig:
        return
    found = read_message(wire, ZONE.encode())
    assert (found.id, found.question, found.signature) == (7, (ZONE.encode(), 252, 1), None)
    read = []
    for record in found.answer:
        name, ttl_text, rdclass, type, text = record.line().decode().rstrip("\n").split(" ", 4)
        rdata = dns.rdata.from_text(rdclass, type, text)
        read.append((dns.name.from_text(name, origin), int(ttl_text), rdata))
    assert read == expected


@settings(max_examples=examples(500), deadline=None)
@given(data=st.data())
def test_any_octets_are_a_message_or_a_wire_error(data: st.DataObject) -> None:
    message = dns.message.make_response(dns.message.make_query(ZONE, "AXFR", id=7))
    for name, type, text in (
        ("@", "SOA", f"a. b.{ZONE} 1 1 1 1 1"),
        ("a.b", "CNAME", f"b.{ZONE}"),
        ("b", "MX", "1 a."),
    ):
        message.answer.append(
            dns.rrset.from_text(dns.name.from_text(name, dns.name.from_text(ZONE)), 60, "IN", type, text)
        )
    wire = bytearray(message.to_wire())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(wire)))
        wire[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3) | st.just(b"\xc0\x0c"))
    with contextlib.suppress(WireError):
        for record in read_message(bytes(wire), ZONE.encode()).answer:
            assert record.line().count(b"\n") == 1


@settings(max_examples=examples(300), deadline=None)
@given(wire=st.binary(max_size=60) | st.binary(max_size=60).map(lambda end: b"\0\0\x84\0\0\0\0\1\0\0\0\0" + end))
def test_any_short_octets_are_a_message_or_a_wire_error(wire: bytes) -> None:
    with contextlib.suppress(WireError):
        read_message(wire, ZONE.encode())
