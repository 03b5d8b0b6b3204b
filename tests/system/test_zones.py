"""Zones, from outside: SOA, AXFR, IXFR, TSIG, NOTIFY, with dnspython's Inbound as the judge."""

from __future__ import annotations

import base64
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataset
import dns.rdatatype
import dns.tsig
import dns.zone
import pytest

from blocklistd.serve.dns.tsig import Key, Signer
from tests.system.daemon import Daemon, free_port
from tests.system.test_operations import reload

ZONE = "rpz.blocklist.example"
ORIGIN = dns.name.from_text(ZONE)


class Secondary:
    """A secondary on dnspython: its copy of the zone follows by AXFR and IXFR."""

    def __init__(self, port: int, key: dns.tsig.Key | None, origin: dns.name.Name = ORIGIN) -> None:
        self.port = port
        self.origin = origin
        self.key = key
        self.zone: Any = dns.zone.Zone(origin, relativize=False)
        self.styles: list[int] = []

    def refresh(self, kind: str = "IXFR") -> int:
        """Transfers; the serial then."""
        if kind == "IXFR" and len(self.zone.nodes):
            query, _ = dns.xfr.make_query(self.zone, keyring=self.key)
        else:
            query = dns.message.make_query(self.origin, "AXFR")
            if self.key is not None:
                query.use_tsig(self.key)
        dns.query.inbound_xfr("127.0.0.1", self.zone, query, port=self.port, lifetime=30)
        return self.serial

    @property
    def serial(self) -> int:
        return int(self.zone.find_rrset(self.origin, "SOA")[0].serial)

    @property
    def rules(self) -> set[str]:
        return {
            name.relativize(self.origin).to_text()
            for name, node in self.zone.nodes.items()
            if node.get_rdataset(dns.rdataclass.IN, dns.rdatatype.CNAME) is not None
        }


