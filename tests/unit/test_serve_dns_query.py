"""Answers to single DNS requests."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import replace

import dns.flags
import dns.message
import dns.rcode
import pytest

from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.query import Reply, Transfer, respond
from blocklistd.serve.dns.transfer import Stream, axfr
from blocklistd.serve.dns.tsig import Signer
from blocklistd.serve.dns.zones import Peer, ZoneView
from tests.property.test_zones import KEY, ORIGIN, PLAN, ZONE, Primary

LONG = ".".join(["m" * 60] * 4)


def answered(wire: bytes, view: ZoneView | None = None, *, tcp: bool = False) -> dns.message.Message:
    primary = Primary({}, {})
    primary.zones.publish(view or primary.view(1))
    answer, _ = respond(wire, primary.zones, "192.0.2.1", 1000, tcp=tcp)
    assert isinstance(answer, Reply)
    return dns.message.from_wire(answer.wire, keyring=False)


def signed(kind: str, edns: int | None = None, payload: int = 1232) -> bytes:
    query = dns.message.make_query(ORIGIN, kind)
    if edns is not None:
        query.use_edns(edns, payload=payload)
    return Signer(KEY).sign(query.to_wire() or b"", 1000)


@pytest.mark.parametrize(
    ("edns", "payload", "complete"), [(None, 0, False), (0, 512, False), (0, 4096, True), (0, 1, False)]
)
def test_an_answer_above_the_clients_udp_size_is_truncated(edns: int | None, payload: int, complete: bool) -> None:
    view = replace(Primary({}, {}).view(1), plan=replace(PLAN, apex=replace(PLAN.apex, mname=LONG, rname=LONG)))
    answer = answered(signed("SOA", edns, payload), view)
    assert bool(answer.flags & dns.flags.TC) is not complete
    assert bool(answer.answer) is complete
    assert (answer.rcode(), answer.edns) == (dns.rcode.NOERROR, -1 if edns is None else 0)
    assert answer.tsig is not None
    assert not answered(signed("SOA", edns, payload), view, tcp=True).flags & dns.flags.TC


def test_the_first_message_of_a_transfer_has_opt_if_the_request_had() -> None:
    primary = Primary({}, {})
    primary.zones.publish(primary.view(1))
    for edns in (None, 0):
        transfer, _ = respond(signed("AXFR", edns), primary.zones, "192.0.2.1", 1000, tcp=True)
        assert isinstance(transfer, Transfer)
        assert transfer.query.tsig is not None
        view = transfer.view
        assert view.compiled is not None
        records = axfr(view.soa(), view.plan.apex.except_soa(view.serial), view.compiled)
        for signer in (None, Signer(KEY, transfer.query.tsig.mac)):
            stream = bytes(Stream(transfer.query, records, signer).take(1000))
            (size,) = struct.unpack_from("!H", stream)
            first = dns.message.from_wire(stream[2 : 2 + size], keyring=False)
            assert first.edns == (-1 if edns is None else 0)
            assert (first.tsig is None) is (signer is None)


def test_tsig_in_another_section_class_or_with_a_ttl_is_malformed() -> None:
    wire = signed("SOA")
    at = wire.index(b"\x03isp\0") + 5
    elsewhere = wire[:6] + struct.pack("!HHH", 1, 0, 0) + wire[12:]
    other_class = wire[: at + 2] + struct.pack("!H", 1) + wire[at + 4 :]
    with_ttl = wire[: at + 4] + struct.pack("!I", 1) + wire[at + 8 :]
    assert answered(wire).rcode() == dns.rcode.NOERROR
    for damaged in (elsewhere, other_class, with_ttl):
        assert answered(damaged).rcode() == dns.rcode.FORMERR


@pytest.mark.parametrize(
    ("address", "isp"),
    [
        ("192.0.2.1", "narrow"),
        ("192.0.2.9", "wide"),
        ("::ffff:192.0.2.9", "wide"),
        ("198.51.100.1", None),
        ("2001:db8::1", "six"),
        ("2001:db9::1", None),
        ("c000:201::", None),
    ],
)
def test_an_unsigned_client_is_found_by_its_longest_network(address: str, isp: str | None) -> None:
    zone = wire_name(ZONE)
    networks = {"other": "192.0.2.0/24", "narrow": "192.0.2.0/29", "wide": "192.0.2.0/24", "six": "2001:db8::/32"}
    zones = Primary({}, {}).zones
    zones.replace_peers(
        Peer(name, frozenset() if name == "other" else frozenset({zone}), (), (ipaddress.ip_network(network),), ())
        for name, network in networks.items()
    )
    found = zones.peer_of(None, address, zone)
    assert (found and found.subscriber) == isp
