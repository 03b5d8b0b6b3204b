"""Parsing of DNS requests: bounded time, counts checked before names are read, and the same names as dnspython."""

from __future__ import annotations

import struct
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import dns.message
import dns.name
import dns.tsigkeyring
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklistd.limits import MAX_DNS_REQUEST
from blocklistd.serve.dns import message as dm
from blocklistd.serve.dns.tsig import Signer
from tests.costly_messages import MESSAGES
from tests.examples import examples
from tests.property.test_zones import KEY, ORIGIN

STEPS = 8000
"""Lines of Python that parsing one message may execute: less than 1 ms (bench/unauthenticated.py measures it)."""


def steps(wire: bytes) -> int:
    """The number of lines of Python, in all modules, that parsing the message executes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        with suppress(dm.Malformed):
            dm.parse(wire)
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize("name", MESSAGES)
def test_parsing_a_costly_message_is_bounded_in_steps(name: str) -> None:
    assert steps(MESSAGES[name]) <= STEPS


@pytest.mark.parametrize("counts", [(2, 0, 0), (0, 2, 0), (0, 0, 3), (65535, 65535, 65535)])
def test_record_counts_above_those_of_a_request_are_refused_before_a_name_is_read(counts: tuple[int, int, int]) -> None:
    unreadable = b"\xff" * 40
    with pytest.raises(dm.Malformed) as refused:
        dm.parse(struct.pack("!6H", 7, 0, 1, *counts) + unreadable)
    assert refused.value.answer == dm.header(7, 0, dm.FORMERR)
    update = dm.parse(struct.pack("!6H", 7, 5 << 11, 1, *counts) + unreadable)
    assert (update.opcode, update.question) == (5, b"")


def test_a_message_above_the_size_of_a_request_is_refused() -> None:
    query = dns.message.make_query(ORIGIN, "SOA").to_wire() or b""
    opt = struct.pack("!BHHIH", 0, dm.OPT, 1232, 0, 0)
    room = MAX_DNS_REQUEST - len(query) - len(opt)
    for padding, right in ((room, True), (room + 1, False)):
        wire = query[:10] + struct.pack("!H", 1) + query[12:] + opt[:-2] + struct.pack("!H", padding) + b"\0" * padding
        if right:
            assert dm.parse(wire).edns == 0
        else:
            with pytest.raises(dm.Malformed):
                dm.parse(wire)


def test_the_largest_request_is_parsed() -> None:
    long = dns.name.from_text(".".join(["n" * 61] * 4) + ".")
    query = dns.message.make_query(long, "IXFR", use_edns=0, pad=468)
    soa = f". {'m.' * 120} {'r.' * 120} 5 1 1 1 1"
    owner, mname, rname, *numbers = soa.split()
    query.authority.append(dns.rrset.from_text(long, 0, "IN", "SOA", " ".join([mname, rname, *numbers])))
    query.use_tsig(
        dns.tsigkeyring.from_text({".".join(["k" * 61] * 4) + ".": ("hmac-sha512.", "c2VjcmV0")}),
        algorithm="hmac-sha512.",
    )
    read = dm.parse(query.to_wire(max_size=65535) or b"")
    assert (read.serial, read.edns, read.type) == (5, 0, dm.IXFR)
    assert read.tsig is not None
    assert read.name == long.to_wire()
    assert owner == "."


def test_names_that_clients_compress_are_parsed() -> None:
    """In BIND's IXFR requests the names of the SOA point to the question. A key's name may do so too."""
    query = dns.message.make_query(ORIGIN, "IXFR")
    query.authority.append(dns.rrset.from_text(ORIGIN, 0, "IN", "SOA", f"ns.{ORIGIN} h.{ORIGIN} 4294967295 1 1 1 1"))
    wire = query.to_wire() or b""
    assert b"\xc0\x0c" in wire
    signed = Signer(KEY).sign(wire, 1000)
    assert dm.parse(signed).serial == 2**32 - 1
    start = signed.rindex(KEY.name)
    pointed = dm.parse(signed[:start] + b"\x01K\xc0\x0c" + signed[start + len(KEY.name) :])
    assert pointed.tsig is not None
    assert pointed.tsig.name == b"\x01k" + (ORIGIN.to_wire() or b"").lower()


PIECES = st.sampled_from([b"\0", b"\x01a", b"\x02Ab", b"\x3f" + b"l" * 63, b"\x40", b"\xc0"]) | st.binary(max_size=3)
POINTERS = st.integers(0, 80).map(lambda at: struct.pack("!H", 0xC000 | at))


@settings(max_examples=examples(1000), deadline=None)
@given(st.lists(PIECES | POINTERS, max_size=40).map(b"".join), st.integers(12, 40))
def test_a_name_is_parsed_as_by_dnspython_or_refused(rest: bytes, at: int) -> None:
    wire = bytes(12) + rest
    try:
        name, end = dm._read_name(wire, at)
    except (ValueError, IndexError):
        return
    expected, used = dns.name.from_wire(wire, at)
    assert (name, end) == (expected.canonicalize().to_wire(), at + used)
