"""`subscriber rotate`, from outside: old tokens and keys in their grace period, NOTIFY meanwhile, and what is shown."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.tsig
import pytest

from tests.system.test_zones import ORIGIN, ZONE, Scene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.daemon.wait_for(lambda: made.daemon.ask("status").json["zones"].get(ZONE) is not None)
        yield made


def rotate(scene: Scene, **more: Any) -> dict[str, Any]:
    answer = scene.daemon.ask("subscriber rotate", id="isp", **more)
    assert answer.status == 200, answer.body
    made: dict[str, Any] = answer.json
    return made


def soa(scene: Scene, key: dns.tsig.Key) -> dns.rcode.Rcode:
    query = dns.message.make_query(ORIGIN, "SOA")
    query.use_tsig(key)
    try:
        return scene.ask(query).rcode()
    except dns.tsig.PeerBadKey:
        return dns.rcode.NOTAUTH


def shown(scene: Scene) -> dict[str, Any]:
    found: dict[str, Any] = scene.daemon.ask("subscriber show", id="isp").json
    return found


def test_old_and_new_credentials_are_valid_until_the_grace_period_ends(scene: Scene) -> None:
    first = scene.subscriber("isp", lists=["national"])
    second = rotate(scene)
    assert second["token"] != first["token"]
    assert second["tsig"]["name"] != first["tsig"]["name"]
    assert second["tsig"]["name"] in second["config"]["bind"]
    old, new = scene.key(first), scene.key(second)
    for key in (old, new):
        assert soa(scene, key) == dns.rcode.NOERROR
    for made in (first, second):
        assert scene.daemon.get("/v1/lists/national", made["token"]).status == 200
    third = rotate(scene, grace="12h")
    newest = scene.key(third)
    assert [soa(scene, key) for key in (old, new, newest)] == [dns.rcode.NOERROR] * 3
    ends = {key["name"]: key["until"] for key in shown(scene)["old_keys"]}
    assert ends == {first["tsig"]["name"]: third["until"], second["tsig"]["name"]: third["until"]}, "the earlier end"
    assert len(shown(scene)["old_tokens"]) == 2
    rotate(scene, grace="0s")
    assert [soa(scene, key) for key in (old, new, newest)] == [dns.rcode.NOTAUTH] * 3
    for made in (first, second, third):
        assert scene.daemon.get("/v1/lists/national", made["token"]).status == 401
    assert (shown(scene)["old_keys"], shown(scene)["old_tokens"]) == ([], [])


def test_old_credentials_end_by_themselves(scene: Scene) -> None:
    first = scene.subscriber("isp", lists=["national"])
    rotate(scene, grace="2s")
    assert soa(scene, scene.key(first)) == dns.rcode.NOERROR
    scene.daemon.wait_for(lambda: soa(scene, scene.key(first)) == dns.rcode.NOTAUTH)
    assert scene.daemon.get("/v1/lists/national", first["token"]).status == 401


def test_it_is_shown_whether_the_old_key_is_used_also_after_a_restart(scene: Scene) -> None:
    first = scene.subscriber("isp", lists=["national"])
    rotate(scene)
    (key,) = shown(scene)["old_keys"]
    assert (key["used"], key["secondaries"]) == (None, [])
    assert soa(scene, scene.key(first)) == dns.rcode.NOERROR
    scene.daemon.get("/v1/lists/national", first["token"])
    (key,), (token,) = shown(scene)["old_keys"], shown(scene)["old_tokens"]
    assert key["secondaries"] == ["127.0.0.1"]
    assert key["used"] is not None
    assert token["used"] is not None
    text = scene.daemon.cli("subscriber", "show", "isp", "-c", str(scene.daemon.path)).stdout.decode()
    assert re.search(rf"^old key\t{key['name']}, valid until .*Z, last used .*Z by 127.0.0.1$", text, re.M)
    assert re.search(r"^old token\tvalid until .*Z, last used .*Z$", text, re.M)
    status = scene.daemon.cli("status", "-c", str(scene.daemon.path)).stdout.decode()
    assert f"isp: the old key {key['name']} is valid until" in status
    scene.daemon.stop()
    scene.daemon.start()
    (after,), (token,) = shown(scene)["old_keys"], shown(scene)["old_tokens"]
    assert after["used"] is not None
    assert token["used"] is not None
    assert soa(scene, scene.key(first)) == dns.rcode.NOERROR


def test_notify_is_signed_with_the_newest_key_that_the_secondary_has_used(scene: Scene) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as secondary:
        secondary.bind(("127.0.0.1", 0))
        secondary.settimeout(20)

        def signed_by(*domains: str) -> str:
            """Publishes; the name of the key that signed the NOTIFY, which is acknowledged."""
            scene.publish(*domains)
            serial = scene.daemon.ask("status").json["zones"][ZONE]["serial"]
            while True:
                wire, source = secondary.recvfrom(4096)
                message = dns.message.from_wire(wire, keyring=keys)
                secondary.sendto(dns.message.make_response(message).to_wire() or b"", source)
                if message.answer[0][0].serial == serial:
                    assert message.keyname is not None
                    return str(message.keyname.to_text(omit_final_dot=True))

        first = scene.subscriber("isp", notify=[f"127.0.0.1:{secondary.getsockname()[1]}"])
        keys = {scene.key(first).name: scene.key(first)}
        assert signed_by("b.example") == first["tsig"]["name"]
        assert soa(scene, scene.key(first)) == dns.rcode.NOERROR
        second = rotate(scene)
        keys[scene.key(second).name] = scene.key(second)
        assert signed_by("c.example") == first["tsig"]["name"], "it has not used the new one yet"
        assert soa(scene, scene.key(second)) == dns.rcode.NOERROR
        assert signed_by("d.example") == second["tsig"]["name"]
        assert soa(scene, scene.key(first)) == dns.rcode.NOERROR
        assert signed_by("e.example") == second["tsig"]["name"], "the newest that it has used"


def test_the_command_prints_what_to_paste_and_until_when_the_old_is_valid(scene: Scene) -> None:
    command = ("subscriber", "rotate", "isp", "-c", str(scene.daemon.path))
    unknown = scene.daemon.cli(*command, check=False)
    assert (unknown.returncode, b"there is no such subscriber" in unknown.stderr) == (1, True)
    first = scene.subscriber("isp", software="knot")
    text = scene.daemon.cli(*command, "--grace", "1d").stdout.decode()
    assert "mod-queryacl:" in text, "of the registered software"
    assert first["tsig"]["secret"] not in text
    assert re.search(r"^The old token and TSIG key of isp are valid until \S+Z\.$", text, re.M)
    text = scene.daemon.cli(*command, "--grace", "0s").stdout.decode()
    assert text.endswith("\nThe old token and TSIG key of isp are invalid from now on.\n")
    wrong = scene.daemon.cli(*command, "--grace", "91d", check=False)
    assert wrong.returncode == 2
    assert b"at most 90d" in wrong.stderr
    scene.daemon.ask("subscriber revoke", id="isp")
    assert scene.daemon.cli(*command, check=False).returncode == 1
    lines = [line["action"] for line in scene.daemon.ask("audit").json if line["object"] == "isp"]
    assert lines == ["subscriber add", "subscriber rotate", "subscriber rotate", "subscriber revoke"]
