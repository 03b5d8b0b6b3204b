"""`rpz`: what a resolver reads as a policy zone."""

from __future__ import annotations

import io

import dns.rdatatype
import dns.zone

from blocklistd.model import Entry
from blocklistd.outputs import OUTPUTS

LONG = ".".join(["a" * 60] * 3) + ".b" * 11 + ".example"  # with a zone of 40 octets, the wildcard below it is too long


def render(*entries: Entry) -> tuple[int, dns.zone.Zone]:
    out = io.BytesIO()
    lines = sorted(entry.line() + b"\n" for entry in entries)
    skipped = OUTPUTS["rpz"](io.BytesIO(b"".join(lines)), out)
    return skipped, dns.zone.from_text(out.getvalue().decode(), "any.invalid")


def rules(zone: dns.zone.Zone) -> set[str]:
    found = {name.to_text(): data.to_text() for name, _, data in zone.iterate_rdatas(dns.rdatatype.CNAME)}
    assert set(found.values()) <= {"."}
    return set(found)


def test_rules_of_domains_hosts_and_addresses() -> None:
    skipped, zone = render(
        *(Entry("host", "b.example"), Entry("domain", "a.example"), Entry("host", "x.a.example")),
        *(Entry("ip", "192.0.2.0/24"), Entry("ip", "2001:db8::1"), Entry("url", "https://c.example/")),
    )
    addresses = {"24.0.2.0.192.rpz-ip", "128.1.zz.db8.2001.rpz-ip"}
    assert rules(zone) == {"b.example", "a.example", "*.a.example"} | addresses
    assert skipped == 1, "the address of a page"


def test_an_empty_version_is_a_zone_without_rules() -> None:
    skipped, zone = render()
    assert (skipped, rules(zone)) == (0, set())
    assert {"SOA", "NS"} == {dns.rdatatype.to_text(one.rdtype) for one in zone["@"].rdatasets}


def test_an_entry_whose_rule_is_too_long_is_counted() -> None:
    skipped, zone = render(Entry("domain", LONG), Entry("host", "b.example"))
    assert (skipped, rules(zone)) == (1, {LONG, "b.example"})