class Scene:
    def __init__(self, folder: Path, **zone: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.write("a.example")
        self.daemon = Daemon(
            folder,
            {
                "sources": {
                    "hotline": {
                        "url": f"file:{folder}/list.ndjson",
                        "format": "ndjson",
                        "fields": {"value": "/v", "type": "/t", "category": "/c"},
                        "schedule": "every 1d",
                        "verify": {"method": "none"},
                    }
                },
                "lists": {
                    "national": {
                        "sources": ["hotline"],
                        "types": ["url", "host", "domain", "ip"],
                        "guards": {"min_entries": 0, "min_change": 1000000, "allow_ip": True},
                    }
                },
                "zones": {ZONE: {"list": "national", **zone}},
                "dns": {"listen": [f"127.0.0.1:{self.port}"], "notify": {"retry": "1s", "give_up": "1m"}},
            },
        )

    def write(self, *domains: str, hosts: tuple[str, ...] = (), ips: tuple[str, ...] = ()) -> None:
        import json

        lines = [{"t": "domain", "v": name, "c": "A"} for name in domains] + [{"t": "host", "v": n} for n in hosts]
        lines += [{"t": "ip", "v": value} for value in ips]
        (self.folder / "list.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines) or "\n")

    def publish(self, *domains: str, hosts: tuple[str, ...] = (), ips: tuple[str, ...] = ()) -> None:
        self.write(*domains, hosts=hosts, ips=ips)
        assert self.daemon.pull("hotline")["outcome"] == "published"

    def subscriber(self, name: str, **more: Any) -> dict[str, Any]:
        answer = self.daemon.ask("subscriber add", **{"id": name, "zones": [ZONE], **more})
        assert answer.status == 200, answer.body
        made: dict[str, Any] = answer.json
        return made

    def key(self, made: dict[str, Any]) -> dns.tsig.Key:
        tsig = made["tsig"]
        return dns.tsig.Key(tsig["name"], base64.b64decode(tsig["secret"]), tsig["algorithm"])

    def secondary(self, name: str, **more: Any) -> Secondary:
        made = self.subscriber(name, **more)
        return Secondary(self.port, None if more.get("address") else self.key(made))

    def held(self, name: str) -> int | None:
        """The serial that a subscriber's secondary last asked from."""
        serial: int | None = self.daemon.ask("subscriber show", id=name).json["zones"][ZONE]["serial"]
        return serial

    def sent(self, kind: str) -> int:
        """The number of complete transfers, AXFR or IXFR."""
        name = f'blocklistd_dns_transfers_total{{type="{kind}"}} '
        lines = self.daemon.ops("/metrics").body.decode().splitlines()
        return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(name))

    def ask(self, query: dns.message.Message, *, tcp: bool = False) -> dns.message.Message:
        send = dns.query.tcp if tcp else dns.query.udp
        return send(query, "127.0.0.1", port=self.port, timeout=10)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.daemon.wait_for(lambda: made.daemon.ask("status").json["zones"].get(ZONE) is not None)
        yield made


def test_addresses_are_rules_and_prefixes_in_a_listed_prefix_are_covered(scene: Scene) -> None:
    secondary = scene.secondary("isp")
    inside = ("198.51.100.7", "198.51.100.128/25")
    scene.publish("a.example", ips=("198.51.100.0/24", *inside, "2001:DB8::1", "::ffff:192.0.2.1", "10.0.0.0/8"))
    assert secondary.refresh("AXFR") == 2
    others = {"a.example", "*.a.example", "32.1.2.0.192.rpz-ip", "128.1.zz.db8.2001.rpz-ip"}
    assert secondary.rules == others | {"24.0.100.51.198.rpz-ip"}
    status = scene.daemon.ask("status").json["zones"][ZONE]
    assert (status["records"], status["covered"], status["omitted"]) == (5, 2, 0)
    assert scene.daemon.ask("source show", source="hotline").json["rejected"] == {"too-wide": 1}
    scene.publish("a.example", ips=(*inside, "2001:db8::1", "192.0.2.1"))
    assert secondary.refresh() == 3
    assert secondary.rules == others | {"32.7.100.51.198.rpz-ip", "25.128.100.51.198.rpz-ip"}
    fresh = scene.secondary("fresh")
    fresh.refresh("AXFR")
    assert fresh.zone == secondary.zone
    assert scene.daemon.ask("status").json["zones"][ZONE]["covered"] == 0
    (explained,) = [scene.daemon.ask("entry explain", list="national", entry="::FFFF:192.0.2.1").json]
    assert (explained["type"], explained["live"]) == ("ip", True)


@pytest.mark.parametrize("algorithm", ["hmac-sha256", "hmac-sha512"])
def test_transfers_lead_to_the_rules_of_the_list(scene: Scene, algorithm: str) -> None:
    secondary = scene.secondary("isp", algorithm=algorithm)
    assert secondary.refresh("AXFR") == 1
    assert secondary.rules == {"a.example", "*.a.example"}
    scene.publish("a.example", "b.example", hosts=("h.example", "x.a.example"))
    assert secondary.refresh() == 2
    assert secondary.rules == {"a.example", "*.a.example", "b.example", "*.b.example", "h.example"}
    status = scene.daemon.ask("status").json["zones"][ZONE]
    assert (status["serial"], status["records"], status["covered"], status["omitted"]) == (2, 5, 1, 0)
    scene.publish("b.example", hosts=("h.example", "x.a.example"))  # what a.example covered comes back
    assert secondary.refresh() == 3
    assert secondary.rules == {"b.example", "*.b.example", "h.example", "x.a.example"}
    scene.publish()  # empty, by IXFR
    assert secondary.refresh() == 4
    assert secondary.rules == set()
    fresh = Secondary(scene.port, secondary.key)
    assert fresh.refresh("AXFR") == 4
    assert fresh.zone == secondary.zone
    scene.publish("c.example")
    assert secondary.refresh() == 5
    fresh.refresh("AXFR")
    assert fresh.zone == secondary.zone


def test_from_any_kept_serial_also_after_a_restart(scene: Scene) -> None:
    secondaries = [scene.secondary(f"isp{number}") for number in range(4)]
    versions = [("a.example",), ("a.example", "b.example"), ("b.example",), ("a.example", "c.example")]
    for secondary, names in zip(secondaries, versions, strict=True):
        if names != ("a.example",):
            scene.publish(*names)
        secondary.refresh("AXFR")
    scene.daemon.kill()
    scene.daemon.start()
    scene.publish("d.example")
    assert {secondary.refresh() for secondary in secondaries} == {5}
    assert all(secondary.rules == {"d.example", "*.d.example"} for secondary in secondaries)


def test_a_serial_rises_with_rules_and_rendering_only(scene: Scene) -> None:
    secondary = scene.secondary("isp")
    scene.publish("a.example", hosts=("x.a.example",))  # covered: no rule shows it
    assert scene.daemon.ask("status").json["lists"]["national"]["version"] == 2
    assert secondary.refresh("AXFR") == 1
    scene.daemon.config["zones"][ZONE]["ttl"] = 120
    scene.daemon.write_config()
    reload(scene.daemon)
    assert secondary.refresh() == 2
    assert {node.get_rdataset(1, 5).ttl for name, node in secondary.zone.nodes.items() if name != ORIGIN} == {120}
    scene.daemon.stop()
    scene.daemon.start()
    assert secondary.refresh() == 2, "a restart makes no serial"


def test_a_zone_that_is_given_another_list_shows_that(scene: Scene) -> None:
    """Also where the new list happens to be at the version number of the old one."""
    secondary = scene.secondary("isp")
    assert secondary.refresh() == 1
    config = scene.daemon.config
    (scene.folder / "other.txt").write_text("other.example\n")
    config["sources"]["other"] = {
        **{"url": f"file:{scene.folder}/other.txt", "format": "text", "defaults": {"type": "host"}},
        **{"schedule": "every 1d", "verify": {"method": "none"}},
    }
    config["lists"]["other"] = {"sources": ["other"]}
    config["zones"][ZONE]["list"] = "other"
    scene.daemon.write_config()
    reload(scene.daemon)
    scene.daemon.first_pull("other")
    assert scene.daemon.ask("status").json["lists"]["other"]["version"] == 1
    assert secondary.refresh() == 2
    assert secondary.rules == {"other.example"}


@pytest.mark.parametrize(
    ("action", "target"),
    [("nxdomain", "."), ("nodata", "*."), ({"cname": "stop.isp.example"}, "stop.isp.example.")],
)
def test_actions(tmp_path: Path, action: Any, target: str) -> None:
    scene = Scene(tmp_path, action=action, serial_start=7)
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        secondary = scene.secondary("isp")
        scene.publish("a.example", "b.example")
        assert secondary.refresh("AXFR") == 8
        found = {
            secondary.zone.get_rdataset(f"{n}.{ZONE}.", "CNAME")[0].target.to_text()
            for n in ("a.example", "*.b.example")
        }
        assert found == {target}


def test_before_version_1_nothing_is_answered(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    (tmp_path / "list.ndjson").unlink()
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        made = scene.subscriber("isp")
        query = dns.message.make_query(ORIGIN, "SOA")
        query.use_tsig(scene.key(made))
        assert scene.ask(query).rcode() == dns.rcode.SERVFAIL


def test_who_may_transfer_a_zone(scene: Scene) -> None:
    entitled = scene.key(scene.subscriber("isp"))
    other = scene.daemon.ask("subscriber add", id="other", lists=["national"]).json
    for key, name, rcode in (
        (entitled, ORIGIN, dns.rcode.NOERROR),
        (None, ORIGIN, dns.rcode.REFUSED),
        (scene.key(other), ORIGIN, dns.rcode.REFUSED),
        (entitled, dns.name.from_text("nowhere.example"), dns.rcode.REFUSED),
    ):
        for tcp in (False, True):
            query = dns.message.make_query(name, "SOA")
            if key is not None:
                query.use_tsig(key)
            assert scene.ask(query, tcp=tcp).rcode() == rcode
    for kind in ("A", "ANY", "CNAME", "TXT"):
        query = dns.message.make_query(f"a.example.{ZONE}", kind)
        query.use_tsig(entitled)
        assert scene.ask(query).rcode() == dns.rcode.REFUSED


def test_by_address_unsigned(scene: Scene) -> None:
    secondary = scene.secondary("unbound", address=["127.0.0.0/24"])
    assert secondary.refresh("AXFR") == 1
    scene.daemon.ask("subscriber revoke", id="unbound")
    with pytest.raises(dns.xfr.TransferError):
        secondary.refresh("AXFR")


def test_keys_signatures_and_times(scene: Scene) -> None:
    made = scene.subscriber("isp")
    right = scene.key(made)
    unknown = dns.tsig.Key("nobody", right.secret, right.algorithm)
    forged = dns.tsig.Key(right.name, b"x" * 32, right.algorithm)
    for key, error in ((unknown, dns.rcode.BADKEY), (forged, dns.rcode.BADSIG)):
        query = dns.message.make_query(ORIGIN, "SOA")
        query.use_tsig(key)
        raw = _raw(scene.port, query.to_wire())
        answer = dns.message.from_wire(raw, keyring=False)
        assert answer.rcode() == dns.rcode.NOTAUTH
        assert (_tsig(answer).error, _tsig(answer).mac) == (error, b"")
    late = _signed_at(right, -3600)
    answer = dns.message.from_wire(_raw(scene.port, late), keyring=False)
    assert answer.rcode() == dns.rcode.NOTAUTH
    assert _tsig(answer).error == dns.rcode.BADTIME
    assert len(_tsig(answer).mac) == 32
    assert len(_tsig(answer).other) == 6


def _signed_at(key: dns.tsig.Key, shift: int) -> bytes:
    """A query as a clock that is so many seconds off would sign it."""
    wire = dns.message.make_query(ORIGIN, "SOA").to_wire()
    assert wire is not None
    return Signer(Key(key.name.to_wire() or b"", "hmac-sha256", key.secret)).sign(wire, int(time.time()) + shift)


def _tsig(answer: dns.message.Message) -> Any:
    assert answer.tsig is not None
    return answer.tsig[0]


def _raw(port: int, wire: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(10)
        asking.sendto(wire, ("127.0.0.1", port))
        return asking.recv(4096)


def test_edns(scene: Scene) -> None:
    key = scene.key(scene.subscriber("isp"))
    query = dns.message.make_query(ORIGIN, "SOA", use_edns=0)
    query.use_tsig(key)
    assert scene.ask(query).edns == 0
    query = dns.message.make_query(ORIGIN, "SOA", use_edns=1)
    query.use_tsig(key)
    assert scene.ask(query).rcode() == dns.rcode.BADVERS
    query = dns.message.make_query(ORIGIN, "SOA")
    query.use_tsig(key)
    assert scene.ask(query).edns == -1


def test_ixfr_over_udp_is_the_soa_alone(scene: Scene) -> None:
    made = scene.subscriber("isp")
    secondary = Secondary(scene.port, scene.key(made))
    secondary.refresh("AXFR")
    scene.publish("a.example", "b.example")
    query, _ = dns.xfr.make_query(secondary.zone, keyring=secondary.key)
    answer = scene.ask(query)
    assert [(rrset.rdtype, rrset[0].serial) for rrset in answer.answer] == [(dns.rdatatype.SOA, 2)]
    assert secondary.refresh() == 2


def test_notify_until_it_is_acknowledged(scene: Scene) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(30)
        made = scene.subscriber("isp", notify=[f"127.0.0.1:{listening.getsockname()[1]}"])
        key = scene.key(made)
        scene.publish("a.example", "b.example")
        wire, source = listening.recvfrom(4096)
        again, _ = listening.recvfrom(4096)  # nobody answered: once more
        for told in (wire, again):
            message = dns.message.from_wire(told, keyring=key)
            assert message.opcode() == dns.opcode.NOTIFY
            assert message.question[0].name == ORIGIN
            assert message.answer[0][0].serial == 2
            assert message.had_tsig
        listening.sendto(dns.message.make_response(dns.message.from_wire(again, keyring=key)).to_wire(), source)
        scene.publish("c.example")
        message = dns.message.from_wire(listening.recvfrom(4096)[0], keyring=key)
        assert message.answer[0][0].serial == 3


def test_status_shows_who_has_what(scene: Scene) -> None:
    secondary = scene.secondary("isp")
    secondary.refresh("AXFR")

    def seen() -> dict[str, Any]:
        found: dict[str, Any] = scene.daemon.ask("subscriber show", id="isp").json["zones"][ZONE]
        return found

    assert seen()["serial"] is None, "it was sent; that it holds it, it has not said"
    assert seen()["secondaries"][0]["sent"] == 1
    scene.publish("b.example")
    secondary.refresh()
    assert seen()["serial"] == 1
    assert seen()["lag"] > 0
    assert seen()["secondaries"][0]["sent"] == 2
    secondary.refresh()
    assert (seen()["serial"], seen()["lag"]) == (2, 0.0)


@pytest.mark.parametrize("tcp", [True, False])
def test_a_poll_that_no_transfer_follows_shows_a_healthy_secondary(scene: Scene, tcp: bool) -> None:
    """One that is told, polls, and transfers says its serial at the next change only."""
    made = scene.subscriber("isp")
    secondary = Secondary(scene.port, scene.key(made))
    poll = dns.message.make_query(ORIGIN, "SOA")
    poll.use_tsig(secondary.key)
    scene.ask(poll, tcp=tcp)
    secondary.refresh("AXFR")
    assert scene.held("isp") is None
    scene.ask(poll, tcp=tcp)
    scene.daemon.wait_for(lambda: scene.held("isp") == 1)
    found = scene.daemon.ask("subscriber show", id="isp").json["zones"][ZONE]
    (one,) = found["secondaries"]
    assert (found["lag"], one["serial"], one["sent"], one["lag"]) == (0.0, 1, 1, 0.0)
    assert f'blocklistd_zone_secondary_lag_seconds{{zone="{ZONE}"}} 0.0' in scene.daemon.ops("/metrics").body.decode()


def test_a_mapped_address_is_shown_plain(tmp_path: Path) -> None:
    """`[::]` takes IPv4 as well, whose addresses the kernel then writes in IPv6's notation."""
    scene = Scene(tmp_path)
    scene.daemon.config["dns"]["listen"] = [f"[::]:{scene.port}"]
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        secondary = scene.secondary("isp", address=["::ffff:127.0.0.1"])
        secondary.refresh("AXFR")
        scene.ask(dns.message.make_query(ORIGIN, "SOA"))
        shown = scene.daemon.ask("subscriber show", id="isp").json
        assert [one["address"] for one in shown["zones"][ZONE]["secondaries"]] == ["127.0.0.1"]
        assert shown["unsigned"] == ["127.0.0.1"]
        for tcp in (True, False):
            scene.ask(dns.message.make_query("nowhere.example", "SOA"), tcp=tcp)
        scene.daemon.wait_for(lambda: "127.0.0.1 was refused" in scene.daemon.log)
        assert "::ffff:" not in scene.daemon.log


@pytest.mark.parametrize("wire", [b"", b"x", b"\0" * 11, b"\xff" * 12, b"\0\1\x80" + b"\0" * 9])
def test_a_malformed_question_is_refused_or_not_answered(scene: Scene, wire: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.sendto(wire, ("127.0.0.1", scene.port))
    key = scene.key(scene.subscriber("isp"))
    query = dns.message.make_query(ORIGIN, "SOA")
    query.use_tsig(key)
    assert scene.ask(query).rcode() == 0
    assert "Traceback" not in scene.daemon.log


@pytest.mark.parametrize("damage", ["gone", "another octet"])
def test_a_damaged_zone_is_made_again(scene: Scene, damage: str) -> None:
    """Whatever of its files is damaged, the daemon starts, and what is sent is what the list says."""
    scene.publish("a.example", "b.example")
    secondary = scene.secondary("isp")
    assert secondary.refresh("AXFR") == 2
    for column in ("wire", "rules", "names"):
        scene.daemon.stop()
        with sqlite3.connect(scene.folder / "state" / "blocklistd.sqlite") as database:
            rows = database.execute(f"SELECT {column} FROM zone_serials ORDER BY serial DESC LIMIT 1").fetchall()
        file = scene.folder / "state" / "sealed" / rows[0][0][:2] / rows[0][0]
        if damage == "gone":
            file.unlink()
        else:
            whole = file.read_bytes()
            file.write_bytes(whole.replace(b"b", b"c", 1))
        scene.daemon.start()
        scene.daemon.wait_for(lambda: scene.daemon.ops("/readyz").status == 200)
        fresh = Secondary(scene.port, secondary.key)
        assert fresh.refresh("AXFR") == 2, f"the rules are what they were: {column}"
        assert fresh.zone == secondary.zone
    scene.publish("a.example", "c.example")
    assert secondary.refresh() == 3
    assert secondary.rules == {"a.example", "*.a.example", "c.example", "*.c.example"}


def test_the_full_zone_is_sent_if_a_delta_was_pruned_meanwhile(scene: Scene) -> None:
    secondary = scene.secondary("isp")
    assert secondary.refresh("AXFR") == 1
    scene.publish("a.example", "b.example")
    scene.publish("a.example", "b.example", "c.example")
    with sqlite3.connect(scene.folder / "state" / "blocklistd.sqlite") as database:  # as versions.zones.prune_zone
        database.execute("UPDATE zone_serials SET delta = NULL WHERE serial <= 2")
    assert secondary.refresh() == 3
    assert secondary.rules == {name for d in "abc" for name in (f"{d}.example", f"*.{d}.example")}


def test_a_name_that_is_long_for_a_key(scene: Scene) -> None:
    secondary = scene.secondary("i" * 54)
    assert secondary.refresh("AXFR") == 1


def test_a_request_from_an_unknown_serial_gets_the_full_zone(scene: Scene) -> None:
    """`serial_start` leaves serials out; a secondary that followed another primary may have one of them."""
    secondary = scene.secondary("isp")
    assert secondary.refresh("AXFR") == 1
    scene.daemon.config["zones"][ZONE]["serial_start"] = 100
    scene.daemon.write_config()
    reload(scene.daemon)
    scene.publish("a.example", "b.example")
    with secondary.zone.writer() as held:
        foreign = held.get(ORIGIN, "SOA")[0].replace(serial=50)
        held.delete("a.example." + ZONE + ".")
        held.delete("*.a.example." + ZONE + ".")
        held.replace(ORIGIN, dns.rdataset.from_rdata(60, foreign))
    assert secondary.rules == set()
    assert secondary.refresh() == 100
    assert secondary.rules == {"a.example", "*.a.example", "b.example", "*.b.example"}
