"""A transfer of several chunks: of bounded size and complete messages, each with its id and signed at its time."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import dns.message
import dns.rdatatype
import pytest

from blocklistd.rpz.wire import MESSAGE, Action, Apex, compile_rules, messages, wire_name
from blocklistd.serve.dns import message as dm
from blocklistd.serve.dns.transfer import CHUNK, Compiled, Stream, axfr
from blocklistd.serve.dns.tsig import FUDGE, Key, Signer

ZONE = "rpz.blocklist.example"
APEX = Apex(ZONE, "localhost", "h.invalid", 60, 30, 600, 60, ("localhost",))
KEY = Key(wire_name("isp"), "hmac-sha256", b"k" * 32)
RULES = [f"example\0n{number:06}".encode() for number in range(40_000)]
COMPILED = b"".join(compile_rules(RULES, wire_name(ZONE), Action(b"\0", 60)))
BEGIN, STEP = 1_000_000, 2 * FUDGE


def asked(*, signed: bool) -> dm.Query:
    wire = dns.message.make_query(ZONE, "AXFR").to_wire() or b""
    return dm.parse(Signer(KEY).sign(wire, BEGIN) if signed else wire)


def taken(stream: Stream, *, reuse: bool) -> Iterator[bytes]:
    """The chunks, each taken so long after the one before that a client would refuse the earlier time (FUDGE)."""
    now = BEGIN
    while chunk := stream.take(now, reuse=reuse):
        yield bytes(chunk)
        now += STEP


class InFile:
    """The compiled messages in a file."""

    def __len__(self) -> int:
        return len(COMPILED)

    def read(self, at: int, into: memoryview) -> None:
        into[:] = COMPILED[at : at + len(into)]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("compiled", [COMPILED, memoryview(COMPILED), InFile()], ids=["bytes", "view", "file"])
def test_chunks_are_bounded_and_of_complete_messages(compiled: Compiled, reuse: bool, signed: bool) -> None:
    query = asked(signed=signed)
    assert (query.tsig is not None) == signed
    signer = Signer(KEY, query.tsig.mac) if query.tsig else None
    checking = Signer(KEY, query.tsig.mac) if query.tsig else None
    stream = Stream(query, axfr(APEX.soa(7), APEX.except_soa(7), compiled), signer)
    record_counts = {"SOA": 0, "NS": 0, "CNAME": 0}
    chunks = list(taken(stream, reuse=reuse))
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


@pytest.mark.parametrize("reuse", [False, True])
def test_a_chunk_stays_as_it_is_unless_its_memory_may_be_used_again(reuse: bool) -> None:
    stream = Stream(asked(signed=False), axfr(APEX.soa(7), APEX.except_soa(7), COMPILED), None)
    first = stream.take(BEGIN)
    content = bytes(first)
    assert stream.take(BEGIN, reuse=reuse)
    assert (bytes(first) == content) != reuse


def test_messages_that_are_cut_short_are_an_error() -> None:
    stream = Stream(asked(signed=False), axfr(APEX.soa(7), APEX.except_soa(7), COMPILED[:1000]), None)
    assert len(list(messages(stream.take(BEGIN)))) == 1
    with pytest.raises(ValueError, match="cut short"):
        stream.take(BEGIN)
