"""Catalog zones (RFC 9432), read by dnspython."""

from __future__ import annotations

import dns.message
import dns.name
import dns.rdatatype

from blocklistd.rpz.wire import MESSAGE, messages
from blocklistd.serve.dns.catalog import catalog_apex, compile_catalog, member_label

NAME = "catalog.blocklist.example"


def test_a_catalog_has_its_version_and_one_member_for_each_zone() -> None:
    zones = [f"z{number}.{'x' * 60}.example" for number in range(300)]
    compiled = list(messages(compile_catalog(NAME, reversed(zones))))
    assert len(compiled) > 1
    assert all(len(message) <= MESSAGE for message in compiled)
    found, version = {}, []
    for message in compiled:
        for rrset in dns.message.from_wire(bytes(message)).answer:
            assert rrset.ttl == 0
            if rrset.rdtype == dns.rdatatype.TXT:
                version.append((rrset.name.to_text(omit_final_dot=True), rrset[0].to_text()))
            else:
                found[rrset[0].target.to_text(omit_final_dot=True)] = rrset.name
    assert version == [(f"version.{NAME}", '"2"')]
    assert found == {zone: dns.name.from_text(f"{member_label(zone)}.zones.{NAME}") for zone in zones}
    assert len(set(found.values())) == len(zones)
    assert compile_catalog(NAME, zones) == b"".join(len(one).to_bytes(2, "big") + bytes(one) for one in compiled)


def test_its_apex_names_nobody() -> None:
    apex = catalog_apex(NAME)
    assert (apex.mname, apex.ns, apex.minimum) == ("invalid", ("invalid",), 0)
