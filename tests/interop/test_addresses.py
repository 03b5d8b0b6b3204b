"""Real resolvers apply the action of the zone to answers with a listed address, and to no others."""

from __future__ import annotations

import ipaddress
from functools import partial
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from tests.interop.programs import Peers, Resolver
from tests.interop.stub import Stub
from tests.system.daemon import free_port
from tests.system.test_zones import Scene

LISTED = (
    *("192.0.2.1", "198.51.100.0/24", "198.51.100.7", "198.51.100.64/26", "203.0.113.4/30"),
    *("2001:db8:0:1::/64", "2001:db8:0:2:0:0:0:1", "2001:db8:0:0:7:0:0:1", "2001:db8:0:7:7:7:7:7", "2001:db8:9::/48"),
    *("2001:db8:9:1::5", "2001:db8:8:0:0:8::", "2001:db8:a:b:c:d:e:f"),
)
ANSWERED = (
    *("192.0.2.1", "192.0.2.2", "198.51.100.0", "198.51.100.7", "198.51.100.8", "198.51.100.255", "198.51.101.7"),
    *("203.0.113.3", "203.0.113.4", "203.0.113.7", "203.0.113.8", "192.0.2.128"),
    *("2001:db8:0:1::", "2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:3::1", "2001:db8:0:2::1", "2001:db8:0:2::2"),
    *("2001:db8::7:0:0:1", "2001:db8:0:0:7::", "2001:db8:0:7:7:7:7:7", "2001:db8:9:ffff::1", "2001:db8:9:1::5"),
    *("2001:db8:8:0:0:8::", "2001:db8:8:0:0:8::1", "2001:db8:a:b:c:d:e:f", "2001:db8:a:b:c:d:e:0"),
)
NAMES = {f"n{number}.answers.example.": str(ipaddress.ip_address(address)) for number, address in enumerate(ANSWERED)}
ACTIONS = {"nxdomain": "nxdomain", "nodata": "nodata", "cname": {"cname": "stop.isp.example"}}


def outcome(answer: dns.message.Message, address: str) -> str:
    """The action that the resolver took; "" if the answer is the one of the stub."""
    if answer.rcode() == dns.rcode.NXDOMAIN:
        return "nxdomain"
    assert answer.rcode() == dns.rcode.NOERROR, answer
    if not answer.answer:
        return "nodata"
    texts = [rdata.to_text() for rrset in answer.answer for rdata in rrset]
    if texts == [address]:
        return ""
    assert "stop.isp.example." in texts, answer
    return "cname"


def does(resolver: Resolver, listed: tuple[str, ...], action: str) -> bool:
    """Whether the resolver does what the list says, for each address."""
    networks = [ipaddress.ip_network(text) for text in listed]
    for name, address in NAMES.items():
        expected = action if any(ipaddress.ip_address(address) in network for network in networks) else ""
        if outcome(resolver.ask(name, "AAAA" if ":" in address else "A"), address) != expected:
            return False
    return True


@pytest.mark.parametrize("software", ["bind", "unbound", "powerdns"])
@pytest.mark.parametrize("action", ACTIONS)
def test_an_answer_with_a_listed_address_gets_the_action(
    tmp_path: Path, stub: Stub, peers: Peers, software: str, action: str
) -> None:
    scene, port = Scene(tmp_path, action=ACTIONS[action], soa=peers.soa(software)), free_port()
    stub.addresses.update(NAMES)
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        with peers.start(software, scene.folder, stub, port, peers.printed(scene, software, port)) as resolver:
            resolver.wait(lambda: resolver.ask("ready.example").rcode() == dns.rcode.NOERROR)
            for listed in (LISTED, tuple(text for text in LISTED if "/" not in text), (), LISTED):
                scene.publish("a.example", ips=listed)
                resolver.wait(partial(does, resolver, listed, action))
            log = resolver.log.read_text(errors="replace").replace("hostmaster.invalid", "")
            for complaint in ("canonical", "invalid", "bad name", "error parsing"):
                assert complaint not in log
