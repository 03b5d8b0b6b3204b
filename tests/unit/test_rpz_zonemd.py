"""The digest of a zone, against dnspython's: over random zones, with wildcards, long names and covered names."""

from __future__ import annotations

from dataclasses import replace

import dns.message
import dns.name
import dns.zone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklistd.rpz.rules import DOMAIN, HOST, rules
from blocklistd.rpz.wire import Action, Apex, compile_rules, messages, wire_name
from blocklistd.rpz.zonemd import zone_digest
from tests.examples import examples

ZONE = "rpz.blocklist.example"
APEX = Apex(ZONE, "localhost", "h.invalid", 60, 30, 600, 60, ("ns2.example", "localhost", "ns.ns2.example"), True)
label = st.one_of(st.sampled_from(["a", "b", "a-", "_x", "0"]), st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True))
names = st.lists(label, min_size=1, max_size=6).map(lambda labels: "\0".join(labels).encode())
entries = st.dictionaries(names, st.sampled_from([HOST, DOMAIN]), max_size=30)


def zone_of(apex: Apex, serial: int, lines: list[bytes], action: Action) -> dns.zone.Zone:
    """The zone as a secondary makes it from the compiled messages."""
    origin = dns.name.from_text(apex.zone)
    zone = dns.zone.Zone(origin, relativize=False)
    records, count = apex.except_soa(serial)
    head = b"\0\0\x84\0\0\0" + (1 + count).to_bytes(2, "big") + bytes(4) + apex.soa(serial) + records
    compiled = b"".join(compile_rules(lines, wire_name(apex.zone), action))
    for message in (head, *map(bytes, messages(compiled))):
        for rrset in dns.message.from_wire(message).answer:
            zone.replace_rdataset(rrset.name, rrset)
    return zone


@settings(max_examples=examples(100), deadline=None)
@given(
    entries,
    st.integers(1, 2**33),
    st.sampled_from([".", "*.", "rpz-drop.", "stop.isp.example"]),
)
def test_dnspython_computes_the_same_digest(found: dict[bytes, bytes], serial: int, target: str) -> None:
    action = Action(wire_name(target), 77)
    lines = rules(sorted(name + end for name, end in found.items()), ZONE).lines
    digest = zone_digest(APEX, serial, lines, action)
    zone = zone_of(replace(APEX, digest=digest), serial, lines, action)
    (record,) = zone.find_rdataset(ZONE + ".", "ZONEMD")
    assert (record.serial, record.scheme, record.hash_algorithm) == (serial % 2**32, 1, 1)
    zone.verify_digest()


def test_another_serial_or_record_is_another_digest() -> None:
    lines, action = [b"example\0a", b"example\0a\0*"], Action(b"\0", 60)
    digest = zone_digest(APEX, 7, lines, action)
    for apex, serial, changed, answer in (
        (APEX, 8, lines, action),
        (replace(APEX, refresh=61), 7, lines, action),
        (replace(APEX, ns=("localhost",)), 7, lines, action),
        (APEX, 7, lines[:1], action),
        (APEX, 7, lines, Action(b"\0", 61)),
    ):
        assert zone_digest(apex, serial, changed, answer) != digest
    zone = zone_of(replace(APEX, digest=digest), 7, lines[:1], action)
    with pytest.raises(dns.zone.DigestVerificationFailure):
        zone.verify_digest()
