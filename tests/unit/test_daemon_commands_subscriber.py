"""The texts of `subscriber add` (token, key, configurations) and `subscriber show` (secondaries)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from blocklistd.config import Address, ZoneSettings
from blocklistd.daemon.commands.subscriber import COMMANDS
from blocklistd.daemon.profiles import PROGRAMS, PublisherAddresses, configurations
from blocklistd.daemon.profiles.versions import LISTS_ONLY, VERSIONS, software
from blocklistd.errors import RefusedError
from blocklistd.model import ListId

ADD = next(command for command in COMMANDS if command.name == "subscriber add")
SHOW = next(command for command in COMMANDS if command.name == "subscriber show")
SET = next(command for command in COMMANDS if command.name == "subscriber set")
TOKEN, SECRET = "the-token", "c2VjcmV0"
TSIG = {"name": "isp-1", "algorithm": "hmac-sha256", "secret": SECRET}
ZONES = [ZoneSettings(name="rpz.example", list=ListId("national"))]
PUBLISHER = PublisherAddresses("https://feed.example", Address("198.51.100.1", 53))


def added(capsys: pytest.CaptureFixture[str], *, private: bool = False, **given: Any) -> str:
    """The text of `subscriber add` with these options."""
    values: dict[str, Any] = {"lists": (), "zones": (), "address": (), "software": None, **given}
    chosen = software(values["software"]) if values["software"] else None
    tsig, zones = None if values["address"] else TSIG, ZONES if values["zones"] else []
    pasted = configurations(PUBLISHER, zones, tsig, lists=values["lists"], chosen=chosen)
    done = {"id": "isp", "token": TOKEN, "tsig": TSIG, "config": pasted}
    ADD.show({**done, "url": "https://feed.example", "private_ca": private}, values)
    return capsys.readouterr().out


def of_whom(text: str) -> set[str]:
    """The programs whose configuration is in a text, recognised by a word that only it contains."""
    marks = {"bind": "response-policy {", "unbound": "rpz:", "powerdns": "rpzPrimary(", "knot": "mod-queryacl:"}
    marks["nsd"] = "zonefiles-write:"
    marks["knot-resolver"] = "policy.rpz"
    assert marks.keys() == VERSIONS.keys()
    return {name for name, mark in marks.items() if mark in text}


def test_a_subscriber_with_zones_only_gets_no_token(capsys: pytest.CaptureFixture[str]) -> None:
    text = added(capsys, zones=("rpz.example",))
    assert TOKEN not in text
    assert "token" not in text
    assert f"hmac-sha256:isp-1:{SECRET}\n" in text
    assert of_whom(text) == {"bind"}


def test_a_subscriber_with_an_address_gets_no_tsig_key(capsys: pytest.CaptureFixture[str]) -> None:
    text = added(capsys, zones=("rpz.example",), address=("192.0.2.54",))
    assert SECRET not in text
    assert TOKEN not in text
    assert "nobody else can use 192.0.2.54.\n" in text
    assert of_whom(text) == {"unbound"}
    for name in PROGRAMS:
        text = added(capsys, zones=("rpz.example",), address=("192.0.2.54",), software=name)
        assert (SECRET in text, of_whom(text)) == (False, {name})


def test_a_subscriber_with_lists_only_gets_no_tsig_key(capsys: pytest.CaptureFixture[str]) -> None:
    text = added(capsys, lists=("national",))
    assert text.startswith(f"{TOKEN}\n")
    assert SECRET not in text
    assert of_whom(text) == set()


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - {"unbound"}))
def test_software_selects_the_configuration(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = added(capsys, zones=("rpz.example",), software=name)
    assert of_whom(text) == {name}
    assert "No test has run" not in text
    later = added(capsys, zones=("rpz.example",), software=f"{name}:99.1")
    assert f"No test has run {name} 99.1: this is the configuration for " in later


def test_knot_resolver_is_configured_for_lists(capsys: pytest.CaptureFixture[str]) -> None:
    text = added(capsys, lists=("national",), software="knot-resolver")
    assert text.startswith(f"{TOKEN}\n")
    assert of_whom(text) == {"knot-resolver"}


@pytest.mark.parametrize("private", [True, False])
def test_commands_are_printed_for_each_list(capsys: pytest.CaptureFixture[str], private: bool) -> None:
    text = added(capsys, lists=("national", "hashes"), zones=("rpz.example",), private=private)
    for name in ("national", "hashes"):
        curl = re.search(rf"^  printf .* \|\n    (curl .*) https://feed.example/v1/lists/{name}$", text, re.M)
        sync = re.search(rf"^  blocklistd sync https://feed.example {name} \\\n    (.*)$", text, re.M)
        assert curl is not None
        assert sync is not None
        assert curl[1] == ("curl -sS --cacert ca.pem -H @-" if private else "curl -sS -H @-")
        assert ("--ca ca.pem" in sync[1]) == private
    assert ("as ca.pem" in re.sub(r"\s+", " ", text)) == private
    assert "\ncertificate authority as ca.pem, run:\n" in text or not private
    assert SECRET in text


def test_a_contradictory_software_is_refused_before_registration() -> None:
    zones: dict[str, Any] = {"zones": ("rpz.example",), "address": ()}
    assert ADD.check({**zones, "software": None}) is None
    assert ADD.check({**zones, "software": "knot:3.2"}) is None
    unsigned, unzoned = ADD.check({**zones, "software": "unbound"}), ADD.check({"zones": (), "software": "bind"})
    unlisted = ADD.check({**zones, "lists": (), "software": LISTS_ONLY})
    assert unlisted is not None
    assert unlisted.text == "--software knot-resolver reads lists only: add --list LIST"
    assert unsigned is not None
    assert (unsigned.code, unsigned.text) == (2, "Unbound can't use TSIG: add its address with --address")
    assert unzoned is not None
    assert unzoned.code == 2
    assert ADD.check({**zones, "address": ("192.0.2.1",), "software": "unbound:1.17"}) is None


def test_an_unknown_software_is_refused() -> None:
    for command in COMMANDS:
        for argument in command.arguments:
            if argument.name == "software":
                assert argument.read("bind:9.18") == "bind:9.18"
                for wrong in ("dnsmasq", "bind:9.11", 7):
                    with pytest.raises(RefusedError):
                        argument.read(wrong)


def test_a_change_is_shown_with_the_command_for_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    done: dict[str, Any] = {"id": "isp", "lists": [], "zones": ["rpz.example"], "unsigned": [], "software": None}
    done |= {"nodes": [], "added": {"zone": ["rpz.example"]}, "removed": {"notify": ["192.0.2.1:53"]}}
    shown = configurations(PUBLISHER, ZONES, TSIG | {"secret": "SECRET"}, chosen=software("bind:9.20"))
    SET.show({**done, "config": shown}, {"software": None, "objective": None})
    text = capsys.readouterr().out
    assert text.startswith("isp: added zone rpz.example\nisp: removed notify 192.0.2.1:53\n")
    assert "  blocklistd subscriber show isp --software bind\n" in text
    SET.show({**done, "added": {}, "removed": {}, "config": shown}, {"software": None, "objective": "6h"})
    assert capsys.readouterr().out == "isp: its objective is 6h\n"
    SET.show({**done, "added": {}, "removed": {}, "config": shown}, {"software": "bind:9.20", "objective": None})
    text = capsys.readouterr().out
    assert "ede censored" in text
    assert "Instead of SECRET: the secret of the key" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_subscriber_shows_its_catalog(capsys: pytest.CaptureFixture[str]) -> None:
    one = {"id": "isp", "lists": {}, "zones": {}, "catalog": {"name": "catalog.example", "serial": 9}}
    SHOW.show(one, {"software": None})
    assert re.search(r"^ *catalog\s+catalog.example at 9\s*$", capsys.readouterr().out, re.M)


def test_a_secondary_shows_the_sent_serial_beside_the_held_one(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(**secondary: Any) -> str:
        one = {"address": "192.0.2.1", "seen": "2026-11-20T12:00:00Z", **secondary}
        zone = {"serial": one["serial"], "lag": one["lag"], "secondaries": [one]}
        SHOW.show({"id": "isp", "lists": {}, "zones": {"rpz.example": zone}}, {})
        return capsys.readouterr().out.splitlines()[-1]

    assert "192.0.2.1 at 7, seen" in shown(serial=7, sent=7, lag=0.0)
    assert "192.0.2.1 at 6, sent 7, 90 s behind, seen" in shown(serial=6, sent=7, lag=90.0)
    assert "192.0.2.1 at ?, sent 7, seen" in shown(serial=None, sent=7, lag=None)
