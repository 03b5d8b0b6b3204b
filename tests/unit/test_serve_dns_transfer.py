"""A transfer of several chunks: of bounded size and complete messages, each with its id and signed at its time."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import dns.message
import dns.rdatatype
import pytest

from blocklistd.rpz.wire import MESSAGE, Action, Apex, compile_rules, messages, wire_name
from blocklistd.serve.dns import message as dm
from blocklistd.serve.dns.transfer import CHUNK, Stream, axfr
from blocklistd.serve.dns.tsig import FUDGE, Key, Signer

ZONE = "rpz.blocklist.example"
APEX = Apex(ZONE, "localhost", "h.invalid", 60, 30, 600, 60, ("localhost",))
KEY = Key(wire_name("isp"), "hmac-sha256", b"k" * 32)
RULES = [f"example\0n{number:06}".encode() for number in range(20_000)]
COMPILED = b"".join(compile_rules(RULES, wire_name(ZONE), Action(b"\0", 60)))
BEGIN, STEP = 1_000_000, 2 * FUDGE


def asked(*, signed: bool) -> dm.Query:
    wire = dns.message.make_query(ZONE, "AXFR").to_wire() or b""
    return dm.parse(Signer(KEY).sign(wire, BEGIN) if signed else wire)


def taken(stream: Stream) -> Iterator[bytes]:
    """The chunks, each taken so long after the one before that a client would refuse the earlier time (FUDGE)."""
    now = BEGIN
    while chunk := stream.take(now):
        yield bytes(chunk)
        now += STEP


@pytest.mark.parametrize("signed", [False, True])
def test_chunks_are_bounded_and_of_complete_messages(signed: bool) -> None:
    query = asked(signed=signed)
    assert (query.tsig is not None) == signed
    signer = Signer(KEY, query.tsig.mac) if query.tsig else None
    checking = Signer(KEY, query.tsig.mac) if query.tsig else None
    stream = Stream(query, axfr(APEX.soa(7), APEX.except_soa(7), COMPILED), signer)
    record_counts = {"SOA": 0, "NS": 0, "CNAME": 0}
    chunks = list(taken(stream))
    assert len(chunks) > 2
    for number, chunk in enumerate(chunks):
        assert len(chunk) <= CHUNK + 2 * MESSAGE
        for index, message in enumerate(messages(chunk)):
            read = dns.message.from_wire(bytes(message), keyring=False, one_rr_per_rrset=True)
            assert (read.id, read.rcode()) == (query.id, 0)
            assert len(read.question) == int(number == index == 0)
            for rrset in read.answer:
                record_counts[dns.rdatatype.to_text(rrset.rdtype)] += 1
            if checking is not None:
                assert read.tsig is not None
                assert read.tsig[0].time_signed == BEGIN + number * STEP
                start = bytes(message).rindex(KEY.name + struct.pack("!HHI", 250, 255, 0))
                plain = bytes(message[:10]) + b"\0\0" + bytes(message[12:start])
                assert checking.sign(plain, BEGIN + number * STEP) == message, "signed over the MAC before it"
    assert record_counts == {"SOA": 2, "NS": 1, "CNAME": len(RULES)}
    assert not stream.take(BEGIN), "nothing after the last"
    assert COMPILED[2:4] == b"\0\0", "the compiled messages are unchanged"
