"""`subscriber set`, from outside: what a subscriber has changes at once, or nothing changes."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.system.daemon import Answer
from tests.system.test_zones import ORIGIN, ZONE, Scene

SECOND = "second.blocklist.example"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("set"))
    made.daemon.config["zones"] |= {SECOND: {"list": "national"}, "md.example": {"list": "national", "zonemd": True}}
    made.daemon.write_config()
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.daemon.wait_for(lambda: made.daemon.ask("status").json["zones"].keys() >= {ZONE, SECOND})
        yield made


def change(scene: Scene, name: str, **options: Any) -> Answer:
    return scene.daemon.ask("subscriber set", id=name, **options)


def changed(scene: Scene, name: str, **options: Any) -> Any:
    answer = change(scene, name, **options)
    assert answer.status == 200, answer.body
    return answer.json


def soa(scene: Scene, made: dict[str, Any], zone: str, **source: Any) -> dns.rcode.Rcode:
    query = dns.message.make_query(zone, "SOA")
    if not source:
        query.use_tsig(scene.key(made))
    return dns.query.udp(query, "127.0.0.1", port=scene.port, timeout=10, **source).rcode()


def test_zones_and_lists_are_granted_and_withdrawn_at_once(scene: Scene) -> None:
    made = scene.subscriber("isp-1", notify=["127.0.0.1:5300"])
    assert soa(scene, made, SECOND) == dns.rcode.REFUSED
    assert scene.daemon.get("/v1/lists/national", made["token"]).status == 404
    done = changed(scene, "isp-1", add_zone=[f"{SECOND.upper()}."], add_list=["national"])
    assert (done["added"], done["removed"]) == ({"list": ["national"], "zone": [SECOND]}, {})
    assert soa(scene, made, SECOND) == soa(scene, made, ZONE) == dns.rcode.NOERROR
    assert scene.daemon.get("/v1/lists/national", made["token"]).status == 200
    assert SECOND in done["config"]["bind"]
    assert 'secret "SECRET"' in done["config"]["bind"]
    assert made["tsig"]["secret"] not in str(done), "it was shown once"
    done = changed(
        scene,
        "isp-1",
        remove_zone=[ZONE],
        remove_notify=["127.0.0.1:5300"],
        add_notify=["[::1]:53"],
        software="knot:3.4",
    )
    assert done["removed"] == {"zone": [ZONE], "notify": ["127.0.0.1:5300"]}
    assert (done["zones"], done["software"]) == ([SECOND], "knot:3.4")
    assert soa(scene, made, ZONE) == dns.rcode.REFUSED
    shown = scene.daemon.ask("subscriber show", id="isp-1", software="bind:9.20").json
    assert (shown["notify"], shown["software"]) == (["[::1]:53"], "knot:3.4")
    assert "ede censored" in shown["config"]["bind"]
    scene.daemon.kill()
    scene.daemon.start()
    assert (soa(scene, made, ZONE), soa(scene, made, SECOND)) == (dns.rcode.REFUSED, dns.rcode.NOERROR)
    first, second = [line for line in scene.daemon.ask("audit").json if line["action"] == "subscriber set"]
    assert first["detail"] == {"added": {"list": ["national"], "zone": [SECOND]}}
    assert second["detail"] == {
        **{"added": {"notify": ["[::1]:53"]}, "software": "knot:3.4"},
        "removed": {"zone": [ZONE], "notify": ["127.0.0.1:5300"]},
    }


def test_an_address_is_granted_and_withdrawn(scene: Scene) -> None:
    made = scene.subscriber("isp-2")
    here = {"source": "127.0.0.7"}
    assert soa(scene, made, ZONE, **here) == dns.rcode.REFUSED
    assert b"--wide" in change(scene, "isp-2", add_address=["127.0.0.0/8"]).body
    done = changed(scene, "isp-2", add_address=["::ffff:127.0.0.7"])
    assert done["unsigned"] == ["127.0.0.7"]
    assert soa(scene, made, ZONE, **here) == dns.rcode.NOERROR
    assert b"can't use TSIG" in change(scene, "isp-2", software="unbound", remove_address=["127.0.0.7"]).body
    changed(scene, "isp-2", software="unbound")
    assert b"can't use TSIG" in change(scene, "isp-2", remove_address=["127.0.0.7"]).body
    changed(scene, "isp-2", software="bind", remove_address=["127.0.0.7"])
    assert soa(scene, made, ZONE, **here) == dns.rcode.REFUSED
    assert soa(scene, made, ZONE) == dns.rcode.NOERROR, "its key is valid"


def test_what_can_not_be_is_refused_and_changes_nothing(scene: Scene) -> None:
    cert, other = f"sha256:{'ab' * 32}", f"sha256:{'cd' * 32}"
    scene.subscriber("isp-3", notify=["127.0.0.1:5300"], cert=[other])
    scene.subscriber("isp-4", software="powerdns")
    before = scene.daemon.ask("subscriber show", id="isp-3").json
    for options, said in (
        ({}, "has all that already"),
        ({"add_zone": [ZONE]}, "has all that already"),
        ({"add_zone": ["other.example"]}, "there is no such zone"),
        ({"add_list": ["other"]}, "there is no such list"),
        ({"remove_zone": [SECOND]}, "does not have it; it has: rpz.blocklist.example"),
        ({"remove_list": ["national"]}, "does not have it; it has: none"),
        ({"remove_zone": [ZONE]}, "to end its access, run `blocklistd subscriber revoke isp-3`"),
        ({"remove_zone": [ZONE], "add_list": ["national"]}, "--remove-notify"),
        ({"add_zone": [SECOND], "remove_zone": [SECOND]}, "added and removed at once"),
        ({"add_zone": [SECOND], "add_notify": ["ns.example:53"]}, "expected ADDRESS:PORT"),
        ({"add_zone": [SECOND], "add_cert": ["ab"]}, "64 hex digits"),
        ({"add_zone": ["md.example"], "software": "powerdns:5.4.1"}, "the ZONEMD record of zone md.example"),
        ({"software": "bind:9.16"}, "expected version 9.18 or later"),
        ({"software": "knot-resolver"}, "it reads lists only"),
    ):
        answer = change(scene, "isp-3", **options)
        assert (answer.status >= 400, said in answer.body.decode()) == (True, True), (options, answer.body)
    assert b"registered for isp-3 already" in change(scene, "isp-4", add_cert=[other]).body
    assert b"the ZONEMD record" in change(scene, "isp-4", add_zone=["md.example"]).body
    assert b"no such subscriber" in change(scene, "isp-9", add_zone=[ZONE]).body
    after = scene.daemon.ask("subscriber show", id="isp-3").json
    assert {key: after[key] for key in ("lists", "zones", "notify", "certs", "software")} == {
        key: before[key] for key in ("lists", "zones", "notify", "certs", "software")
    }
    done = changed(
        scene, "isp-3", add_zone=["md.example"], remove_cert=[other], add_cert=[cert.upper().replace("SHA", "sha")]
    )
    assert done["added"] == {"zone": ["md.example"], "cert": ["ab" * 32]}
    scene.daemon.ask("subscriber revoke", id="isp-3")
    assert b"it is revoked" in change(scene, "isp-3", add_zone=[SECOND]).body


def test_the_connections_of_a_withdrawn_zone_end(scene: Scene) -> None:
    made = scene.subscriber("isp-5")
    changed(scene, "isp-5", add_zone=[SECOND])
    query = dns.message.make_query(ORIGIN, "SOA")
    query.use_tsig(scene.key(made))
    wire = query.to_wire()
    with socket.create_connection(("127.0.0.1", scene.port), timeout=10) as stream:
        for options, ends in (({"add_list": ["national"]}, False), ({"remove_zone": [SECOND]}, True)):
            stream.sendall(struct.pack("!H", len(wire)) + wire)
            assert stream.recv(65536), "it is the subscriber's connection now"
            changed(scene, "isp-5", **options)
            if ends:
                with contextlib.suppress(ConnectionResetError):
                    assert stream.recv(65536) == b""


def test_the_command_prints_what_it_changed(scene: Scene) -> None:
    scene.subscriber("isp-6", software="bind")
    where = ("-c", str(scene.daemon.path))
    done = scene.daemon.cli("subscriber", "set", "isp-6", "--add-zone", SECOND, "--software", "bind:9.19", *where)
    text = done.stdout.decode()
    assert text.startswith(f"isp-6: added zone {SECOND}\nisp-6: its software is bind:9.19\n")
    assert "// No test has run bind 9.19: this is the configuration for 9.18." in text
    assert f'zone "{SECOND}";' in text
    refused = scene.daemon.cli("subscriber", "set", "isp-6", "--remove-list", "national", *where, check=False)
    assert (refused.returncode, b"does not have it" in refused.stderr) == (1, True)
