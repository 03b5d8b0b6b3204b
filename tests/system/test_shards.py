"""A zone with shards, from outside: its shards have together the rules of the list, and follow it each by itself."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.opcode
import dns.rcode
import pytest

from tests.system.test_operations import reload
from tests.system.test_zones import ZONE, Scene, Secondary

SHARDS = [f"{number:02}.{ZONE}" for number in range(4)]
NAMES = tuple(f"n{number}.example" for number in range(24))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A daemon whose list has no version yet: its first pull has failed, since the source has no file."""
    made = Scene(tmp_path, shards=4)
    (tmp_path / "list.ndjson").unlink()
    with made.daemon:
        made.daemon.first_pull("hotline")
        yield made


def secondaries(scene: Scene, made: dict[str, Any]) -> dict[str, Secondary]:
    return {name: Secondary(scene.port, scene.key(made), dns.name.from_text(name)) for name in SHARDS}


def test_unbound_is_advised_shards_for_a_zone_of_many_rules(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.write(*(f"n{number}.example" for number in range(50_001)))
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        scene.daemon.wait_for(lambda: ZONE in scene.daemon.ask("status").json["zones"])
        printed = scene.subscriber("isp", address=["192.0.2.54"], software="unbound")["config"]["unbound"]
        assert f"\n# {ZONE} has 100,002 rules.\n" in printed
        assert "\n# Ask the publisher for `shards: 16`.\nrpz:\n" in printed
        scene.publish("a.example")
        again = scene.daemon.ask("subscriber show", id="isp", software="unbound").json["config"]["unbound"]
        assert "#" not in again.replace("# keeps", "")


def rcode(scene: Scene, made: dict[str, Any], zone: str) -> dns.rcode.Rcode:
    query = dns.message.make_query(zone, "SOA")
    query.use_tsig(scene.key(made))
    return scene.ask(query).rcode()


def rules(domains: tuple[str, ...]) -> set[str]:
    return {rule for name in domains for rule in (name, f"*.{name}")}


def test_shards_have_together_the_rules_of_the_list_and_follow_it(scene: Scene) -> None:
    made = scene.subscriber("isp")
    assert rcode(scene, made, ZONE) == dns.rcode.REFUSED, "the zone itself is not served"
    for name in SHARDS:
        assert rcode(scene, made, name) == dns.rcode.SERVFAIL, "before the first version"
    scene.publish(*NAMES, hosts=("x.n1.example",), ips=("192.0.2.0/24", "192.0.2.7", "2001:db8::1"))
    followed = secondaries(scene, made)
    for secondary in followed.values():
        assert secondary.refresh("AXFR") == 1
    addresses = {"24.0.2.0.192.rpz-ip", "128.1.zz.db8.2001.rpz-ip"}
    found = [rule for secondary in followed.values() for rule in secondary.rules]
    assert sorted(found) == sorted(rules(NAMES) | addresses), "each rule in one shard"
    assert all(secondary.rules for secondary in followed.values())
    zones = scene.daemon.ask("status").json["zones"]
    assert list(zones) == [ZONE, *SHARDS]
    total = zones[ZONE]
    assert (total["serial"], total["records"], total["covered"], total["omitted"]) == (None, 50, 2, 0)
    assert total["shards"] == SHARDS
    assert sum(zones[name]["records"] for name in SHARDS) == 50
    for name in SHARDS:
        assert scene.daemon.cli("status", "-c", str(scene.daemon.path)).stdout.decode().count(name) >= 1

    scene.publish(*NAMES[1:], hosts=("x.n1.example",), ips=("192.0.2.7", "2001:db8::1"))
    serials = {name: secondary.refresh() for name, secondary in followed.items()}
    assert set(serials.values()) == {1, 2}, "a shard without a change keeps its serial"
    assert {rule for one in followed.values() for rule in one.rules} == rules(NAMES[1:]) | {
        "32.7.2.0.192.rpz-ip",
        "128.1.zz.db8.2001.rpz-ip",
    }
    for name, fresh in secondaries(scene, made).items():
        fresh.refresh("AXFR")
        assert fresh.zone == followed[name].zone
    shown = scene.daemon.ask("subscriber show", id="isp").json["zones"]
    assert list(shown) == SHARDS
    other = scene.daemon.ask("subscriber add", id="other", lists=["national"]).json
    assert rcode(scene, other, SHARDS[0]) in (dns.rcode.REFUSED, dns.rcode.NOTAUTH)


def test_each_shard_is_announced_and_printed(scene: Scene) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(20)
        made = scene.subscriber("isp", notify=[f"127.0.0.1:{listening.getsockname()[1]}"])
        for software, text in made["config"].items():
            for name in SHARDS:
                assert text.count(name) >= 1, software
        scene.publish(*NAMES)
        announced: set[str] = set()
        deadline = time.monotonic() + 20
        while announced != set(SHARDS):
            wire, source = listening.recvfrom(4096)
            message = dns.message.from_wire(wire, keyring=scene.key(made))
            assert message.opcode() == dns.opcode.NOTIFY
            announced.add(message.question[0].name.to_text(omit_final_dot=True))
            listening.sendto(dns.message.make_response(message).to_wire(), source)
            assert time.monotonic() < deadline


def test_a_shard_that_is_gone_is_announced_no_more(scene: Scene) -> None:
    """Its NOTIFY, which nobody has acknowledged, is not sent again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(20)
        scene.subscriber("isp", notify=[f"127.0.0.1:{listening.getsockname()[1]}"])
        scene.publish(*NAMES)

        def announced() -> str:
            message = dns.message.from_wire(listening.recv(4096), keyring=False)
            return message.question[0].name.to_text(omit_final_dot=True)

        def all_of(names: list[str]) -> None:
            seen = set[str]()
            while not seen.issuperset(names):
                seen.add(announced())

        all_of(SHARDS)
        scene.daemon.config["zones"][ZONE]["shards"] = 2
        scene.daemon.write_config()
        reload(scene.daemon)
        listening.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while listening.recv(4096):  # those from before the reload
                pass
        listening.settimeout(20)
        all_of(SHARDS[:2])
        later = {announced() for _ in range(2)}
        assert later <= set(SHARDS[:2]), "requests go on, and not for the shards that are gone"
        assert 'given_up"} 0' in scene.daemon.ops("/metrics").body.decode()


def test_another_number_of_shards_is_another_set_of_zones(scene: Scene) -> None:
    made = scene.subscriber("isp")
    scene.publish(*NAMES)
    first = Secondary(scene.port, scene.key(made), dns.name.from_text(SHARDS[0]))
    first.refresh("AXFR")
    scene.daemon.config["zones"][ZONE]["shards"] = 2
    scene.daemon.write_config()
    reload(scene.daemon)
    assert list(scene.daemon.ask("status").json["zones"]) == [ZONE, *SHARDS[:2]]
    assert rcode(scene, made, SHARDS[3]) == dns.rcode.REFUSED
    assert first.refresh() == 2
    second = Secondary(scene.port, scene.key(made), dns.name.from_text(SHARDS[1]))
    second.refresh("AXFR")
    assert first.rules | second.rules == rules(NAMES)
    assert not first.rules & second.rules
    scene.daemon.config["zones"][ZONE]["shards"] = 1
    scene.daemon.write_config()
    reload(scene.daemon)
    complete = Secondary(scene.port, scene.key(made))
    complete.refresh("AXFR")
    assert complete.rules == rules(NAMES)
